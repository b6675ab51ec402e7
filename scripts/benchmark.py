"""Measure speed and memory: ``python scripts/benchmark.py`` prints tables, and writes them where that is asked for.

inference    time of each stage, memory, and the share of the machine's arithmetic limit that is reached
memory       peak memory at 30, 300 and 3,000 frames, by a small network
loss         the embedding loss for several numbers of instances, against a loop over them
loading      training samples per second and their bytes, against the straightforward implementation
clustering   frames per second of clustering and chaining at a quarter of 480p, against a naive implementation

``--document docs/speed.md`` replaces the parts' tables in that document by those just measured.

Without a checkpoint the network has random weights and finds as many instances as the rules allow. The defaults take a
few minutes on a CPU; raise --size, --lengths and --map_size, and give a --device, for figures at full scale.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

import torch

from scripts.benchmarks.clips import MapSize
from scripts.benchmarks.clustering import benchmark_clustering
from scripts.benchmarks.document import as_section, check_document, describe_machine, write_sections
from scripts.benchmarks.embedding_loss import benchmark_embedding_loss
from scripts.benchmarks.inference import Setup, benchmark_inference, benchmark_memory
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
    add("--document", type=Path, help="Markdown file whose sections for the parts get the tables")
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


class Part(NamedTuple):
    """The outcome of a part of the benchmark: its tables, and what is to be said of the run."""

    tables: list[MetricTable]
    note: str


def run_inference(args: argparse.Namespace) -> Part:
    """Time and arithmetic by stage, and memory."""
    overrides = [*args.set, f"INFERENCE.AMP={args.amp}"]
    setup = Setup(args.cfg, overrides, args.checkpoint, args.size, args.device, args.threads)
    tables, note = benchmark_inference(args.lengths, setup)
    network = Path(args.checkpoint).name if args.checkpoint else "random weights"
    height, width = args.size
    return Part(tables, f"{args.cfg}, {network}, {height} x {width}, {args.device}, {note}.")


def run_memory(args: argparse.Namespace) -> Part:
    """Memory alone: what it grows by doesn't depend on the network's size."""
    overrides = [*SMALL_NETWORK, "INPUT.NUM_FRAMES=4", "DATA.YOUTUBE_VIS.INFERENCE_FRAME_OVERLAP=2"]
    setup = Setup("youtube_vis", overrides, None, (96, 160), args.device, args.threads)
    return Part([benchmark_memory(args.memory_lengths, setup)], "A small network, 96 x 160.")


def run_loss(args: argparse.Namespace) -> Part:
    """The embedding loss of a clip of 8 frames."""
    size, device = MapSize(8, *args.map_size), torch.device(args.device)
    table = benchmark_embedding_loss(size, args.instances, dim_mode="xyff", repeats=args.repeats, device=device)
    return Part([table], _one_thread(args))


def run_loading(args: argparse.Namespace) -> Part:
    """Training samples."""
    return Part([benchmark_loading(repeats=args.repeats)], "One thread.")


def run_clustering(args: argparse.Namespace) -> Part:
    """Clips of 16 frames with 10 instances; consecutive ones share 6 frames, as in configs/davis_2.yaml."""
    size, device = MapSize(16, *args.map_size), torch.device(args.device)
    table = benchmark_clustering(
        size, num_instances=10, num_clips=5, overlap=6, dim_mode="xyff", repeats=args.repeats, device=device
    )
    return Part([table], _one_thread(args))


def _one_thread(args: argparse.Namespace) -> str:
    return f"{args.device}, one thread, float32, maps of {args.map_size[0]} x {args.map_size[1]}."


PARTS: dict[str, Callable[[argparse.Namespace], Part]] = {
    "inference": run_inference,
    "memory": run_memory,
    "loss": run_loss,
    "loading": run_loading,
    "clustering": run_clustering,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if arguments is None else arguments)])
    return run_command(lambda: measure(args, command))


def measure(args: argparse.Namespace, command: str) -> None:
    """Print the tables that the options ask for, and write them to ``--json`` and ``--document``."""
    parts = args.parts or list(PARTS)
    if args.document:
        check_document(args.document, parts)
    figures: dict[str, dict[str, object]] = {}
    print(describe_machine(), end="\n\n")
    for name in parts:
        part = PARTS[name](args)
        print(part.note, *part.tables, sep="\n\n", end="\n\n", flush=True)
        figures[name] = {"note": part.note} | {table.title: table.to_dict() for table in part.tables}
        if args.document:
            write_sections(args.document, {name: as_section(part.tables, command, part.note)})
    if args.json:
        write_text(args.json, json.dumps({"machine": describe_machine()} | figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
