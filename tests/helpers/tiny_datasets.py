"""Tiny datasets on disk: lossless images, random overlapping instances, standard JSON."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from stemseg.config import Config, load_config
from stemseg.structures.annotations import StillImage, VideoSequence, save_still_annotations, save_video_annotations
from stemseg.structures.rle import encode_rle

LABELS = {1: "circle", 2: "square", 3: "star"}


def random_masks(rng: np.random.Generator, count: int, height: int, width: int) -> list[np.ndarray]:
    """``count`` ragged boxes that overlap at will; each has at least one pixel."""
    masks = []
    for _ in range(count):
        mask = np.zeros((height, width), dtype=np.uint8)
        top, left = int(rng.integers(0, height - 2)), int(rng.integers(0, width - 2))
        box = mask[top : top + int(rng.integers(2, height)), left : left + int(rng.integers(2, width))]
        box[:] = rng.random(box.shape) < 0.8
        mask[top, left] = 1
        masks.append(mask)
    return masks


def write_image(path: Path, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Write noise as PNG; returns its pixels."""
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return image


def make_sequence(
    folder: Path, name: str, length: int, *, size: tuple[int, int] = (20, 32), instances: int = 3, seed: int = 0
) -> VideoSequence:
    """Write the frames of a sequence whose instances (ids 2, 4, 6, ...) come and go; each frame shows at least one."""
    rng = np.random.default_rng([seed, length])
    paths, segmentations = [], []
    for t in range(length):
        paths.append(f"{name}/{t:05d}.png")
        write_image(folder / paths[-1], rng, *size)
        shown = [i for i in range(instances) if i == t % instances or rng.random() < 0.7]
        masks = random_masks(rng, instances, *size)
        segmentations.append({2 * (i + 1): encode_rle(masks[i]) for i in shown})
    categories = {2 * (i + 1): 1 + i % len(LABELS) for i in range(instances)}
    return VideoSequence(name, *size, paths, categories, segmentations)


def make_videos(folder: Path, lengths: tuple[int, ...] = (6, 9), **options) -> list[VideoSequence]:
    """Write sequences, and their annotations as ``videos.json``."""
    sequences = [make_sequence(folder, f"seq{i}", length, seed=i, **options) for i, length in enumerate(lengths)]
    save_video_annotations(folder / "videos.json", sequences, LABELS)
    return sequences


def make_stills(folder: Path, count: int = 3, *, size: tuple[int, int] = (20, 32)) -> list[StillImage]:
    """Write stills with three instances and an ignore region each, and their annotations as ``stills.json``."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        write_image(folder / f"{i}.png", rng, *size)
        *masks, ignore = random_masks(rng, 4, *size)
        images.append(StillImage(*size, f"{i}.png", [1, 2, 3], [encode_rle(m) for m in masks], encode_rle(ignore)))
    save_still_annotations(folder / "stills.json", images, LABELS)
    return images


def custom_config(folder: Path, json_name: str, *overrides: str) -> Config:
    """A configuration that trains on a dataset written here, at its own resolution, with its own classes."""
    settings = [
        "DATA.MIX={custom: 1.0}",
        "TRAINING.MODE=custom",
        "INPUT.NUM_CLASSES=4",
        "MODEL.USE_SEMSEG_HEAD=true",
        "INPUT.NUM_FRAMES=4",
        "INPUT.MIN_DIM=20",
        "INPUT.MAX_DIM=32",
        "TRAINING.MAX_ITERATIONS=10",
        f"DATA.CUSTOM.TRAIN_JSON={folder / json_name}",
        f"DATA.CUSTOM.TRAIN_IMAGES={folder}",
        "DATA.CUSTOM.FRAME_GAP_LOWER=3",
        "DATA.CUSTOM.FRAME_GAP_UPPER=4",
    ]
    return load_config(None, [*settings, *overrides])
