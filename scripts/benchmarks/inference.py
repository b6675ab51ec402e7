"""Inference of a short and a long video, each in a process of its own: time by stage, and peak memory.

What is measured is what the command line runs: the runner with the prepared network, which shares what clips have in
common, in the precision that is asked for, with frames read in worker threads and results written to files.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks.timing import arithmetic_limit, synchronize
from stemseg.config import Config, load_config
from stemseg.data.synthetic.dataset import write_video
from stemseg.data.synthetic.scenes import SceneOptions
from stemseg.evaluation.report import MetricTable
from stemseg.inference.frame_sources import ImageSequence
from stemseg.inference.result_folder import ResultFolder
from stemseg.inference.runner import InferenceRunner
from stemseg.inference.video_segmenter import VideoSegmenter, build_segmenter
from stemseg.inference.writers.youtube_vis import YouTubeVisWriter
from stemseg.modeling.network import Network, build_network
from stemseg.modeling.weights import load_model_weights
from stemseg.utils.devices import AMP_DTYPES, choose_precision
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.files import list_images
from stemseg.utils.timing import Stopwatch

STAGES = ("reading", "backbone", "heads", "clustering", "chaining", "masks", "writing")
# random weights find next to nothing by the usual rules; by these, every clip is full of instances: the worst case
_CROWDED = ("CLUSTERING.MIN_SEEDINESS_PROB=0.0", "INFERENCE.SEEDINESS_THRESHOLD=0.0")
_WORKERS = 2  # threads that read frames
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BenchmarkRun:
    """A video for one process to segment, and by which network.

    Attributes:
        config: name or path; ``overrides`` change it.
        overrides: "KEY=value" texts.
        checkpoint: weights, or None for random ones.
        folder: of the video's frames.
        num_frames: how many of them.
        device: "cpu", "cuda", ...
        threads: of torch; 0 leaves its own choice.
        count: whether to count the network's arithmetic, in a second run.
    """

    config: str
    overrides: tuple[str, ...]
    checkpoint: str | None
    folder: str
    num_frames: int
    device: str
    threads: int
    count: bool


@dataclass(frozen=True)
class InferenceFigures:
    """Figures of one process: seconds in all and by stage, memory in MiB, tracks found.

    ``operations`` are the network's floating-point operations for the video, ``limit`` the most that the machine can do
    in a second; both NaN where they were not asked for.
    """

    total: float
    seconds: dict[str, float]
    ready_memory: float
    peak_memory: float
    peak_device_memory: float
    num_tracks: int
    operations: float
    limit: float


def benchmark_inference(
    lengths: Sequence[int],
    *,
    config: str,
    overrides: Sequence[str],
    checkpoint: str | None,
    size: tuple[int, int],
    device: str,
    threads: int,
) -> list[MetricTable]:
    """Segment a generated video of each length; random weights give every clip as many instances as the rules allow.

    Args:
        size: (height, width) of the video and, but for padding, of the network's input.

    Returns:
        milliseconds per frame of each stage with its share of the time, the memory, and the arithmetic of the shortest
        video beside the machine's limit.
    """
    overrides = (*overrides, *_size_overrides(size), *(() if checkpoint else _CROWDED))
    with tempfile.TemporaryDirectory() as folder:
        options = SceneOptions(*size, max(lengths), 6, ("disc", "square", "triangle", "star", "cross"))
        video = write_video(Path(folder), "val", options, 0, 0)
        frames = str((Path(folder) / video.image_paths[0]).parent)
        shortest = min(lengths)
        jobs = [BenchmarkRun(config, overrides, checkpoint, frames, n, device, threads, n == shortest) for n in lengths]
        figures = {job.num_frames: _run_in_process(job) for job in jobs}
    return [_stage_table(figures), _memory_table(figures), _arithmetic_table(figures[shortest], shortest)]


def measure(job: BenchmarkRun) -> InferenceFigures:
    """Segment and write one video, in this process."""
    if job.threads:
        torch.set_num_threads(job.threads)
    cfg, device = load_config(job.config, job.overrides), torch.device(job.device)
    stopwatch = Stopwatch(device)
    segmenter = build_segmenter(
        cfg, _prepare_network(cfg, job), device=device, num_workers=_WORKERS, stopwatch=stopwatch
    )
    source = ImageSequence("video", list_images(Path(job.folder))[: job.num_frames])
    ready = peak_memory()
    with tempfile.TemporaryDirectory() as output:
        folder = ResultFolder(Path(output))
        folder.open({}, overwrite=True)
        runner = InferenceRunner(
            sources=[source],
            folder=folder,
            new_segmenter=lambda: segmenter,
            writers=[YouTubeVisWriter(folder.path)],
            overlays=None,
            process=ProcessInfo(),
            num_workers=_WORKERS,
        )
        start = time.perf_counter()
        seconds = runner.run()
        synchronize(device)
        total = time.perf_counter() - start
        num_tracks = len(folder.load("video").tracks)
    device_memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    memory = peak_memory()
    operations, limit = _arithmetic(segmenter, source, cfg.INFERENCE.AMP, device) if job.count else (math.nan, math.nan)
    return InferenceFigures(total, seconds, ready, memory, device_memory, num_tracks, operations, limit)


def _arithmetic(
    segmenter: VideoSegmenter, source: ImageSequence, amp: str, device: torch.device
) -> tuple[float, float]:
    """The network's floating-point operations for a video, and how many the machine can do in a second."""
    with FlopCounterMode(display=False) as counter:
        segmenter.segment(source)
    return float(counter.get_total_flops()), arithmetic_limit(
        device, AMP_DTYPES[choose_precision(device, amp)] or torch.float32
    )


