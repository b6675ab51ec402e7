"""Generate a small but honest dataset of videos with exact instance masks, from nothing but a seed.

Textured objects of several classes move, turn, overlap, leave the frame and come back over moving textured
backgrounds. An object's class is its shape; texture and color are drawn anew for every object. ``--distinct_classes``
gives each class a kind of texture and a range of hues, too. ``--hard`` makes pairs of look-alikes whose positions
coincide for a while, so that only their color tells afterwards which is which.

    python scripts/generate_videos.py --output workspace/videos --preview

Writes OUT/train.json, OUT/val.json and the frames OUT/train/<video>/00000.jpg, OUT/val/<video>/00000.jpg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

from stemseg.data.synthetic.dataset import SPLITS, generate_dataset, write_preview
from stemseg.data.synthetic.scenes import SHAPES, SceneOptions
from stemseg.utils.arguments import CommandParser, run_command


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = CommandParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder to write to")
    parser.add_argument("--num_train", type=int, default=48, help="videos to train on")
    parser.add_argument("--num_val", type=int, default=8, help="held-out videos, of other objects")
    parser.add_argument("--length", type=int, default=20, help="frames of a video")
    parser.add_argument("--size", type=parse_size, default=(96, 160), metavar="HxW", help="frame size in pixels")
    parser.add_argument("--max_objects", type=int, default=4, help="objects of a video at most")
    shapes = f"classes, in the order of their category ids; known: {', '.join(SHAPES)}"
    parser.add_argument("--classes", nargs="+", default=list(SHAPES)[:5], choices=SHAPES, metavar="CLASS", help=shapes)
    parser.add_argument("--hard", action="store_true", help="pairs of look-alikes that meet and cross or turn back")
    turn = "degrees between the hues of two look-alikes, the smaller the more alike"
    parser.add_argument("--hue_turn", type=float, nargs=2, default=(75, 180), metavar=("LOW", "HIGH"), help=turn)
    light = "the light changes from frame to frame: gains of the color channels up to exp(+-LIGHT)"
    parser.add_argument("--light", type=float, default=0.0, help=light)
    distinct = "a class has its own kind of texture and hues beside its shape, and is learned sooner"
    parser.add_argument("--distinct_classes", action="store_true", help=distinct)
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same files")
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--preview", action="store_true", help="also write OUT/<split>.png: frames beside their masks")
    return parser.parse_args(arguments)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of a text like "96x160"."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found '{text}', expected HxW, for example 96x160") from None
    return height, width


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: generate(args))


def generate(args: argparse.Namespace) -> None:
    """Write the dataset that the options describe."""
    classes = tuple(args.classes)
    options = SceneOptions(
        *args.size,
        args.length,
        args.max_objects,
        classes,
        hard=args.hard,
        hue_turn=tuple(args.hue_turn),
        distinct_classes=args.distinct_classes,
        light=args.light,
    )
    num_videos = (args.num_train, args.num_val)
    generate_dataset(args.output, num_videos, options, seed=args.seed, workers=args.workers)
    for split, count in zip(SPLITS, num_videos, strict=True):
        if args.preview and count:
            write_preview(args.output / f"{split}.json", args.output / split, args.output / f"{split}.png")
    print(f"wrote {args.num_train} training and {args.num_val} held-out videos to {args.output}")


if __name__ == "__main__":
    sys.exit(main())
