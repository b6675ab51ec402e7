"""The command line of inference (method.md §12), and the configuration that it means."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemseg.config import Config, load_config
from stemseg.data.preprocessing import build_preprocessor
from stemseg.datasets import DATASETS, find_dataset, spellings, video_datasets
from stemseg.inference.inputs import EXPORTS, data_section
from stemseg.inference.overlays import MIN_SCORE
from stemseg.modeling.model_files import NO_INFO, ModelInfo
from stemseg.modeling.weights import PRETRAINED_DIR
from stemseg.structures.frame_range import parse_frame_range
from stemseg.utils.arguments import CommandParser, checked, count
from stemseg.utils.errors import ConfigError

_DESCRIPTION = """Segment and track every object of a dataset's sequences, or of a video of your own. An interrupted run
goes on with the same command. Several processes: torchrun --nproc_per_node K stemseg/inference/main.py ..."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=_DESCRIPTION)
    add = parser.add_argument
    add("checkpoint", help="weights: a model that ships with the package (laptop), a training checkpoint, a state dict")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--dataset",
        "-d",
        type=checked(lambda name: find_dataset(name, video_datasets()).name),
        metavar="NAME",
        help=f"segment this dataset's sequences: {', '.join(spellings(DATASETS[name]) for name in video_datasets())}",
    )
    what.add_argument(
        "--input", nargs="+", metavar="INPUT",
        help="segment videos of your own: files, folders of images or of videos, patterns such as 'holiday/*.mp4', "
        "or a camera by its number",
    )  # fmt: skip
    add("--frames", metavar="A:B", help="with --input: only frames A up to, but not including, B")
    add("--every", type=_positive, default=1, metavar="N", help="with --input: only every N-th of these frames")
    add("--output_dir", "-o", type=Path, help="default: segmented/ and the input's name for a model that ships with "
        "the package, inference/ beside any other checkpoint")  # fmt: skip
    add("--split", default="val", help="split of the dataset (default: val)")
    add("--seqs", nargs="+", default=[], metavar="ID", help="segment only these sequences")
    add("--max_tracks", type=count, metavar="N", help="tracks kept of each video, longest-lived first")
    add("--frame_overlap", "-fo", type=count, metavar="N", help="frames that consecutive clips share")
    add("--seediness_thresh", "-st", type=float, metavar="P", help="without a semantic head: foreground is above this")
    add("--min_seediness_prob", "-msp", type=float, metavar="P", help="no instance starts at a seediness below this")
    add("--min_dim", type=count, metavar="PIXELS", help="shorter side of the network's input; alone it keeps the ...")
    add("--max_dim", type=count, metavar="PIXELS", help="... configured ratio to the longer side, and vice versa")
    add("--resize_embeddings", action="store_true", help="cluster at the network's input size: slower, finer masks")
    add("--save_vis", action="store_true", help="also write overlays (pictures, a video) and a page, report.html")
    add("--side_by_side", action="store_true", help="with --save_vis: the video shows each frame beside its overlay")
    add("--min_score", type=float, default=MIN_SCORE, metavar="P", help="with --save_vis: tracks of less are not drawn "
        f"(default: {MIN_SCORE})")  # fmt: skip
    add(
        "--export", nargs="+", default=[], choices=EXPORTS, help="also write polygons for annotation tools such as CVAT"
    )
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
    if options.dataset is not None and (options.frames or options.every > 1):
        parser.error("--frames and --every choose parts of videos of your own: give --input, not --dataset")
    try:
        options.frames = parse_frame_range(options.frames or "0:", options.every)
    except ConfigError as error:
        parser.error(f"--frames: {error}")
    return options


def load_run_config(options: argparse.Namespace, info: ModelInfo = NO_INFO) -> Config:
    """The configuration of a run: the checkpoint's, changed by the flags, then by ``--set``.

    Args:
        info: what the checkpoint's file says of its model.

    Raises:
        ConfigError: where there is none, or a flag's value makes no sense.
    """
    source = config_source(Path(options.checkpoint), info, options.cfg, options.dataset)
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
    if options.output_dir is not None:
        return options.output_dir
    checkpoint = Path(options.checkpoint)
    if checkpoint.parent != PRETRAINED_DIR:
        return checkpoint.parent / "inference"
    name = (
        f"{options.dataset}_{options.split}" if options.dataset else Path(options.input[0]).expanduser().resolve().stem
    )
    return Path("segmented") / (name if options.dataset or len(options.input) == 1 else f"{name}_and_more")


def run_settings(options: argparse.Namespace, cfg: Config, origin: str, checkpoint_hash: str) -> dict[str, Any]:
    """Everything that a sequence's tracks depend on."""
    rules = cfg.DATA[data_section(options.dataset, cfg)]
    config = {name: cfg[name].to_dict() for name in ("INPUT", "MODEL", "CLUSTERING", "INFERENCE")}
    # has no effect on results, like the devices and the number of workers
    del config["INFERENCE"]["FRAMES_PER_BATCH"], config["MODEL"]["BACKBONE"]["PRETRAINED_WEIGHTS"]
    return {
        "checkpoint": {"name": Path(options.checkpoint).name, "sha256": checkpoint_hash},
        "videos": origin,
        "max_tracks": rules.MAX_INFERENCE_TRACKS,
        "frame_overlap": rules.INFERENCE_FRAME_OVERLAP,
        "config": config,
    }


def config_source(
    checkpoint: Path, info: ModelInfo, cfg: str | None = None, dataset: str | None = None
) -> str | Path | Mapping[str, Any]:
    """The configuration that a checkpoint's network was trained with: a name, a file or the values.

    Args:
        info: what the checkpoint's file says of its model.
        cfg: the user's choice, which goes first.
        dataset: whose published configuration is taken where nothing else is known.

    Raises:
        ConfigError: where nothing is known.
    """
    beside = checkpoint.parent / "config.yaml"
    if cfg is not None:
        return cfg
    if info.config is not None:
        return info.config
    if beside.is_file():
        return beside
    if dataset is not None and (published := find_dataset(dataset).config) is not None:
        return published
    raise ConfigError(
        f"there is no config.yaml beside {checkpoint}, so the network's configuration is unknown; give the one "
        "that it was trained with, for example --cfg youtube_vis"
    )


def _positive(text: str) -> int:
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not possible, expected 1 or more")
    return int(text)


def _input_size(options: argparse.Namespace, cfg: Config) -> dict[str, int]:
    if options.min_dim is None and options.max_dim is None:
        return {}
    preprocessor = build_preprocessor(cfg, min_dim=options.min_dim, max_dim=options.max_dim)
    return {"INPUT.MIN_DIM": preprocessor.min_dim, "INPUT.MAX_DIM": preprocessor.max_dim}
