"""Several bases, and branches of each: what a loss of the appearance adds to the mask loss, tested over bases.

    python scripts/experiments/appearance_flow/branch_main.py --output workspace/branches

Generates videos in which look-alikes are close in hue and the light changes from frame to frame, trains each base on
them by the mask loss, caches its feature maps, and from there on trains each variant with the backbone frozen. After
each base it prints the tables of all that is done in OUT, which also go to OUT/branches.md and OUT/branches.json.
Interrupted, the same command goes on. docs/appearance_flow.md holds the plan, which the defaults are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # a clone runs without being installed

from scripts.experiments.appearance_flow.branch_tables import Results, lead_rows, mean_rows
from scripts.experiments.appearance_flow.branches import (
    BASE,
    BRANCHES,
    Plan,
    branch_config,
    measure_branch,
    train_branch,
)
from scripts.experiments.appearance_flow.cache import CachedClip, encode_clips
from scripts.experiments.appearance_flow.main import CLASSES, FRAME_SIZE, MAX_OBJECTS, VIDEO_LENGTH
from scripts.experiments.appearance_flow.measure import measure_results
from scripts.experiments.appearance_flow.reidentification import whole_videos
from scripts.experiments.appearance_flow.report import markdown_table, text_table
from scripts.experiments.appearance_flow.runs import Budget, Run, check_budget, run_main
from scripts.experiments.appearance_flow.variants import Variant
from stemseg.data.synthetic.dataset import generate_dataset
from stemseg.data.synthetic.scenes import SceneOptions
from stemseg.modeling.network import build_network
from stemseg.modeling.weights import load_model_weights
from stemseg.training.checkpoints import CONFIG_NAME
from stemseg.utils.arguments import DEFAULT_WORKERS, CommandParser, run_command
from stemseg.utils.files import write_text

_WEIGHTS = "weights.pth"
_TRACKED = ("ap", "ap_oracle_order", "switched", "kept")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, plan = parser.add_argument, Plan()
    add("--output", "-o", type=Path, required=True, help="folder for videos, bases, branches and tables")
    add("--variants", nargs="+", default=list(BRANCHES), choices=BRANCHES, metavar="NAME", help=", ".join(BRANCHES))
    add("--bases", type=int, default=6, help="bases, of seeds 0, 1, ... (default: 6)")
    add("--orders", type=int, default=2, help="branches of each variant and base (default: 2)")
    add("--tracked_orders", type=int, default=1, help="of these, in how many the tracks are measured too (default: 1)")
    add("--base_iterations", type=int, default=1500, help="optimizer steps of a base (default: 1500)")
    add("--steps", type=int, default=plan.steps, help=f"optimizer steps of a branch (default: {plan.steps})")
    add("--head_steps", type=int, default=plan.head_steps,
        help=f"steps before them for the loss's own weights alone (default: {plan.head_steps})")  # fmt: skip
    add("--strength", type=float, default=plan.strength,
        help=f"norm of the loss's gradient on A by the mask loss's (default: {plan.strength})")  # fmt: skip
    add("--hue_turn", type=float, nargs=2, default=(5, 15), metavar=("LOW", "HIGH"),
        help="degrees between the hues of two look-alikes (default: 5 15)")  # fmt: skip
    add("--light", type=float, default=0.1, help="gains of the light, up to exp(+-LIGHT) (default: 0.1)")
    add("--num_train", type=int, default=320, help="generated videos to train on (default: 320)")
    add("--num_val", type=int, default=400, help="generated videos to measure on (default: 400)")
    add("--videos", type=Path, help="your own train.json, val.json and frames in train/, val/; by default generated")
    add("--cfg", default="ablation", help="configuration that the variants change (default: ablation)")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="overrides for bases and branches")
    add("--device", default="cpu", help="of the bases: cpu, cuda or mps; branches run on the CPU")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: run_all(args))


def run_all(args: argparse.Namespace) -> None:
    """Train and measure what is not done yet, and print the tables after each base."""
    torch.set_num_threads(1)
    output = args.output.resolve()
    budget = Budget(
        output=output,
        videos=args.videos or generate_videos(args),
        config=args.cfg,
        iterations=args.base_iterations,
        overrides=args.set,
        device=args.device,
    )
    plan = Plan(steps=args.steps, head_steps=args.head_steps, strength=args.strength)
    check_budget(budget, **asdict(plan))
    runs = [Run(BASE, seed, budget) for seed in range(args.bases)]
    for base in runs:
        open_branches = [
            (variant, order)
            for order in range(args.orders)
            for variant in (BRANCHES[name] for name in args.variants)
            if not _figures_path(base, variant, order).is_file()
        ]
        if open_branches:
            run_base(base, plan, open_branches)
            report(output)
    for base in runs:  # the slow secondary figures after the primary ones of all bases
        for name in args.variants:
            for order in range(min(args.tracked_orders, args.orders)):
                add_track_figures(base, BRANCHES[name], order)
    report(output)
    print(f"\nwrote {args.output / 'branches.md'} and {args.output / 'branches.json'}")


def generate_videos(args: argparse.Namespace) -> Path:
    """Write the look-alikes' videos where they are not there yet; returns their folder."""
    name = "videos_{}_{}_hue_{:g}_{:g}_light_{:g}".format(args.num_train, args.num_val, *args.hue_turn, args.light)
    folder = args.output / name
    if not (folder / "val.json").is_file():  # written last
        options = SceneOptions(*FRAME_SIZE, VIDEO_LENGTH, MAX_OBJECTS, CLASSES, hard=True,
                               hue_turn=tuple(args.hue_turn), light=args.light)  # fmt: skip
        generate_dataset(folder, (args.num_train, args.num_val), options, workers=DEFAULT_WORKERS)
    return folder


