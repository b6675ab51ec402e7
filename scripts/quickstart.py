"""From nothing to segmented videos: ``python scripts/quickstart.py``.

Makes the environment and segments a video with the model that ships with the package: the one that ``--input``
names, or a generated one. Then generates more videos of moving textured objects, trains a small network on them from
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
    start = time.perf_counter()
    output = args.output.resolve()
    environment = quickstart_environment(output)
    checkpoints = output / "models" / "checkpoints" / "custom" / MODEL_NAME
    results = output / "results"
    videos, overrides = output / "videos", ["--set", *args.set] if args.set else []

    def step(title: str, *command: str) -> None:
        print(f"\n== {title} ({time.perf_counter() - start:.0f} s)\n$ python {shlex.join(command)}", flush=True)
        status = subprocess.call([sys.executable, *command], cwd=ROOT, env=environment)
        if status:
            sys.exit(
                f"this step ended with status {status}; mend the cause and run the quickstart again: it goes on here"
            )

    if not (videos / "val.json").is_file():
        sizes = ["--num_train", str(args.num_train), "--num_val", str(args.num_val)]
        step("Generate videos", "scripts/generate_videos.py", "--output", str(videos), "--preview",
             "--distinct_classes", "--workers", str(min(4, os.cpu_count() or 1)), *sizes)  # fmt: skip
    first = args.input or [str(sorted((videos / "val").iterdir())[0])]
    step("Segment a video with the model that ships with the package", "stemseg/inference/main.py", "laptop", "--input",
         *first, "--output_dir", str(output / "first_look"), "--save_vis", "--device", args.device)  # fmt: skip
    print(f"\nLook at {output / 'first_look' / 'report.html'} while the rest goes on", flush=True)
    step("Train from scratch", "stemseg/training/main.py", "--model_dir", MODEL_NAME, "--cfg", args.cfg,
         "--device", args.device, "--num_cpu_workers", "0", *overrides)  # fmt: skip
    checkpoint = max(checkpoints.glob("[0-9]*.pth"))
    shutil.rmtree(results, ignore_errors=True)
    step("Segment held-out videos", "stemseg/inference/main.py", str(checkpoint), "--output_dir", str(results),
         "--dataset", "custom", "--resize_embeddings", "--save_vis", "--evaluate", "--device", args.device)  # fmt: skip
    step("Draw the worst cases", "scripts/evaluate.py", "--dataset", "custom", "--results",
         str(results / "results.json"), "--gt", str(videos / "val.json"), "--images", str(videos / "val"),
         "--output", str(output / "evaluation"), "--worst", "4")  # fmt: skip
    print(f"\nDone in {time.perf_counter() - start:.0f} s. Look at:")
    print(f"  {output / 'first_look'}  the first video, segmented by the model that ships with the package")
    print(f"  {videos / 'train.png'}  what was trained on\n  {results}  overlays and videos\n  {output / 'evaluation'}")
    return 0


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
