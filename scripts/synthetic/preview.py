"""A contact sheet of an annotated video dataset: frames and, below each, the same frame with its masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stemseg.structures.annotations import VideoSequence, load_video_annotations
from stemseg.structures.rle import decode_rle
from stemseg.utils.drawing import draw_instances, tile, write_image
from stemseg.utils.errors import DataError


def write_preview(annotations: Path, images: Path, output: Path, *, num_videos: int = 6, num_frames: int = 8) -> None:
    """Write a contact sheet of the first videos of an annotation file, one video in every two rows.

    Raises:
        DataError: where a frame is missing.
    """
    loaded = load_video_annotations(annotations)
    rows = []
    for sequence in loaded.sequences[:num_videos]:
        frames = np.rint(np.linspace(0, len(sequence) - 1, num_frames)).astype(int)
        pairs = [_frame_and_overlay(sequence, t, images, loaded.category_labels) for t in frames]
        rows += [frame for frame, _ in pairs] + [overlay for _, overlay in pairs]
    write_image(output, tile(rows, num_frames))


def _frame_and_overlay(
    sequence: VideoSequence, t: int, images: Path, labels: dict[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    path = images / sequence.image_paths[t]
    frame = cv2.imread(str(path))
    if frame is None:
        raise DataError(f"could not read the frame {path}")
    masks = {i: decode_rle(c, sequence.height, sequence.width) for i, c in sequence.segmentations[t].items()}
    captions = {i: f"{i} {labels[sequence.categories[i]]}" for i in masks}
    return frame, draw_instances(frame, masks, captions)
