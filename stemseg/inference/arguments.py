"""The command line of inference (method.md §12)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from stemseg.datasets import DATASETS, find_dataset, spellings, video_datasets
from stemseg.inference.writers import EXPORTS
from stemseg.structures.frame_range import parse_frame_range
from stemseg.utils.arguments import CommandParser, checked, count, fraction, positive
from stemseg.utils.errors import ConfigError

_DESCRIPTION = """Segment and track every object of a dataset's sequences, or of a video of your own. An interrupted run
goes on with the same command. Several processes: torchrun --nproc_per_node K -m stemseg.inference.main ..."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=_DESCRIPTION)
    parser.add_argument(
        "checkpoint", help="weights: a model that ships with the package (laptop), a training checkpoint, a state dict"
    )
    _add_input(parser.add_argument_group("what is segmented"))
    _add_method(parser.add_argument_group("how (by default as configured)"))
    _add_output(parser.add_argument_group("what is written"))
    _add_machine(parser.add_argument_group("where it runs"))
    options = parser.parse_args(arguments)
    if options.evaluate and options.dataset is None:
        parser.error("--evaluate needs annotations: give --dataset (custom for a dataset of your own), not --input")
    if options.dataset is not None and (options.frames or options.every > 1):
        parser.error("--frames and --every choose parts of videos of your own: give --input, not --dataset")
    if options.dataset is None and (options.seqs or options.split is not None):
        parser.error("--seqs and --split choose sequences of a dataset: give --dataset, or name videos with --input")
    if options.side_by_side and not options.save_vis:
        parser.error("--side_by_side is about the pictures of --save_vis; give both")
    options.split = options.split or "val"
    try:
        options.frames = parse_frame_range(options.frames or "0:", options.every)
    except ConfigError as error:
        parser.error(f"--frames: {error}")
    return options


def _add_input(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    what = group.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--dataset",
        "-d",
        type=checked(lambda name: find_dataset(name, video_datasets()).name),
        metavar="NAME",
        help=f"segment this dataset's sequences: {', '.join(spellings(DATASETS[name]) for name in video_datasets())}",
    )
    what.add_argument(
        "--input", nargs="+", metavar="INPUT",
        help="segment videos of your own: files, folders of images or of videos, patterns such as 'holiday/*.mp4', "
        "or a camera by its number",
    )  # fmt: skip
    add("--frames", metavar="A:B", help="with --input: only frames A up to, but not including, B")
    add("--every", type=positive, default=1, metavar="N", help="with --input: only every N-th of these frames")
    add("--split", help="split of the dataset (default: val)")
    add("--seqs", nargs="+", default=[], metavar="ID", help="segment only these sequences")


def _add_method(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--cfg", help="configuration: a name in configs/, or a file; by default config.yaml beside the checkpoint")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override single configuration keys")
    add("--max_tracks", type=count, metavar="N", help="tracks kept of each video, longest-lived first")
    add("--frame_overlap", "-fo", type=count, metavar="N", help="frames that consecutive clips share")
    add(
        "--seediness_thresh",
        "-st",
        type=fraction,
        metavar="P",
        help="without a semantic head: foreground is above this",
    )
    add("--min_seediness_prob", "-msp", type=fraction, metavar="P", help="no instance starts at a seediness below this")
    add("--min_dim", type=count, metavar="PIXELS", help="shorter side of the network's input; alone it keeps the ...")
    add("--max_dim", type=count, metavar="PIXELS", help="... configured ratio to the longer side, and vice versa")
    add("--resize_embeddings", action="store_true", help="cluster at the network's input size: slower, finer masks")


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output_dir", "-o", type=Path, help="default: segmented/ and the input's name for a model that ships with "
        "the package, inference/ beside any other checkpoint")  # fmt: skip
    add("--save_vis", action="store_true", help="also write overlays (pictures, a video) and a page, report.html")
    add("--side_by_side", action="store_true", help="with --save_vis: the video shows each frame beside its overlay")
    add("--min_score", type=fraction, metavar="P", help="leave tracks of less out of results and pictures (default: "
        "DATA.<DATASET>.MIN_TRACK_SCORE for results; for pictures 0.2, or 0.05 in scores by pixels)")  # fmt: skip
    add(
        "--export", nargs="+", default=[], choices=EXPORTS, help="also write polygons for annotation tools such as CVAT"
    )
    add("--evaluate", action="store_true", help="then measure the results with the dataset's official metrics")
    add("--overwrite", action="store_true", help="replace results that were made with other settings")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", help="cpu, cuda, cuda:1, ...; by default a GPU where there is one")
    add("--clustering_device", metavar="DEVICE", help="cluster there instead, to spare the GPU's memory")
    add("--amp", choices=("none", "auto", "bf16", "fp16"), help="mixed precision; auto: bf16 where that is fast")
    add("--compile", action="store_true", help="compile the network first: a minute or two, pays for long videos")
    add("--num_cpu_workers", type=count, default=4, metavar="N", help="threads that read frames ahead (default: 4)")
