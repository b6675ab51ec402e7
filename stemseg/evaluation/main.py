"""Measure results with the official metrics: AP (YouTube-VIS, OVIS), J and F (DAVIS), sMOTSA and HOTA (KITTI-MOTS).

    stemseg-evaluate --dataset ytvis --results OUT/results.json --gt youtube_vis_val.json
    stemseg-evaluate --dataset davis --results OUT --gt $DAVIS_BASE_DIR --output OUT/evaluation
    stemseg-evaluate --dataset kittimots --results OUT --gt instances_txt --sequences val.seqmap

``--output`` also gets metrics.json, CSV files and charts; ``--worst K --images DIR`` draws what was segmented worst.
``--oracle`` says what AP is lost to: it is computed again with the tracks in the true order (each one's true IoU as its
score: the most that better scores could reach), with true identities (an object's masks of all frames joined), true
masks (of the objects that they belong to) and true classes, one at a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stemseg.datasets import DATASETS, find_dataset, spellings, video_datasets
from stemseg.utils.arguments import DEFAULT_WORKERS, CommandParser, checked, count, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_arguments(arguments)
    return run_command(lambda: evaluate(options))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(
        prog="stemseg-evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--dataset",
        "-d",
        required=True,
        type=checked(lambda name: find_dataset(name, video_datasets()).name),
        metavar="NAME",
        help=f"whose metrics and file formats: {', '.join(spellings(DATASETS[name]) for name in video_datasets())}",
    )
    add(
        "--results",
        required=True,
        type=Path,
        metavar="PATH",
        help="inference's output folder, or the result files in it",
    )
    add("--gt", required=True, type=Path, metavar="PATH", help="standard JSON, or the official file or folder")
    add("--output", "-o", type=Path, metavar="DIR", help="write metrics.json, CSV files, charts and pictures here")
    add("--sequences", nargs="+", metavar="NAME", help="evaluate these alone; or one list file (ImageSet, seqmap)")
    add("--worst", type=count, default=0, metavar="K", help="draw the K worst cases into --output; needs --images")
    add("--images", type=Path, metavar="DIR", help="folder that the image paths of the ground truth are relative to")
    add("--class_agnostic", action="store_true", help="AP without regard to classes")
    add("--oracle", action="store_true", help="AP: also with true order, identities, masks or classes")
    add("--semi_supervised", action="store_true", help="DAVIS: without first and last frame, ids as they are")
    add("--all_objects", action="store_true", help="DAVIS: also objects that enter after the first frame")
    add("--workers", type=count, default=DEFAULT_WORKERS, metavar="N", help=f"processes (default: {DEFAULT_WORKERS})")
    options = parser.parse_args(arguments)
    if options.worst and (options.output is None or options.images is None):
        parser.error("--worst needs --output, where the pictures go, and --images, the folder of the videos' frames")
    if options.oracle and find_dataset(options.dataset).evaluator != "youtube_vis":
        parser.error(f"--oracle is about AP, which {options.dataset} is not measured by; --dataset custom measures AP")
    return options


def evaluate(options: argparse.Namespace) -> None:
    """Measure the results that the options name, print the tables, and write what --output asks for."""
    from stemseg.evaluation.evaluate import RunOptions, run_evaluation  # here, so that --help answers at once
    from stemseg.evaluation.ground_truth import read_sequence_names
    from stemseg.evaluation.report import console_text, write_evaluation
    from stemseg.utils.files import make_folder

    if options.output is not None:
        make_folder(options.output)  # what can't be written is said before anything is measured
    run = RunOptions(
        results=options.results,
        ground_truth=options.gt,
        sequences=read_sequence_names(options.sequences) if options.sequences else None,
        class_agnostic=options.class_agnostic,
        oracle=options.oracle,
        semi_supervised=options.semi_supervised,
        all_objects=options.all_objects,
        workers=options.workers,
        progress=True,
    )
    evaluation = run_evaluation(find_dataset(options.dataset).evaluator, run)
    print(console_text(evaluation.report))
    if options.output is not None:
        paths = write_evaluation(evaluation, options.output, worst=options.worst, images=options.images)
        print(f"\nwrote {len(paths)} files to {options.output}")


if __name__ == "__main__":
    sys.exit(main())
