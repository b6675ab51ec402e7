"""Loading of training samples up to the batch that leaves a worker, without a network, and the steps of one.

Images and masks are generated: JPEGs with texture, instances with ragged outlines.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from scripts.benchmarks.timing import best_seconds
from stemseg.data.annotated_frame import AnnotatedClip
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter, warp_frame
from stemseg.data.categories import CategoryRule
from stemseg.data.frame_sampling import FrameGap, frames_with_instances
from stemseg.data.preprocessing import ImagePreprocessor, PackedBatch, collate_clips, pad_to_multiple, prepare_clip
from stemseg.data.sources import OpenedStills, OpenedVideos
from stemseg.data.still_clips import StillClips
from stemseg.data.video_clips import VideoChanges, VideoClips
from stemseg.evaluation.report import MetricTable
from stemseg.structures.annotations import StillAnnotations, StillImage, VideoAnnotations, VideoSequence
from stemseg.structures.rle import encode_rle
from tests import reference

NUM_FRAMES = 8
MEAN = np.array([102.9801, 115.9465, 122.7717], dtype=np.float32)
_RULE = CategoryRule(targets={1: 1}, known=frozenset({1}))

Ways = dict[str, Callable[[], object]]  # to do one thing: "ours", and "naive" where there is a yardstick


def benchmark_loading(*, repeats: int, min_dim: int = 736, max_dim: int = 1248) -> MetricTable:
    """Time a video sample with 1, 3 and 10 instances, a still sample with 7 and, indented, the steps of the still.

    Args:
        repeats: runs of which the fastest counts.
        min_dim, max_dim: shorter and longer side of the network's input, in pixels.
    """
    preprocessor = ImagePreprocessor(min_dim=min_dim, max_dim=max_dim, mean=MEAN, std=(1, 1, 1))
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        jobs = still_jobs(Path(folder), 7, preprocessor)
        for num_instances in (10, 3, 1):
            jobs = video_job(Path(folder), num_instances, preprocessor) | jobs
        rows = {name: _figures(ways, repeats) for name, ways in jobs.items()}
    return MetricTable(
        "loading", ("ours ms", "per second", "naive ms", "speed-up", "ours MB", "naive MB"), rows, decimals=1
    )


def _figures(ways: Ways, repeats: int) -> tuple[float, ...]:
    seconds = best_seconds(ways, repeats=repeats, device=torch.device("cpu"))
    ours, naive = 1000 * seconds["ours"], 1000 * seconds.get("naive", math.nan)
    megabytes = [_megabytes(ways[name]()) if "naive" in ways else math.nan for name in ("ours", "naive")]
    return (ours, 1000 / ours, naive, naive / ours, *megabytes)


def _collate(clip: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Frames, masks and an empty ignore mask of a clip, padded, as a batch of one."""
    frames, masks = (pad_to_multiple(part) for part in clip)
    return torch.stack([frames]), masks, torch.zeros_like(masks[:1])


def _megabytes(batch: object) -> float:
    """Of the tensors that leave a worker."""
    if isinstance(batch, PackedBatch):
        (clip,), targets = batch.clips, batch.clips[0].targets
        batch = (clip.frames, clip.valid, targets.layers, targets.values, targets.category_ids, targets.ignore_mask)
    return sum(part.nbytes for part in batch if part is not None) / 1e6


def video_job(folder: Path, num_instances: int, preprocessor: ImagePreprocessor) -> dict[str, Ways]:
    """8 frames of 480 x 854 to network size, read from files that are written here."""
    rng = np.random.default_rng(0)
    paths = [write_texture(folder, f"video{num_instances}_{t}.jpg", 480, 854, rng) for t in range(NUM_FRAMES)]
    masks = [draw_masks(num_instances, 480, 854, rng) for _ in range(NUM_FRAMES)]
    categories = {i + 1: 1 for i in range(num_instances)}
    sequence = VideoSequence("video", 480, 854, paths, categories, [dict(enumerate(m, start=1)) for m in masks])
    clips = VideoClips(
        name="video",
        videos=OpenedVideos(VideoAnnotations(folder, {1: "object"}, [sequence]), folder),
        rule=_RULE,
        num_frames=NUM_FRAMES,
        gap=FrameGap(1, NUM_FRAMES - 1),
        split=frames_with_instances,
        changes=VideoChanges(False, False, False, False),
    )
    frames, size = range(NUM_FRAMES), preprocessor.output_size(480, 854)
    name = f"video sample, 480 x 854 to {size[0]} x {size[1]}, 8 frames, {num_instances:2d} instances"
    ways: Ways = {
        "ours": lambda: collate_clips([prepare_clip(clips.load(0, frames), preprocessor)]),
        "naive": lambda: _collate(reference.load_video_clip(sequence, frames, folder, size, MEAN)),
    }
    return {name: ways}