def peak_memory() -> float:
    """The largest resident memory that this process has had, in MiB.

    ``getrusage`` alone is not enough on Linux: it counts what the parent had before this program was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _prepare_network(cfg: Config, job: BenchmarkRun) -> Network:
    torch.manual_seed(0)
    network = build_network(cfg)
    if job.checkpoint:
        load_model_weights(network, job.checkpoint)
    else:
        _find_everything(network)
    return network


def _size_overrides(size: tuple[int, int]) -> tuple[str, ...]:
    return f"INPUT.MIN_DIM={min(size)}", f"INPUT.MAX_DIM={max(size)}"


@torch.no_grad()
def _find_everything(network: Network) -> None:
    """Make a random network see foreground everywhere: its last features are not negative, so neither is their sum."""
    if network.semseg_head is not None:
        network.semseg_head.conv_out.weight[-1].abs_()


def _run_in_process(job: BenchmarkRun) -> InferenceFigures:
    command = [sys.executable, "-m", "scripts.benchmarks.inference", json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return InferenceFigures(**json.loads(done.stdout))


def _stage_table(figures: dict[int, InferenceFigures]) -> MetricTable:
    rows: dict[str, list[float]] = {stage: [] for stage in (*STAGES, "other", "all")}
    for num_frames, result in figures.items():
        seconds = {stage: result.seconds.get(stage, 0.0) for stage in STAGES}
        seconds |= {"other": result.total - sum(seconds.values()), "all": result.total}
        for stage, value in seconds.items():
            rows[stage] += [1000 * value / num_frames, 100 * value / result.total]
    columns = [name for n in figures for name in (f"{n} frames: ms", f"{n} frames: %")]
    return MetricTable("stage, per frame", columns, rows, decimals=2)


def _memory_table(figures: dict[int, InferenceFigures]) -> MetricTable:
    rows = {
        f"{num_frames} frames": (
            num_frames / f.total, f.ready_memory, f.peak_memory, f.peak_memory - f.ready_memory, f.peak_device_memory,
            f.num_tracks,
        )
        for num_frames, f in figures.items()
    }  # fmt: skip
    columns = ("frames / s", "MiB before", "MiB peak", "MiB growth", "MiB on GPU", "tracks")
    return MetricTable("video", columns, rows, decimals=1)


def _arithmetic_table(figures: InferenceFigures, num_frames: int) -> MetricTable:
    """The network's arithmetic per frame, what it reaches in its own stages and in the whole run, and the limit."""
    network = figures.seconds.get("backbone", 0.0) + figures.seconds.get("heads", 0.0)
    rows = {
        name: (per_frame, rate / 1e9, 100 * rate / figures.limit)
        for name, per_frame, rate in (
            ("the network", figures.operations / num_frames / 1e9, figures.operations / network),
            ("whole video", figures.operations / num_frames / 1e9, figures.operations / figures.total),
            ("limit: a product of matrices", math.nan, figures.limit),
        )
    }
    return MetricTable("arithmetic", ("GFLOP / frame", "GFLOP / s", "% of the limit"), rows, decimals=1)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(BenchmarkRun(**json.loads(sys.argv[1]))))))
