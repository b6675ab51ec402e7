"""Measure how fast training samples are loaded, step by step and against the straightforward implementation.

    python scripts/benchmarks/loading.py

Images and masks are generated: JPEGs with texture, instances with ragged outlines. Times are processor time of one
thread, the best of several runs, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone runs without being installed

from scripts.benchmarks import naive_loading as straightforward
from stemseg.data.annotated_frame import AnnotatedClip
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter, warp_frame
from stemseg.data.catalog import OpenedStills, OpenedVideos
from stemseg.data.categories import CategoryRule
from stemseg.data.frame_sampling import FrameGap, frames_with_instances
from stemseg.data.preprocessing import ImagePreprocessor, prepare_clip
from stemseg.data.still_clips import StillClips
from stemseg.data.video_clips import VideoChanges, VideoClips
from stemseg.evaluation.report import MetricTable
from stemseg.structures.annotations import StillAnnotations, StillImage, VideoAnnotations, VideoSequence
from stemseg.structures.rle import encode_rle

NUM_FRAMES = 8
MEAN = np.array([102.9801, 115.9465, 122.7717], dtype=np.float32)
_RULE = CategoryRule(targets={1: 1}, known=frozenset({1}))


class Timing(NamedTuple):
    """Milliseconds for one sample, ours and straightforward (None where there is nothing to compare)."""

    name: str
    ours: float
    straightforward: float | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the best counts")
    args = parser.parse_args(argv)
    print(f"{'':70}{'ours':>10}{'straightforward':>18}{'ratio':>8}")
    for timing in benchmark_loading(repeats=args.repeats):
        line = f"{timing.name:70}{timing.ours:7.1f} ms"
        if timing.straightforward is not None:
            line += f"{timing.straightforward:15.1f} ms{timing.straightforward / timing.ours:8.1f}"
        print(line)


def benchmark_loading(*, repeats: int = 5, min_dim: int = 736, max_dim: int = 1248) -> list[Timing]:
    """Time a video sample with 1, 3 and 10 instances, and a still sample with its steps."""
    preprocessor = ImagePreprocessor(min_dim=min_dim, max_dim=max_dim, mean=MEAN, std=(1, 1, 1))
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        videos = [time_video(Path(folder), instances, preprocessor, repeats) for instances in (1, 3, 10)]
        return [*videos, *time_still(Path(folder), 7, preprocessor, repeats)]


def time_video(folder: Path, num_instances: int, preprocessor: ImagePreprocessor, repeats: int) -> Timing:
    """8 frames of 480 x 854 to network size."""
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
    return Timing(
        f"video sample, 480 x 854 to {size[0]} x {size[1]}, 8 frames, {num_instances:2d} instances",
        best_time(lambda: prepare_clip(clips.load(0, frames), preprocessor), repeats),
        best_time(lambda: straightforward.load_video_clip(sequence, frames, folder, size, MEAN), repeats),
    )


def time_still(folder: Path, num_instances: int, preprocessor: ImagePreprocessor, repeats: int) -> list[Timing]:
    """A 480 x 640 still to 8 frames of network size: the whole sample, then its steps."""
    rng = np.random.default_rng(0)
    path = write_texture(folder, "still.jpg", 480, 640, rng)
    image = StillImage(480, 640, path, [1] * num_instances, draw_masks(num_instances, 480, 640, rng))
    augmenter = FrameAugmenter(AugmentationRange(perspective=0.08, translation=0.1, rotation=12))
    stills = OpenedStills(StillAnnotations(folder, {1: "object"}, [image]), folder)
    clips = StillClips(name="still", stills=stills, rule=_RULE, num_frames=NUM_FRAMES, augmenter=augmenter)
    size = preprocessor.output_size(480, 640)

    def naive() -> None:
        straightforward.load_still_clip(image, folder, NUM_FRAMES, size, MEAN, augmenter, np.random.default_rng(1))

    whole = best_time(lambda: prepare_clip(clips.draw(0, np.random.default_rng(1)), preprocessor), repeats)
    name = f"still sample, 480 x 640 to {size[0]} x {size[1]}, 8 frames, {num_instances} instances"
    return [Timing(name, whole, best_time(naive, repeats)), *still_steps(clips, augmenter, preprocessor, repeats)]


def still_steps(
    clips: StillClips, augmenter: FrameAugmenter, preprocessor: ImagePreprocessor, repeats: int
) -> list[Timing]:
    """Where the time of a still sample goes."""
    rng = np.random.default_rng(1)
    frame, copies = clips.load(0), range(NUM_FRAMES - 1)
    height, width = frame.image.shape[:2]
    warped = [warp_frame(frame, augmenter.sample_homography(height, width, rng)) for _ in copies]
    clip = AnnotatedClip([frame, *warped], (1,) * len(frame.ids.places), "still")
    steps: dict[str, Callable[[], object]] = {
        "read and decode": lambda: clips.load(0),
        "warp image, instances, validity": lambda: [
            warp_frame(frame, augmenter.sample_homography(height, width, rng)) for _ in copies
        ],
        "colors and blur": lambda: [augmenter.change_colors(frame.image, rng) for _ in copies],
        "resize and normalize": lambda: prepare_clip(clip, preprocessor),
    }
    return [Timing(f"    {name}", best_time(step, repeats)) for name, step in steps.items()]


def best_time(work: Callable[[], object], repeats: int) -> float:
    """Processor milliseconds of the fastest of several runs, after one that warms caches up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


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


if __name__ == "__main__":
    main()


# Training samples per second, and where the time of one goes.


def benchmark_data_loading(*, repeats: int) -> MetricTable:
    """Samples and, indented below, the steps of a still sample; "naive" is a warp and a resize for each mask."""
    rows: dict[str, tuple[float, float, float, float]] = {}
    for timing in benchmark_loading(repeats=repeats):
        naive = math.nan if timing.straightforward is None else timing.straightforward
        rows[timing.name] = (timing.ours, 1000 / timing.ours, naive, naive / timing.ours)
    return MetricTable("loading", ("ours ms", "per second", "naive ms", "speed-up"), rows, decimals=1)
