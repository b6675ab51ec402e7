"""Turn a dataset's official download into the standard annotation JSON that training and inference read.

    stemseg-prepare youtube_vis /data/youtube_vis_2019 --output /data/annotations --workers 8
    stemseg-prepare youtube_vis --help      # the folder tree that is expected, and the flags

One command for all datasets: flags, progress, parallel work, the list of problems and the summary are the same, and
each dataset adds only the description of its folder tree (in the module that ``stemseg/datasets.py`` names).

Everything is checked while it is converted, and every inconsistency is listed (missing or damaged image, mask of
another size, instance without a class, ...). A file is written whole or not at all, and equal input gives equal bytes.
``--split 0.1`` holds out a tenth of the training videos: <dataset>_train.json gets the rest, <dataset>_minival.json the
held-out part. YouTube-VIS and OVIS publish no annotations of their validation sets, so this is how to measure locally.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stemseg.datasets import ANNOTATIONS_VARIABLE, DATASETS, DatasetEntry, convertible_datasets, find_dataset, spellings
from stemseg.utils.arguments import DEFAULT_WORKERS, CommandParser, checked, count, fraction, run_command
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.files import user_path

_PROGRAM = "stemseg-prepare"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    entry, rest = parse_dataset(arguments)
    return run_command(lambda: prepare(entry, rest))


def parse_dataset(arguments: Sequence[str] | None = None) -> tuple[DatasetEntry, list[str]]:
    """The dataset that the command line begins with, and what follows it."""
    names = [DATASETS[name] for name in convertible_datasets()]
    parser = CommandParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_table(names)
    )
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        type=checked(lambda name: find_dataset(name, convertible_datasets())),
        help="one of those below",
    )
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="ROOT and flags, see DATASET --help")
    args = parser.parse_args(arguments)
    return args.dataset, args.rest


def prepare(entry: DatasetEntry, arguments: Sequence[str]) -> None:
    """Write the annotation files of one dataset.

    Raises:
        ConfigError: where the arguments don't go together.
        DataError: naming everything that is missing, damaged or inconsistent.
    """
    from stemseg.data.prepare.plan import load_converter, split_plan
    from stemseg.data.prepare.runner import run_plans

    converter = load_converter(entry)
    parser = CommandParser(
        prog=f"{_PROGRAM} {entry.name}",
        description=converter.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_arguments(parser, is_video=entry.kind == "videos")
    converter.add_arguments(parser)
    args = parser.parse_args(arguments)

    output, root = output_dir(args.output), root_dir(args.root)
    plans = converter.make_plans(entry, root, args)
    if getattr(args, "split", None) is not None:
        if not any(plan.filename.endswith("_train.json") for plan in plans):
            raise ConfigError("--split divides the training set, but --only leaves it out; drop one of the two")
        parts = [split_plan(p, args.split, args.seed) if p.filename.endswith("_train.json") else [p] for p in plans]
        plans = [plan for part in parts for plan in part]
    summaries = run_plans(plans, output, workers=args.workers, skip_invalid=args.skip_invalid)
    print("\n".join(map(str, summaries)))


def add_common_arguments(parser: argparse.ArgumentParser, *, is_video: bool) -> None:
    """The flags that every dataset has, and those of every video dataset."""
    add = parser.add_argument
    add("root", metavar="ROOT", help="folder of the official download")
    add("--output", "-o", metavar="DIR", help=f"folder of the JSON files (default: ${ANNOTATIONS_VARIABLE})")
    add("--workers", type=count, default=DEFAULT_WORKERS, help="processes (default: %(default)s)")
    add("--skip_invalid", action="store_true", help="leave out entries with problems instead of stopping")
    if is_video:
        add("--split", type=fraction, metavar="FRACTION", help="hold out this part of the training set")
        add("--seed", type=count, default=0, help="which part --split holds out (default: 0)")


def output_dir(given: str | None) -> Path:
    """The folder to write to.

    Raises:
        ConfigError: where neither the flag nor the environment variable gives one.
    """
    value = given or os.environ.get(ANNOTATIONS_VARIABLE)
    if not value:
        raise ConfigError(
            f"nowhere to write: give --output DIR, or set the environment variable {ANNOTATIONS_VARIABLE}"
        )
    return user_path(value)


def root_dir(given: str) -> Path:
    """The folder of the official download.

    Raises:
        DataError: where there is none.
    """
    root = user_path(given).absolute()
    if not root.is_dir():
        raise DataError(f"ROOT is '{root}', which is not a folder; give the folder of the official download")
    return root


def _table(entries: Sequence[DatasetEntry]) -> str:
    """Names, aliases and titles of the datasets."""
    names = [spellings(entry) for entry in entries]
    width = max(map(len, names))
    return "\n".join(
        ["datasets:", *(f"  {name:<{width}}  {entry.title}" for name, entry in zip(names, entries, strict=True))]
    )


if __name__ == "__main__":
    sys.exit(main())
