"""The command line of inference (method.md §12), and the configuration that it means."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemseg.config import Config, load_config
from stemseg.data.preprocessing import build_preprocessor
from stemseg.datasets import DATASETS, find_dataset, spellings, video_datasets
from stemseg.inference.inputs import data_section
from stemseg.utils.arguments import CommandParser, checked, count
from stemseg.utils.errors import ConfigError

_DESCRIPTION = """Segment and track every object of a dataset's sequences, or of a video of your own. An interrupted run
goes on with the same command. Several processes: torchrun --nproc_per_node K stemseg/inference/main.py ..."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=_DESCRIPTION)
    add = parser.add_argument
    add("checkpoint", type=Path, help="weights: a training checkpoint, or a plain state dict")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--dataset",
        "-d",
        type=checked(lambda name: find_dataset(name, video_datasets()).name),
        metavar="NAME",
        help=f"segment this dataset's sequences: {', '.join(spellings(DATASETS[name]) for name in video_datasets())}",
    )
    what.add_argument("--input", type=Path, metavar="PATH", help="segment a video file, or a folder of images")
    add("--output_dir", "-o", type=Path, help="default: inference/ beside the checkpoint")
    add("--split", default="val", help="split of the dataset (default: val)")
    add("--seqs", nargs="+", default=[], metavar="ID", help="segment only these sequences")
    add("--max_tracks", type=count, metavar="N", help="tracks kept of each video, longest-lived first")
    add("--frame_overlap", "-fo", type=count, metavar="N", help="frames that consecutive clips share")
    add("--seediness_thresh", "-st", type=float, metavar="P", help="without a semantic head: foreground is above this")
    add("--min_seediness_prob", "-msp", type=float, metavar="P", help="no instance starts at a seediness below this")
    add("--min_dim", type=count, metavar="PIXELS", help="shorter side of the network's input; alone it keeps the ...")
    add("--max_dim", type=count, metavar="PIXELS", help="... configured ratio to the longer side, and vice versa")
    add("--resize_embeddings", action="store_true", help="cluster at the network's input size: slower, finer masks")
    add("--save_vis", action="store_true", help="also write overlays: a picture per frame and a video per sequence")
    add("--evaluate", action="store_true", help="then measure the results with the dataset's official metrics")
    add("--overwrite", action="store_true", help="replace results that were made with other settings")
    add("--cfg", help="configuration: a name in configs/, or a file; by default config.yaml beside the checkpoint")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override single configuration keys")
    add("--device", help="cpu, cuda, cuda:1, ...; by default a GPU where there is one")
    add("--clustering_device", metavar="DEVICE", help="cluster there instead, to spare the GPU's memory")
    add("--amp", choices=("none", "bf16", "fp16"), help="mixed precision")
    add("--num_cpu_workers", type=count, default=4, metavar="N", help="threads that read frames ahead (default: 4)")
    options = parser.parse_args(arguments)
    if options.evaluate and options.dataset is None:
        parser.error("--evaluate needs annotations: give --dataset (custom for a dataset of your own), not --input")
    return options


def load_run_config(options: argparse.Namespace) -> Config:
    """The configuration of a run: the checkpoint's, changed by the flags, then by ``--set``.

    Raises:
        ConfigError: where there is none, or a flag's value makes no sense.
    """
    source = _config_source(options)
    cfg = load_config(source, options.set)
    section = f"DATA.{data_section(options.dataset, cfg)}"
    changes: dict[str, Any] = {
        f"{section}.MAX_INFERENCE_TRACKS": options.max_tracks,
        f"{section}.INFERENCE_FRAME_OVERLAP": options.frame_overlap,
        "INFERENCE.SEEDINESS_THRESHOLD": options.seediness_thresh,
        "INFERENCE.RESIZE_EMBEDDINGS": "true" if options.resize_embeddings else None,
        "INFERENCE.AMP": options.amp,
        "CLUSTERING.MIN_SEEDINESS_PROB": options.min_seediness_prob,
        **_input_size(options, cfg),
    }
    flags = [f"{key}={value}" for key, value in changes.items() if value is not None]
    return load_config(source, [*flags, *options.set])


def output_directory(options: argparse.Namespace) -> Path:
    """The folder that results go to."""
    return options.output_dir or options.checkpoint.parent / "inference"


def run_settings(options: argparse.Namespace, cfg: Config, origin: str, checkpoint_hash: str) -> dict[str, Any]:
    """Everything that a sequence's tracks depend on."""
    rules = cfg.DATA[data_section(options.dataset, cfg)]
    config = {name: cfg[name].to_dict() for name in ("INPUT", "MODEL", "CLUSTERING", "INFERENCE")}
    # has no effect on results, like the devices and the number of workers
    del config["INFERENCE"]["FRAMES_PER_BATCH"], config["MODEL"]["BACKBONE"]["PRETRAINED_WEIGHTS"]
    return {
        "checkpoint": {"name": options.checkpoint.name, "sha256": checkpoint_hash},
        "videos": origin,
        "max_tracks": rules.MAX_INFERENCE_TRACKS,
        "frame_overlap": rules.INFERENCE_FRAME_OVERLAP,
        "config": config,
    }


def _config_source(options: argparse.Namespace) -> str | Path:
    beside = options.checkpoint.parent / "config.yaml"
    if options.cfg is not None:
        return options.cfg
    if beside.is_file():
        return beside
    if options.dataset is not None and (published := find_dataset(options.dataset).config) is not None:
        return published
    raise ConfigError(
        f"there is no config.yaml beside {options.checkpoint}, so the network's configuration is unknown; give the one "
        "that it was trained with, for example --cfg youtube_vis"
    )


def _input_size(options: argparse.Namespace, cfg: Config) -> dict[str, int]:
    if options.min_dim is None and options.max_dim is None:
        return {}
    preprocessor = build_preprocessor(cfg, min_dim=options.min_dim, max_dim=options.max_dim)
    return {"INPUT.MIN_DIM": preprocessor.min_dim, "INPUT.MAX_DIM": preprocessor.max_dim}
