"""From nothing to segmented videos: ``python scripts/quickstart.py``.

Makes the environment and segments a video with the model that ships with the package: the one that ``--input``
names, or a generated one. Then generates videos of moving textured objects, trains a small network on them from
scratch, segments held-out videos, measures the result with the official metrics, and writes pictures and an overlay
video. Needs no GPU, data or downloads beyond the Python packages. Each step is one of the project's own commands, which
it prints: run them by hand with another configuration to scale up.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from environment import ROOT, enter_environment

sys.path.insert(0, str(ROOT))  # a clone runs without being installed

from stemseg.utils.arguments import CommandParser  # which needs no package that is not there yet

MODEL_NAME = "quickstart"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", nargs="+", help="video of your own to segment first (default: a generated one)")
    parser.add_argument("--output", type=Path, default=ROOT / "workspace" / "quickstart", help="folder to write to")
    parser.add_argument("--cfg", default="quickstart.yaml", help="configuration to train")
    parser.add_argument("--num_train", type=int, default=320, help="videos to train on")
    parser.add_argument("--num_val", type=int, default=12, help="held-out videos")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="configuration overrides")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps, each only where its result is not there yet; returns the exit code."""
    args = parse_arguments(arguments)
    enter_environment()
    run = Steps(args.output.resolve(), args.device)
    if args.input:
        run.first_look([_from_anywhere(text) for text in args.input])
    run.generate(args.num_train, args.num_val)
    if not args.input:
        run.first_look([str(sorted((run.videos / "val").iterdir())[0])])
    run.train(args.cfg, args.set)
    run.segment()
    run.measure()
    run.say_where_to_look()
    return 0


class Steps:
    """The commands of the quickstart, each of which is printed and run.

    Args:
        output: the folder of everything that they write.
        device: where networks run.
    """

    def __init__(self, output: Path, device: str) -> None:
        self.videos = output / "videos"
        self._output = output
        self._device = ["--device", device]
        self._results = output / "results"
        self._environment = quickstart_environment(output)
        self._start = time.perf_counter()
        self._pages: list[Path] = []

    def first_look(self, inputs: Sequence[str]) -> None:
        """Segment videos with the model that ships with the package."""
        folder = self._output / "first_look" / Path(inputs[0]).stem
        self._run("Segment a video with the model that ships with the package", "stemseg/inference/main.py", "laptop",
                  "--input", *inputs, "--output_dir", str(folder), "--save_vis", *self._device)  # fmt: skip
        self._pages.append(folder / "report.html")
        print(f"\nLook at {self._pages[-1]} while the rest goes on", flush=True)

    def generate(self, num_train: int, num_val: int) -> None:
        """Generate videos to train on and to measure with, where there are none yet."""
        if (self.videos / "val.json").is_file():
            return
        self._run("Generate videos", "scripts/generate_videos.py", "--output", str(self.videos), "--preview",
                  "--distinct_classes", "--workers", str(min(4, os.cpu_count() or 1)),
                  "--num_train", str(num_train), "--num_val", str(num_val))  # fmt: skip

    def train(self, cfg: str, overrides: Sequence[str]) -> None:
        """Train a network from scratch."""
        self._run("Train from scratch", "stemseg/training/main.py", "--model_dir", MODEL_NAME, "--cfg", cfg,
                  *self._device, "--num_cpu_workers", "0", *(["--set", *overrides] if overrides else []))  # fmt: skip

    def segment(self) -> None:
        """Segment the held-out videos with it."""
        checkpoints = self._output / "models" / "checkpoints" / "custom" / MODEL_NAME
        shutil.rmtree(self._results, ignore_errors=True)
        self._run("Segment held-out videos", "stemseg/inference/main.py", str(max(checkpoints.glob("[0-9]*.pth"))),
                  "--output_dir", str(self._results), "--dataset", "custom", "--resize_embeddings", "--save_vis",
                  "--evaluate", *self._device)  # fmt: skip
        self._pages.append(self._results / "report.html")

    def measure(self) -> None:
        """Draw what was segmented worst."""
        self._run("Draw the worst cases", "scripts/evaluate.py", "--dataset", "custom", "--results",
                  str(self._results / "results.json"), "--gt", str(self.videos / "val.json"),
                  "--images", str(self.videos / "val"), "--output", str(self._output / "evaluation"),
                  "--worst", "4")  # fmt: skip

    def say_where_to_look(self) -> None:
        """Name the pages and folders that are worth a look."""
        print(f"\nDone in {self._seconds():.0f} s. Look at:")
        for page in self._pages:
            print(f"  {page}  videos and what was found in them")
        print(f"  {self.videos / 'train.png'}  what was trained on")
        print(f"  {self._output / 'evaluation'}  what was segmented worst")

    def _run(self, title: str, *command: str) -> None:
        print(f"\n== {title} ({self._seconds():.0f} s)\n$ python {shlex.join(command)}", flush=True)
        status = subprocess.call([sys.executable, *command], cwd=ROOT, env=self._environment)
        if status:
            sys.exit(
                f"this step ended with status {status}; mend the cause and run the quickstart again: it goes on here"
            )

    def _seconds(self) -> float:
        return time.perf_counter() - self._start


def _from_anywhere(text: str) -> str:
    """An input as the steps, which run in the clone's root, find it: a camera's number, a whole path or pattern."""
    return text if text.isdecimal() else str(Path(text).expanduser().absolute())


def quickstart_environment(output: Path) -> dict[str, str]:
    """The variables that the main scripts read, all pointing below ``output``."""
    return {
        **os.environ,
        "STEMSEG_QUICKSTART_DIR": str(output),
        "STEMSEG_MODELS_DIR": str(output / "models"),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }


if __name__ == "__main__":
    sys.exit(main())
