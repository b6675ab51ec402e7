"""Writes a dataset of synthetic videos: JPEG frames and the standard annotation JSON, in parallel.

:func:`write_preview` shows any annotated video dataset as a contact sheet: frames, and below each the same frame with
its masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stemseg.data.synthetic.rendering import render_frame
from stemseg.data.synthetic.scenes import SHAPES, Scene, SceneOptions, compose_scene
from stemseg.structures.annotations import VideoSequence, load_video_annotations, save_video_annotations
from stemseg.structures.rle import decode_rle, encode_rle
from stemseg.utils.drawing import draw_instances, tile, write_image
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.parallel import map_in_processes

SPLITS = ("train", "val")
_JPEG_QUALITY = 92


def generate_dataset(
    output: str | Path, num_videos: Sequence[int], options: SceneOptions, *, seed: int = 0, workers: int = 1
) -> None:
    """Write ``output``/{train,val}.json and the frames ``output``/{train,val}/<video>/00000.jpg.

    The result depends on ``options`` and ``seed`` only, not on ``workers``; a video does not depend on how many there
    are. The two splits share no texture, background or motion. Files of the same name are replaced.

    Args:
        num_videos: of the train and of the val split; 0 leaves a split out.

    Raises:
        ConfigError: for options that no video can be made of.
    """
    check_options(options)
    output = Path(output)
    for split, count in zip(SPLITS, num_videos, strict=True):
        if count:
            make = partial(write_video, output / split, split, options, seed)
            made = map_in_processes(make, range(count), workers=min(workers, count), max_ahead=count)
            sequences = list(tqdm(made, total=count, desc=f"{split} videos", unit="video"))
            save_video_annotations(output / f"{split}.json", sequences, category_labels(options.classes))


def check_options(options: SceneOptions) -> None:
    """Refuse options that no video can be made of.

    Raises:
        ConfigError: naming the option, what was found and what is possible.
    """
    unknown = [name for name in options.classes if name not in SHAPES]
    if unknown or not options.classes:
        raise ConfigError(f"classes: found {', '.join(unknown) or 'none'}, expected some of {', '.join(SHAPES)}")
    if options.hard and options.distinct_classes:
        raise ConfigError("hard turns the hue of look-alikes, which distinct_classes fixes: choose one of the two")
    low, high = options.hue_turn
    if not 0 < low <= high <= 180:
        raise ConfigError(f"hue_turn: found {low:g} to {high:g}, expected degrees above 0 and up to 180, rising")
    if not 0 <= options.light <= 1:
        raise ConfigError(f"light: found {options.light:g}, expected the log of a gain, 0 to 1")
    limits = {"height": (16, 4096), "width": (16, 4096), "length": (2, 99999), "max_objects": (1 + options.hard, 100)}
    for name, (low, high) in limits.items():
        value = getattr(options, name)
        if not low <= value <= high:
            raise ConfigError(f"{name}: found {value}, expected {low} to {high}")


def category_labels(classes: Sequence[str]) -> dict[int, str]:
    """Category names by id, ids from 1 in the order of ``classes``."""
    return dict(enumerate(classes, start=1))


def scene_of(split: str, index: int, options: SceneOptions, seed: int) -> Scene:
    """The scene of one video of a dataset: a pure function of its arguments."""
    return compose_scene(np.random.default_rng([seed, SPLITS.index(split), index]), options)


def write_video(folder: Path, split: str, options: SceneOptions, seed: int, index: int) -> VideoSequence:
    """Render one video and write its frames; the paths in the returned annotation are relative to ``folder``."""
    scene = scene_of(split, index, options, seed)
    name = f"{split}_{index:04d}"
    paths = [f"{name}/{t:05d}.jpg" for t in range(options.length)]
    segmentations = []
    for t, path in enumerate(paths):
        frame = render_frame(scene, t)
        write_image(folder / path, frame.image, jpeg_quality=_JPEG_QUALITY)
        segmentations.append({int(i): encode_rle(frame.ids == i) for i in np.unique(frame.ids) if i})
    seen = sorted(set().union(*segmentations))
    classes = {actor.instance_id: actor.category_id for actor in scene.actors}
    return VideoSequence(name, options.height, options.width, paths, {i: classes[i] for i in seen}, segmentations)


def write_preview(annotations: Path, images: Path, output: Path, *, num_videos: int = 6, num_frames: int = 8) -> None:
    """Write a contact sheet of the first videos of an annotation file, one video in every two rows.

    Raises:
        DataError: where a frame is missing, or a sequence has no annotations.
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
    if sequence.categories is None or sequence.segmentations is None:
        raise DataError(f"sequence '{sequence.id}' has no annotations to show; is this a test set's file?")
    path = images / sequence.image_paths[t]
    frame = cv2.imread(str(path))
    if frame is None:
        raise DataError(f"could not read the frame {path}")
    masks = {i: decode_rle(c, sequence.height, sequence.width) for i, c in sequence.segmentations[t].items()}
    captions = {i: f"{i} {labels[sequence.categories[i]]}" for i in masks}
    return frame, draw_instances(frame, masks, captions)
