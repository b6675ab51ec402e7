"""Measure results with the official metrics: AP (YouTube-VIS, OVIS), J and F (DAVIS), sMOTSA and HOTA (KITTI-MOTS).

    python scripts/evaluate.py --dataset ytvis --results OUT/results.json --gt youtube_vis_val.json
    python scripts/evaluate.py --dataset davis --results OUT --gt $DAVIS_BASE_DIR --output OUT/evaluation
    python scripts/evaluate.py --dataset kittimots --results OUT --gt instances_txt --sequences val.seqmap

``--output`` also gets metrics.json, CSV files and charts; ``--worst K --images DIR`` draws what was segmented worst.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

from stemseg.evaluation.evaluate import DEFAULT_WORKERS, RunOptions, run_evaluation
from stemseg.evaluation.ground_truth import read_sequence_names
from stemseg.evaluation.report import console_text, write_evaluation
from stemseg.utils.errors import StemsegError

# names as inference's --dataset has them
KINDS = {
    "davis": "davis",
    "ytvis": "youtube_vis",
    "ytvis21": "youtube_vis",
    "ovis": "youtube_vis",
    "custom": "youtube_vis",
    "kittimots": "kitti_mots",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--dataset", "-d", required=True, choices=tuple(KINDS), help="whose metrics and file formats")
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
    add("--worst", type=int, default=0, metavar="K", help="draw the K worst cases into --output; needs --images")
    add("--images", type=Path, metavar="DIR", help="folder that the image paths of the ground truth are relative to")
    add("--class_agnostic", action="store_true", help="AP without regard to classes")
    add("--semi_supervised", action="store_true", help="DAVIS: without first and last frame, ids as they are")
    add("--all_objects", action="store_true", help="DAVIS: also objects that enter after the first frame")
    add("--workers", type=int, default=DEFAULT_WORKERS, metavar="N", help=f"processes (default: {DEFAULT_WORKERS})")
    args = parser.parse_args(argv)
    if args.worst and (args.output is None or args.images is None):
        parser.error("--worst needs --output, where the pictures go, and --images, the folder of the videos' frames")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate what the command line names."""
    args = parse_arguments(argv)
    try:
        options = RunOptions(
            results=args.results,
            ground_truth=args.gt,
            sequences=read_sequence_names(args.sequences) if args.sequences else None,
            class_agnostic=args.class_agnostic,
            semi_supervised=args.semi_supervised,
            all_objects=args.all_objects,
            workers=args.workers,
            progress=True,
        )
        evaluation = run_evaluation(KINDS[args.dataset], options)
        print(console_text(evaluation.report))
        if args.output is not None:
            paths = write_evaluation(evaluation, args.output, worst=args.worst, images=args.images)
            print(f"\nwrote {len(paths)} files to {args.output}")
    except StemsegError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
