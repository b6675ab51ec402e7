"""Put a trained model into one file: float16 weights, configuration, class names, and where they come from.

    python scripts/pack_model.py CKPT -o stemseg/pretrained/laptop.pth --about "training=..." "license=..."

A file in stemseg/pretrained/ is loaded by its name wherever a checkpoint is asked for, any other by its path.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a clone runs without being installed


from stemseg.config import load_config
from stemseg.data.dataset import training_category_names
from stemseg.modeling.model_files import ModelInfo, pack_model, read_model_info
from stemseg.modeling.network import build_network
from stemseg.modeling.weights import find_checkpoint, load_model_weights, save_weights_file
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.errors import ConfigError


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", help="a training checkpoint, with its config.yaml beside it")
    add("--output", "-o", required=True, type=Path, metavar="FILE", help="file to write, *.pth")
    add("--cfg", help="configuration; by default config.yaml beside the checkpoint")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override single configuration keys")
    add("--about", nargs="+", default=[], metavar="TITLE=TEXT", help="what people should know; @FILE reads the text")
    add("--float32", action="store_true", help="keep the weights in full precision: twice as large")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = parse_arguments(arguments)
    return run_command(lambda: pack(args))


def pack(args: argparse.Namespace) -> None:
    """Write the file that the options describe."""
    path = find_checkpoint(args.checkpoint)
    cfg = load_config(args.cfg or path.parent / "config.yaml", args.set)
    network = build_network(cfg)
    load_model_weights(network, path)  # so that what is packed is known to fit the configuration
    names = {} if cfg.INPUT.NUM_CLASSES == 2 else read_model_info(path).category_names
    if not names and cfg.INPUT.NUM_CLASSES > 2:
        names = dict(training_category_names(cfg))
    info = ModelInfo(config=cfg.to_dict(), category_names=names, about=dict(map(_read_about, args.about)))
    content = pack_model(network.state_dict(), info, half=not args.float32)
    save_weights_file(args.output, content)
    count = sum(value.numel() for value in content["model"].values())
    print(f"{args.output}: {count:,} weights, {args.output.stat().st_size / 2**20:.1f} MiB")


def _read_about(text: str) -> tuple[str, str]:
    title, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--about {text} has no '='; write for example --about license='for research only'")
    return title, Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value


if __name__ == "__main__":
    sys.exit(main())
