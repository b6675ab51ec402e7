"""Turn a dataset's official download into the standard annotation JSON that training and inference read.

    python scripts/prepare_dataset.py youtube_vis /data/youtube_vis_2019 --output /data/annotations --workers 8

One script with a subcommand for each dataset, not one script each: flags, progress, parallel work, the list of problems
and the summary are the same for all, so they are learned once and stand in one place; a dataset adds only the
description of its folder tree (``scripts/prepare/<dataset>.py``, whose first lines say what is expected).

Everything is checked while it is converted, and every inconsistency is listed (missing or damaged image, mask of
another size, instance without a class, ...). A file is written whole or not at all, and equal input gives equal bytes.
``--split 0.1`` holds out a tenth of the training videos: <dataset>_train.json gets the rest, <dataset>_minival.json the
held-out part. YouTube-VIS and OVIS publish no annotations of their validation sets, so this is how to measure locally.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone without installation

from stemseg.data.prepare.coco import COCO
from stemseg.data.prepare.davis import DAVIS
from stemseg.data.prepare.kitti_mots import KITTI_MOTS
from stemseg.data.prepare.mapillary import MAPILLARY
from stemseg.data.prepare.pascal_voc import PASCAL_VOC
from stemseg.data.prepare.plan import Plan, PreparedDataset, split_plan
from stemseg.data.prepare.runner import run_plans
from stemseg.data.prepare.youtube_vis import OVIS, YOUTUBE_VIS, YOUTUBE_VIS_2021
from stemseg.utils.errors import ConfigError, DataError, StemsegError

DATASETS: dict[str, PreparedDataset] = {
    "davis": DAVIS,
    "youtube_vis": YOUTUBE_VIS,
    "youtube_vis_2021": YOUTUBE_VIS_2021,
    "ovis": OVIS,
    "kitti_mots": KITTI_MOTS,
    "coco": COCO,
    "pascal_voc": PASCAL_VOC,
    "mapillary": MAPILLARY,
}
STILLS = ("coco", "pascal_voc", "mapillary")
ANNOTATIONS_VARIABLE = "STEMSEG_JSON_ANNOTATIONS_DIR"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parse_arguments(arguments)
    try:
        output = output_dir(args.output)
        plans = make_plans(args)
        summaries = run_plans(plans, output, workers=args.workers, skip_invalid=args.skip_invalid)
    except StemsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, summaries)))
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="prepare_dataset.py"
    )
    subparsers = parser.add_subparsers(dest="dataset", required=True, metavar="DATASET")
    for name, dataset in DATASETS.items():
        subparser = subparsers.add_parser(
            name,
            help=dataset.help,
            description=sys.modules[dataset.add_arguments.__module__].__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_common_arguments(subparser, is_video=name not in STILLS)
        dataset.add_arguments(subparser)
    return parser.parse_args(arguments)


def add_common_arguments(parser: argparse.ArgumentParser, *, is_video: bool) -> None:
    """The flags that every dataset has, and those of every video dataset."""
    parser.add_argument("root", metavar="ROOT", help="folder of the official download")
    parser.add_argument(
        "--output", "-o", metavar="DIR", help=f"folder of the JSON files (default: ${ANNOTATIONS_VARIABLE})"
    )
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--skip-invalid", action="store_true", help="leave out entries with problems instead of stopping"
    )
    if is_video:
        parser.add_argument("--split", type=float, metavar="FRACTION", help="hold out this part of the training set")
        parser.add_argument("--seed", type=int, default=0, help="which part --split holds out (default: 0)")


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
    return Path(value).expanduser()


def make_plans(args: argparse.Namespace) -> list[Plan]:
    """The files to write, with the training set split where that was asked for.

    Raises:
        DataError: where ROOT is not the folder tree that the dataset has.
    """
    root = Path(args.root).expanduser()
    if not root.is_dir():
        raise DataError(f"ROOT is '{root}', which is not a folder; give the folder of the official download")
    plans = DATASETS[args.dataset].make_plans(root, args)
    if getattr(args, "split", None) is None:
        return plans
    if not any(plan.filename.endswith("_train.json") for plan in plans):
        raise ConfigError("--split divides the training set, but --only leaves it out; drop one of the two")
    split = [split_plan(p, args.split, args.seed) if p.filename.endswith("_train.json") else [p] for p in plans]
    return [plan for part in split for plan in part]


if __name__ == "__main__":
    sys.exit(main())
