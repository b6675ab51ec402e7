"""Show what training really sees: clips of any configuration with instance ids, class names and ignore regions.

    python scripts/visualize_clips.py --cfg davis_1 -o workspace/clips
    python scripts/visualize_clips.py --cfg davis_1 --set 'DATA.MIX={coco: 1.0}' TRAINING.SEED=3 --num_clips 4 -o OUT

Writes a contact sheet OUT/clip_000000.png for each clip (number = sample of the run) and all of them in OUT/clips.mp4.
Instances are painted in their id's color with "id class"; ignore regions are striped; pixels from outside the image
have the mean color, which is zero after normalization.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed

import cv2
import numpy as np
from tqdm import tqdm

from stemseg.config import load_config
from stemseg.data.dataset import build_training_dataset, training_category_names
from stemseg.data.preprocessing import ImagePreprocessor, build_preprocessor
from stemseg.structures.clip import Clip, ClipTargets
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.drawing import VideoWriter, draw_instances, draw_text, tile, write_image

_STRIPE = 6  # pixels: width of the stripes of an ignore region


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = CommandParser(description=__doc__.splitlines()[0], formatter_class=formatter)
    parser.add_argument("--cfg", required=True, help="a name in configs/, or a file")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override keys")
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder to write to")
    parser.add_argument("--num_clips", type=int, default=8, help="clips to show")
    parser.add_argument("--start", type=int, default=0, help="first sample of the run to show")
    parser.add_argument("--width", type=int, default=480, help="pixels of a frame in sheet and video")
    parser.add_argument("--fps", type=float, default=4.0, help="frames a second of the video")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: visualize(args))


def visualize(args: argparse.Namespace) -> None:
    """Write a sheet for each clip, and the video of all."""
    cfg = load_config(args.cfg, args.set)
    dataset, names, preprocessor = build_training_dataset(cfg), training_category_names(cfg), build_preprocessor(cfg)
    stop = min(args.start + args.num_clips, len(dataset))
    with VideoWriter(args.output / "clips.mp4", fps=args.fps) as video:
        for index in tqdm(range(args.start, stop), desc="clips", unit="clip"):
            clip = dataset[index].unpack()
            frames = [shrink(frame, args.width) for frame in draw_clip(clip, names, preprocessor)]
            columns = -(-len(frames) // 2) if len(frames) > 4 else len(frames)
            write_image(args.output / f"clip_{index:06d}.png", with_title(tile(frames, columns), clip.name))
            for frame in frames:
                video.write(letterbox(frame, args.width, args.width * 3 // 4))
    print(f"wrote contact sheets and clips.mp4 to {args.output}")


def draw_clip(clip: Clip, names: Mapping[int, str], preprocessor: ImagePreprocessor) -> list[np.ndarray]:
    """T images [H, W, 3] uint8 of a clip with its targets painted over its frames."""
    images = preprocessor.restore(clip.frames)
    return [draw_frame(image, clip.targets, t, names) for t, image in enumerate(images)]


def draw_frame(image: np.ndarray, targets: ClipTargets, t: int, names: Mapping[int, str]) -> np.ndarray:
    """Frame ``t`` with ignore stripes, masks and captions; instance i is drawn as id i + 1."""
    masks = {i + 1: mask for i, mask in enumerate(targets.masks[:, t].numpy()) if mask.any()}
    captions = {i: f"{i} {names[int(targets.category_ids[i - 1])]}" for i in masks}
    return draw_instances(draw_ignored(image, targets.ignore_mask[t].numpy()), masks, captions)


def draw_ignored(image: np.ndarray, ignore: np.ndarray) -> np.ndarray:
    """Stripe the ignored pixels of an image: every second diagonal band is darkened."""
    rows, columns = np.indices(ignore.shape, sparse=True)
    striped = ((rows + columns) // _STRIPE % 2 == 0) & (ignore != 0)
    result = image.copy()
    result[striped] = result[striped] // 3
    return result


def shrink(image: np.ndarray, width: int) -> np.ndarray:
    """The image at another width, its proportions kept."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def letterbox(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image fitted into ``width`` x ``height`` with black bars: frames of one video must have one size."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return canvas


def with_title(sheet: np.ndarray, title: str) -> np.ndarray:
    """A sheet with a line of text above it."""
    bar = np.zeros((28, sheet.shape[1], 3), dtype=np.uint8)
    draw_text(bar, title, (6, 20))
    return np.vstack([bar, sheet])


if __name__ == "__main__":
    sys.exit(main())
