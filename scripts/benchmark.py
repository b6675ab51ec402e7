"""Measure speed and memory: ``python scripts/benchmark.py`` prints tables, and with ``--json`` also writes them.

inference    time of each stage, memory, and the share of the machine's arithmetic limit that is reached
memory       peak memory at 30, 300 and 3,000 frames, by a small network
loss         the embedding loss for several numbers of instances, against a loop over them
loading      training samples per second and their bytes, against the straightforward implementation
clustering   frames per second of clustering and chaining at a quarter of 480p, against a naive implementation

Without a checkpoint the network has random weights and finds as many instances as the rules allow. The defaults take a
few minutes on a CPU; raise --size, --lengths and --map_size, and give a --device, for figures at full scale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

import torch

from scripts.benchmarks.clips import MapSize
from scripts.benchmarks.clustering import benchmark_clustering
from scripts.benchmarks.embedding_loss import benchmark_embedding_loss
from scripts.benchmarks.inference import benchmark_inference
from scripts.benchmarks.loading import benchmark_loading
from scripts.generate_videos import parse_size
from stemseg.evaluation.report import MetricTable
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.devices import AMP_DTYPES
from stemseg.utils.files import write_text
from tests.helpers.small_network import SMALL_NETWORK


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them unless named")
    add("--device", default="cpu", help="cpu, cuda or mps; loading is always measured on the CPU")
    add("--json", type=Path, help="file to write the figures to")
    add("--repeats", type=int, default=5, help="runs of which the fastest counts")
    add("--cfg", default="youtube_vis", help="inference: configuration, a name in configs/ or a path")
    add("--set", nargs="*", default=["MODEL.BACKBONE.TYPE=R-50-FPN"], metavar="KEY=VALUE", help="inference: overrides")
    add("--checkpoint", help="inference: weights, instead of random ones")
    add("--size", type=parse_size, default=(96, 160), metavar="HxW", help="inference: size of the video")
    add("--lengths", type=int, nargs="+", default=[30], metavar="T", help="inference: frames of the videos")
    add("--memory_lengths", type=int, nargs="+", default=[30, 300, 3000], metavar="T", help="memory: the same")
    add("--amp", choices=(*AMP_DTYPES, "auto"), default="none", help="inference: mixed precision")
    add("--threads", type=int, default=0, help="inference: threads of torch; 0 leaves the choice to torch")
    add("--map_size", type=parse_size, default=(120, 216), metavar="HxW", help="loss, clustering: size of the maps")
    add("--instances", type=int, nargs="+", default=[1, 5, 20], metavar="I", help="loss: numbers of instances")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return args


def run_inference(args: argparse.Namespace) -> list[MetricTable]:
    """Time by stage, and memory."""
    return benchmark_inference(
        args.lengths,
        config=args.cfg,
        overrides=[*args.set, f"INFERENCE.AMP={args.amp}"],
        checkpoint=args.checkpoint,
        size=args.size,
        device=args.device,
        threads=args.threads,
    )


def run_memory(args: argparse.Namespace) -> list[MetricTable]:
    """Memory alone: what it grows by doesn't depend on the network's size."""
    tables = benchmark_inference(
        args.memory_lengths,
        config="youtube_vis",
        overrides=[*SMALL_NETWORK, "INPUT.NUM_FRAMES=4", "DATA.YOUTUBE_VIS.INFERENCE_FRAME_OVERLAP=2"],
        checkpoint=None,
        size=(96, 160),
        device=args.device,
        threads=args.threads,
    )
    return [table for table in tables if table.title == "video"]


def run_loss(args: argparse.Namespace) -> list[MetricTable]:
    """The embedding loss of a clip of 8 frames."""
    size, device = MapSize(8, *args.map_size), torch.device(args.device)
    return [benchmark_embedding_loss(size, args.instances, dim_mode="xyff", repeats=args.repeats, device=device)]


def run_loading(args: argparse.Namespace) -> list[MetricTable]:
    """Training samples."""
    return [benchmark_loading(repeats=args.repeats)]


def run_clustering(args: argparse.Namespace) -> list[MetricTable]:
    """Clips of 16 frames with 10 instances; consecutive ones share 6 frames, as in configs/davis_2.yaml."""
    size, device = MapSize(16, *args.map_size), torch.device(args.device)
    table = benchmark_clustering(
        size, num_instances=10, num_clips=5, overlap=6, dim_mode="xyff", repeats=args.repeats, device=device
    )
    return [table]


PARTS: dict[str, Callable[[argparse.Namespace], list[MetricTable]]] = {
    "inference": run_inference,
    "memory": run_memory,
    "loss": run_loss,
    "loading": run_loading,
    "clustering": run_clustering,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: measure(args))


def measure(args: argparse.Namespace) -> None:
    """Print the tables that the options ask for, and write them to ``--json``."""
    figures: dict[str, dict[str, object]] = {}
    for part in args.parts or PARTS:
        tables = PARTS[part](args)
        print(*tables, sep="\n\n", end="\n\n", flush=True)
        figures[part] = {table.title: table.to_dict() for table in tables}
    if args.json:
        write_text(args.json, json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