def run_base(base: Run, plan: Plan, branches: Sequence[tuple[Variant, int]]) -> None:
    """Train a base where that is not done, cache its maps, and run branches of it."""
    base.check_settings()
    if base.completed_checkpoint() is None:
        base.train()
    checkpoint = base.completed_checkpoint()
    cfg = branch_config(BASE, base.budget.config, base.common_overrides)
    network = build_network(cfg)
    load_model_weights(network, checkpoint)
    train, held_out = (encode_clips(network, whole_videos(cfg, split, VIDEO_LENGTH)) for split in ("TRAIN", "VAL"))
    for variant, order in branches:
        run_branch(base, variant, order, network.state_dict(), (train, held_out), plan)


def run_branch(
    base: Run,
    variant: Variant,
    order: int,
    weights: dict[str, torch.Tensor],
    videos: tuple[Sequence[CachedClip], Sequence[CachedClip]],
    plan: Plan,
) -> None:
    """Train and measure one branch; its weights go to a folder, its figures to a file beside it.

    Args:
        weights: the base's.
        videos: its maps of the videos to train on and of those held out.
    """
    cfg = branch_config(variant, base.budget.config, base.common_overrides)
    branch = train_branch(variant, weights, videos[0], plan, cfg, order=order)
    figures = {**measure_branch(branch.network, videos[1]), "gradient_scale": branch.gradient_scale}
    path = _figures_path(base, variant, order)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    cfg.save(folder / CONFIG_NAME)
    torch.save({"model": branch.network.state_dict()}, folder / _WEIGHTS)
    write_text(path, json.dumps(figures, indent=1))  # last: it says that the branch is done
    print(f"base {base.seed}, {variant.name}, order {order}: {100 * figures['reidentified']:.2f} %", flush=True)


def add_track_figures(base: Run, variant: Variant, order: int) -> None:
    """Segment the held-out videos with a branch, and add the tracks' figures to its own where they are missing."""
    path = _figures_path(base, variant, order)
    figures = json.loads(path.read_text(encoding="utf-8"))
    if _TRACKED[0] in figures:
        return
    folder, budget = path.with_suffix(""), base.budget
    arguments = [str(folder / _WEIGHTS), "--dataset", "custom", "--output_dir", str(folder / "results"),
                 "--overwrite", "--device", budget.device]  # fmt: skip
    run_main("inference", arguments, log=folder / "inference.log", title=f"inference of {folder}")
    measured = vars(
        measure_results(folder / "results" / "results.json", budget.videos / "val.json", with_classes=False)
    )
    write_text(path, json.dumps(figures | {name: measured[name] for name in _TRACKED}, indent=1))


def read_results(output: Path) -> Results:
    """The figures of all branches that are done, in the order of :data:`BRANCHES`."""
    results: dict[str, dict[int, list[dict[str, float]]]] = {}
    for name in BRANCHES:
        for path in sorted(output.glob(f"branches/base_*/{name}/order_*.json")):
            base = int(path.parent.parent.name.removeprefix("base_"))
            figures = json.loads(path.read_text(encoding="utf-8"))
            results.setdefault(name, {}).setdefault(base, []).append(figures)
    return results


def report(output: Path) -> None:
    """Print the tables of all that is done, and write them."""
    results = read_results(output)
    tables = [mean_rows(results), lead_rows(results, BASE.name)]
    print("\n" + "\n\n".join(map(text_table, tables)), flush=True)
    means, leads = map(markdown_table, tables)
    notes = "\n".join(f"- `{name}`: {BRANCHES[name].description}" for name in results)
    content = f"{means}\n\nMore than `{BASE.name}`, points, mean ± standard error over bases:\n\n{leads}\n\n{notes}\n"
    write_text(output / "branches.md", content)
    write_text(output / "branches.json", json.dumps(results, indent=1))


def _figures_path(base: Run, variant: Variant, order: int) -> Path:
    return base.budget.output / "branches" / f"base_{base.seed}" / variant.name / f"order_{order}.json"


if __name__ == "__main__":
    sys.exit(main())
