"""Inference of generated videos: time and arithmetic by stage, and peak memory.

The command line's own path is measured: its runner with the prepared network, which shares what clips have in common,
in the precision that is asked for, and results written to files. Users run it with threads that read, chain and write
beside the network, where the stages' times overlap; so the stages are timed with everything in turn.

The stage "backbone" is all that is done once for each frame: the heads' first convolutions too. "heads" is the rest.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.one_video import BenchmarkRun, RunFigures, run_in_process
from stemseg.data.synthetic.dataset import write_video
from stemseg.data.synthetic.scenes import SceneOptions
from stemseg.evaluation.report import MetricTable

STAGES = ("reading", "backbone", "heads", "clustering", "chaining", "masks", "writing")
# random weights find next to nothing by the usual rules; by these, every clip is full of instances: the worst case
_CROWDED = ("CLUSTERING.MIN_SEEDINESS_PROB=0.0", "INFERENCE.SEEDINESS_THRESHOLD=0.0")
_WORKERS = 2  # threads that read frames
_DRAWN_FRAMES = 30  # longer videos show these again


@dataclass(frozen=True)
class Setup:
    """The network that is measured, and where.

    Attributes:
        config: name or path; ``overrides`` change it.
        overrides: "KEY=value" texts.
        checkpoint: weights; None: random ones, which give every clip as many instances as the rules allow.
        size: (height, width) of the video and, but for padding, of the network's input.
        device: "cpu", "cuda", ...
        threads: of torch; 0 leaves its own choice.
    """

    config: str
    overrides: Sequence[str]
    checkpoint: str | None
    size: tuple[int, int]
    device: str
    threads: int

    def run(self, folder: str, num_frames: int, workers: int, *, count: bool = False) -> RunFigures:
        """Measure one video of the images in a folder; see :class:`BenchmarkRun`."""
        sizes = (f"INPUT.MIN_DIM={min(self.size)}", f"INPUT.MAX_DIM={max(self.size)}")
        overrides = (*self.overrides, *sizes, *(() if self.checkpoint else _CROWDED))
        job = BenchmarkRun(
            self.config, overrides, self.checkpoint, folder, num_frames, self.device, self.threads, workers, count
        )
        return run_in_process(job)


def benchmark_inference(lengths: Sequence[int], setup: Setup) -> tuple[list[MetricTable], str]:
    """Segment a video of each length, with everything in turn and as users do.

    Returns:
        milliseconds per frame of each stage with its share of the time, the videos' memory, and the arithmetic of the
        shortest one beside the machine's limit; and what was reached of that, in words.
    """
    shortest = min(lengths)
    with _video(setup.size, max(lengths)) as folder:
        in_turn = {n: setup.run(folder, n, 0, count=n == shortest) for n in lengths}
        threaded = {n: setup.run(folder, n, _WORKERS) for n in lengths}
    first = in_turn[shortest]
    arithmetic = _arithmetic_table(first, threaded[shortest].total, shortest)
    return [_stage_table(in_turn, threaded), _memory_table(threaded), arithmetic], _describe(first, arithmetic)


def benchmark_memory(lengths: Sequence[int], setup: Setup) -> MetricTable:
    """Peak memory of a video of each length, segmented as users do."""
    with _video(setup.size, max(lengths)) as folder:
        return _memory_table({n: setup.run(folder, n, _WORKERS) for n in lengths})


@contextmanager
def _video(size: tuple[int, int], num_frames: int) -> Iterator[str]:
    """A folder of generated images."""
    with tempfile.TemporaryDirectory() as folder:
        shapes = ("disc", "square", "triangle", "star", "cross")
        options = SceneOptions(*size, min(num_frames, _DRAWN_FRAMES), 6, shapes)
        video = write_video(Path(folder), "val", options, 0, 0)
        yield str((Path(folder) / video.image_paths[0]).parent)


def _stage_table(in_turn: dict[int, RunFigures], threaded: dict[int, RunFigures]) -> MetricTable:
    """Stages and their sum where everything happens in turn, and the time with threads, of which 100 % is the sum."""
    total, beside = "all, in turn", f"all, {_WORKERS} reading threads"
    rows: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "other", total, beside)}
    for num_frames, result in in_turn.items():
        seconds = {stage: result.seconds.get(stage, 0.0) for stage in STAGES}
        seconds["other"] = result.total - sum(seconds.values())
        seconds |= {total: result.total, beside: threaded[num_frames].total}
        for stage, value in seconds.items():
            rows[stage] += [1000 * value / num_frames, 100 * value / result.total]
    columns = [name for n in in_turn for name in (f"{n} frames: ms", f"{n} frames: %")]
    return MetricTable("stage, per frame", columns, rows, decimals=2)


def _memory_table(figures: dict[int, RunFigures]) -> MetricTable:
    rows = {
        f"{num_frames} frames": (
            num_frames / f.total, f.ready_memory, f.peak_memory, f.peak_memory - f.ready_memory, f.peak_device_memory,
            f.num_tracks,
        )
        for num_frames, f in figures.items()
    }  # fmt: skip
    columns = ("frames / s", "MiB before", "MiB peak", "MiB growth", "MiB on GPU", "tracks")
    return MetricTable("video", columns, rows, decimals=1)


def _arithmetic_table(in_turn: RunFigures, threaded_total: float, num_frames: int) -> MetricTable:
    """Arithmetic per frame of the stages that have any and of the whole run, what they reach, and the limit."""
    everything = sum(in_turn.operations.values())
    parts = {
        stage: (in_turn.operations[stage], in_turn.seconds[stage])
        for stage in STAGES
        if in_turn.operations.get(stage, 0.0) > 0.01 * everything
    }
    parts |= {
        "whole video, in turn": (everything, in_turn.total),
        f"whole video, {_WORKERS} reading threads": (everything, threaded_total),
    }
    rows = {
        name: (operations / num_frames / 1e9, operations / seconds / 1e9, 100 * operations / seconds / in_turn.limit)
        for name, (operations, seconds) in parts.items()
    }
    rows["limit: one product or convolution"] = (math.nan, in_turn.limit / 1e9, 100.0)
    return MetricTable("arithmetic", ("GFLOP / frame", "GFLOP / s", "% of the limit"), rows, decimals=1)


def _describe(figures: RunFigures, arithmetic: MetricTable) -> str:
    """The run in words: threads, type of numbers, limit and share reached."""
    shares = ", ".join(
        f"{name} {share:.0f} %" for name, (_, _, share) in arithmetic.rows.items() if not name.startswith("limit")
    )
    numbers = "float32" if figures.precision == "none" else figures.precision
    threads = f"{figures.threads} thread{'s' if figures.threads > 1 else ''} of torch"
    return f"{threads}, {numbers}; limit {figures.limit / 1e9:.0f} GFLOP/s, of which is reached: {shares}"