def still_jobs(folder: Path, num_instances: int, preprocessor: ImagePreprocessor) -> dict[str, Ways]:
    """A 480 x 640 still to 8 frames of network size: the whole sample, then its steps."""
    rng = np.random.default_rng(0)
    path = write_texture(folder, "still.jpg", 480, 640, rng)
    image = StillImage(480, 640, path, [1] * num_instances, draw_masks(num_instances, 480, 640, rng))
    augmenter = FrameAugmenter(AugmentationRange(perspective=0.08, translation=0.1, rotation=12))
    stills = OpenedStills(StillAnnotations(folder, {1: "object"}, [image]), folder)
    clips = StillClips(name="still", stills=stills, rule=_RULE, num_frames=NUM_FRAMES, augmenter=augmenter)
    size = preprocessor.output_size(480, 640)
    name = f"still sample, 480 x 640 to {size[0]} x {size[1]}, 8 frames, {num_instances} instances"
    ways: Ways = {
        "ours": lambda: collate_clips([prepare_clip(clips.draw(0, np.random.default_rng(1)), preprocessor)]),
        "naive": lambda: _collate(
            reference.load_still_clip(image, folder, NUM_FRAMES, size, MEAN, augmenter, np.random.default_rng(1))
        ),
    }
    return {name: ways} | still_steps(clips, augmenter, preprocessor)


def still_steps(clips: StillClips, augmenter: FrameAugmenter, preprocessor: ImagePreprocessor) -> dict[str, Ways]:
    """The steps of a still sample, on a still that is loaded here."""
    rng = np.random.default_rng(1)
    frame, copies = clips.load(0), range(NUM_FRAMES - 1)
    height, width = frame.image.shape[:2]
    warped = [warp_frame(frame, augmenter.sample_homography(height, width, rng)) for _ in copies]
    clip = AnnotatedClip([frame, *warped], (1,) * len(frame.ids.places), "still")
    packed = collate_clips([prepare_clip(clip, preprocessor)])
    steps: Ways = {
        "read and decode": lambda: clips.load(0),
        "warp image, instances, validity": lambda: [
            warp_frame(frame, augmenter.sample_homography(height, width, rng)) for _ in copies
        ],
        "colors and blur": lambda: [augmenter.change_colors(frame.image, rng) for _ in copies],
        "stack, resize masks": lambda: prepare_clip(clip, preprocessor),
        "later, on the device (here the CPU): resize, normalize, pad": lambda: packed.to("cpu"),
    }
    return {f"    {name}": {"ours": step} for name, step in steps.items()}


def write_texture(folder: Path, name: str, height: int, width: int, rng: np.random.Generator) -> str:
    """Write a JPEG of smooth noise, about as detailed as a photograph; returns its name."""
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / name), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return name


def draw_masks(count: int, height: int, width: int, rng: np.random.Generator) -> list[str]:
    """RLE counts of ragged ellipses; the more there are, the smaller they get."""
    ragged = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 4) * 4
    rows, columns = np.indices((height, width), sparse=True)
    radius = 0.45 * height / np.sqrt(count)
    centers = rng.uniform((0.2 * height, 0.2 * width), (0.8 * height, 0.8 * width), size=(count, 2))
    distances = (np.hypot(rows - y, columns - x) / radius for y, x in centers)
    return [encode_rle(distance + 0.2 * ragged < 1) for distance in distances]
