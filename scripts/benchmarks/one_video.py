"""One video segmented in a process of its own, as the command line does it: seconds, memory, arithmetic.

``python -m scripts.benchmarks.one_video RUN`` takes a :class:`BenchmarkRun` as JSON and prints :class:`RunFigures`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarks.timing import arithmetic_limit, synchronize
from stemseg.config import Config, load_config
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

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BenchmarkRun:
    """A video for one process to segment, and by which network.

    Attributes:
        config: name or path; ``overrides`` change it.
        overrides: "KEY=value" texts.
        checkpoint: weights, or None for random ones.
        folder: of images, which the video shows forwards and backwards, again and again.
        num_frames: of the video.
        device: "cpu", "cuda", ...
        threads: of torch; 0 leaves its own choice.
        workers: threads that read frames; 0 does everything in turn.
        count: whether to count the network's arithmetic, in a second run; only where all is done in turn.
    """

    config: str
    overrides: tuple[str, ...]
    checkpoint: str | None
    folder: str
    num_frames: int
    device: str
    threads: int
    workers: int
    count: bool = False


@dataclass(frozen=True)
class RunFigures:
    """Figures of one process.

    Attributes:
        total: seconds.
        seconds: by stage; those of several threads may add up to more than ``total``.
        ready_memory, peak_memory: MiB, before the first frame and at most.
        peak_device_memory: MiB, 0 without a GPU.
        num_tracks: found.
        operations: floating-point operations by stage; empty where they were not asked for.
        limit: the most of them that the machine can do in a second; 0 likewise.
        threads: of torch.
        precision: "none", "bf16" or "fp16".
    """

    total: float
    seconds: dict[str, float]
    ready_memory: float
    peak_memory: float
    peak_device_memory: float
    num_tracks: int
    operations: dict[str, float]
    limit: float
    threads: int
    precision: str


class CountingStopwatch(Stopwatch):
    """A stopwatch that can count a stage's floating-point operations too, of the thread that it counts in."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._counter: FlopCounterMode | None = None
        self.operations: dict[str, float] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count within the ``with`` block."""
        with FlopCounterMode(display=False) as self._counter:
            yield
        self._counter = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See :class:`Stopwatch`."""
        before = self._count()
        with super().stage(name):
            yield
        self.operations[name] = self.operations.get(name, 0.0) + self._count() - before

    def _count(self) -> float:
        return float(self._counter.get_total_flops()) if self._counter else 0.0


def run_in_process(job: BenchmarkRun) -> RunFigures:
    """Measure a run in a fresh process, whose memory nothing else has used."""
    command = [sys.executable, "-m", "scripts.benchmarks.one_video", json.dumps(asdict(job))]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return RunFigures(**json.loads(done.stdout))


def measure(job: BenchmarkRun) -> RunFigures:
    """Segment and write one video, in this process."""
    if job.threads:
        torch.set_num_threads(job.threads)
    cfg, device = load_config(job.config, job.overrides), torch.device(job.device)
    watch = CountingStopwatch(device)
    segmenter = build_segmenter(cfg, _build_network(cfg, job), device=device, num_workers=job.workers, stopwatch=watch)
    source = ImageSequence("video", repeated(list_images(Path(job.folder)), job.num_frames))
    ready = peak_memory()
    total, seconds, num_tracks = _segment(segmenter, source, job.workers, device)
    precision = choose_precision(device, cfg.INFERENCE.AMP)
    figures = RunFigures(
        total=total,
        seconds=seconds,
        ready_memory=ready,
        peak_memory=peak_memory(),
        peak_device_memory=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0,
        num_tracks=num_tracks,
        operations={},
        limit=0.0,
        threads=torch.get_num_threads(),
        precision=precision,
    )
    if not job.count:
        return figures
    watch.operations.clear()
    with watch.counting():
        segmenter.segment(source)
    limit = arithmetic_limit(device, AMP_DTYPES[precision] or torch.float32)
    return RunFigures(**{**asdict(figures), "operations": watch.operations, "limit": limit})


def _segment(
    segmenter: VideoSegmenter, source: ImageSequence, workers: int, device: torch.device
) -> tuple[float, dict[str, float], int]:
    """Run the command line's runner over a video; seconds in all and by stage, and the tracks found."""
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
            num_workers=workers,
        )
        start = time.perf_counter()
        seconds = dict(runner.run())
        synchronize(device)
        return time.perf_counter() - start, seconds, len(folder.load("video").tracks)


def repeated(paths: list[Path], count: int) -> list[Path]:
    """``count`` frames: those that there are, then back to the first, and on."""
    cycle = paths + paths[-2:0:-1]
    return [cycle[i % len(cycle)] for i in range(count)]


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


def _build_network(cfg: Config, job: BenchmarkRun) -> Network:
    torch.manual_seed(0)
    network = build_network(cfg)
    if job.checkpoint:
        load_model_weights(network, job.checkpoint)
    else:
        _find_everything(network)
    return network


@torch.no_grad()
def _find_everything(network: Network) -> None:
    """Make a random network see foreground everywhere: its last features are not negative, so neither is their sum."""
    if network.semseg_head is not None:
        network.semseg_head.conv_out.weight[-1].abs_()


if __name__ == "__main__":
    print(json.dumps(asdict(measure(BenchmarkRun(**json.loads(sys.argv[1]))))))
