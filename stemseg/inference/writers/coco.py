"""Results for annotation tools: ``coco/<sequence>.json``, COCO instances as polygons, one entry per object and frame.

CVAT and most other tools import such files, for instance to correct what was found: the images are named as CVAT
extracts a video's frames, or as the files of an image folder. Objects of one track share the attribute ``track_id``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stemseg.inference.result_folder import ResultWriter
from stemseg.structures.rle import decode_rle
from stemseg.structures.track_summary import label_of
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.files import file_name, write_text


class CocoWriter(ResultWriter):
    """Writes one file for each sequence.

    Args:
        output_dir: the files go into its ``coco``.
        category_names: name of each category id; empty for a class-agnostic model.
        image_name: name of the image file of a sequence's frame: (sequence id, frame name) -> name.
    """

    def __init__(
        self, output_dir: Path, category_names: Mapping[int, str], image_name: Callable[[str | int, str], str]
    ) -> None:
        self._folder = output_dir / "coco"
        self._names = category_names
        self._image_name = image_name

    def write_sequence(self, tracks: VideoTracks) -> None:
        """Write a sequence's file."""
        images = [
            {
                "id": frame + 1,
                "file_name": self._image_name(tracks.sequence_id, name),
                "width": tracks.width,
                "height": tracks.height,
            }
            for frame, name in enumerate(tracks.frame_names)
        ]
        annotations = [{"id": i, **entry} for i, entry in enumerate(_annotations(tracks), start=1)]
        content = {"images": images, "annotations": annotations, "categories": self._categories(tracks)}
        write_text(self._folder / f"{file_name(tracks.sequence_id)}.json", json.dumps(content))

    def _categories(self, tracks: VideoTracks) -> list[dict[str, Any]]:
        ids = sorted({*self._names, *(track.category_id for track in tracks.tracks)} or {1})
        return [{"id": i, "name": label_of(i, self._names), "supercategory": ""} for i in ids]


def _annotations(tracks: VideoTracks) -> Iterator[dict[str, Any]]:
    for frame in range(tracks.num_frames):
        for track in tracks.tracks:
            counts = track.segmentations[frame]
            if counts is not None:
                yield _annotation(track, frame, decode_rle(counts, tracks.height, tracks.width))


def _annotation(track: Track, frame: int, mask: np.ndarray) -> dict[str, Any]:
    return {
        "image_id": frame + 1,
        "category_id": track.category_id,
        "segmentation": mask_polygons(mask),
        "area": int(mask.sum()),
        "bbox": [int(value) for value in cv2.boundingRect(np.ascontiguousarray(mask))],
        "iscrowd": 0,
        "score": track.score,
        "attributes": {"track_id": track.track_id},
    }


def mask_polygons(mask: np.ndarray) -> list[list[float]]:
    """Polygons [x, y, x, y, ...] along the edges of a mask's pixels, one for each of its parts; [H, W] uint8.

    A hole becomes part of the outline around it, joined by a line there and back, since COCO has no holes.
    """
    fine = np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)
    # in the doubled mask an even position is a pixel's first edge and an odd one the pixel's last: halved and rounded
    # up, positions are those of the edges
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [(contour[:, 0] + 1) // 2 for contour in contours]
    polygons = []
    for i, outline in enumerate(outlines):
        if hierarchy[0, i, 3] < 0:  # an outer one
            holes = [outlines[j] for j in range(len(outlines)) if hierarchy[0, j, 3] == i]
            polygons.append(_join(outline, holes).astype(float).ravel().tolist())
    return polygons


def _join(outline: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One closed line of an outline and the holes in it, [n, 2]."""
    for hole in holes:
        gaps = np.abs(outline[:, None] - hole[None]).sum(axis=-1)
        a, b = np.unravel_index(int(gaps.argmin()), gaps.shape)
        around = np.roll(hole, -b, axis=0)
        outline = np.concatenate([outline[: a + 1], around, around[:1], outline[a:]])
    return outline
