"""Ablation of the appearance flow: one command trains every variant with the same budget and compares them.

    python scripts/experiments/appearance_flow/main.py --output workspace/ablation --device cuda --jobs 8

Generates videos in which look-alikes meet and cross or turn back (only by their color can identities be kept),
trains each variant with each seed on them, segments the held-out videos and measures. After each run it prints means
and spreads over the seeds of all runs in OUT, which also go to OUT/ablation.md and OUT/ablation.json. Interrupted, the
same command goes on; with more seeds or variants it runs those alone. ``--add`` tries an idea of your own:

    python scripts/experiments/appearance_flow/main.py --output workspace/ablation \\
        --add light conditional TRAINING.LOSSES.WEIGHT_OFFSET=0.1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # a clone runs without being installed

from scripts.experiments.appearance_flow.report import difference_rows, markdown_table, table_rows, text_table, to_json
from scripts.experiments.appearance_flow.runs import Budget, Run, check_budget, execute_all, finished_results
from scripts.experiments.appearance_flow.variants import VARIANTS, Variant
from stemseg.data.synthetic.dataset import generate_dataset
from stemseg.data.synthetic.scenes import SceneOptions
from stemseg.utils.arguments import DEFAULT_WORKERS, CommandParser, run_command
from stemseg.utils.files import write_text

CLASSES = ("disc", "square", "triangle")
FRAME_SIZE = (64, 96)
VIDEO_LENGTH = 16
MAX_OBJECTS = 4  # one or two pairs of look-alikes, and perhaps a single one


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", "-o", type=Path, required=True, help="folder for videos, runs and tables")
    add("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS, metavar="NAME", help=", ".join(VARIANTS))
    add("--add", nargs="+", action="append", default=[], metavar=("NAME", "BASE"),
        help="another variant: its name, the one it derives from, and KEY=VALUE overrides")  # fmt: skip
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    add("--baseline", default="stemseg", metavar="NAME", choices=VARIANTS,
        help="what the others are compared with, seed by seed (default: stemseg)")  # fmt: skip
    add("--iterations", type=int, default=700, help="optimizer steps of each run (default: 700)")
    add("--cfg", default="ablation", help="configuration that the variants change (default: ablation)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides for every variant")
    add("--videos", type=Path, help="your own train.json, val.json and frames in train/, val/; by default generated")
    add("--hue_turn", type=float, nargs=2, default=(20, 45), metavar=("LOW", "HIGH"),
        help="degrees between the hues of two look-alikes, the smaller the more alike (default: 20 45)")  # fmt: skip
    add("--num_train", type=int, default=320, help="generated videos to train on (default: 320)")
    add("--num_val", type=int, default=64, help="generated videos to measure on (default: 64)")
    add("--device", default="cpu", help="cpu, cuda or mps")
    add("--jobs", type=int, default=1, help="runs at a time")
    add("--workers", type=int, default=0, help="data-loading processes of each run")
    args = parser.parse_args(arguments)
    for extra in args.add:
        if len(extra) < 2 or extra[1] not in VARIANTS or extra[0] in VARIANTS:
            parser.error(f"--add {' '.join(extra)}: expected a new name and one of {', '.join(VARIANTS)}")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: compare(args))


def compare(args: argparse.Namespace) -> None:
    """Train and measure the variants that the options name, and compare them."""
    torch.set_num_threads(1)  # runs share the cores by being many, and so do their measurements
    budget = Budget(
        output=args.output.resolve(),
        videos=args.videos or generate_videos(args),
        config=args.cfg,
        iterations=args.iterations,
        overrides=args.set,
        device=args.device,
        workers=args.workers,
    )
    # seed by seed, so that there is a whole table, if a wide one, as early as possible
    runs = [Run(variant, seed, budget) for seed in args.seeds for variant in chosen_variants(args)]
    check_budget(budget)
    run_and_report(runs, budget.output, args)
    print(f"\nwrote {args.output / 'ablation.md'} and {args.output / 'ablation.json'}")


def generate_videos(args: argparse.Namespace) -> Path:
    """Write the look-alikes' videos where they are not there yet; returns their folder."""
    folder = args.output / "videos_{}_{}_hue_{:g}_{:g}".format(args.num_train, args.num_val, *args.hue_turn)
    if not (folder / "val.json").is_file():  # written last
        options = SceneOptions(
            *FRAME_SIZE, VIDEO_LENGTH, MAX_OBJECTS, CLASSES, hard=True, hue_turn=tuple(args.hue_turn)
        )
        generate_dataset(folder, (args.num_train, args.num_val), options, workers=DEFAULT_WORKERS)
    return folder


def chosen_variants(args: argparse.Namespace) -> list[Variant]:
    """The variants that the command line names, then those that it adds."""
    added = [
        Variant(name, f"{base} with {', '.join(changes)}", (*VARIANTS[base].overrides, *changes))
        for name, base, *changes in args.add
    ]
    return [*(VARIANTS[name] for name in args.variants), *added]


def run_and_report(runs: Sequence[Run], output: Path, args: argparse.Namespace) -> None:
    """Execute runs, and after each print and write the table of all that are done in the folder."""
    descriptions = {v.name: v.description for v in [*VARIANTS.values(), *(run.variant for run in runs)]}

    def finished(run: Run) -> None:
        results = finished_results(output)
        tables = [table_rows(results), difference_rows(results, args.baseline)]
        text = "\n\n".join(text_table(rows) for rows in tables)
        print(f"\n{run.variant.name}, seed {run.seed} is done\n\n{text}", flush=True)
        notes = "\n".join(f"- `{name}`: {descriptions.get(name, 'added before')}" for name in results)
        means, gains = (markdown_table(rows) for rows in tables)
        content = f"{means}\n\nMore than `{args.baseline}`, paired by seed, ± standard error:\n\n{gains}\n\n{notes}\n"
        write_text(output / "ablation.md", content)
        write_text(output / "ablation.json", json.dumps(to_json(results), indent=1))

    execute_all(runs, jobs=args.jobs, finished=finished)


if __name__ == "__main__":
    sys.exit(main())
