"""The settings of a run of inference: its options, the checkpoint's configuration, and the folder of its results."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from stemseg.config import Config, load_config
from stemseg.config.schema import range_of
from stemseg.config.yaml_reader import read_yaml
from stemseg.data.preprocessing import build_preprocessor
from stemseg.datasets import find_dataset
from stemseg.inference.inputs import InputVideos, data_section
from stemseg.inference.result_folder import flatten
from stemseg.modeling.model_files import NO_INFO, ModelInfo
from stemseg.modeling.weights import PRETRAINED_DIR
from stemseg.utils.devices import choose_precision
from stemseg.utils.errors import ConfigError, located
from stemseg.utils.files import user_path
from stemseg.utils.text import shorten_list, shown

_logger = logging.getLogger("stemseg.inference")
_DECISIVE = ("INPUT", "MODEL")  # sections that weights are trained for
_STARTING_POINT = "MODEL.BACKBONE.PRETRAINED_WEIGHTS"  # of training alone


def load_run_config(
    options: argparse.Namespace, info: ModelInfo = NO_INFO, device: torch.device | None = None
) -> Config:
    """The configuration of a run: the checkpoint's, changed by the flags, then by ``--set``.

    Args:
        info: what the checkpoint's file says of its model.
        device: decides what mixed precision "auto" means; None leaves it open.

    Raises:
        ConfigError: where there is none, or a flag's value makes no sense.
    """
    source = config_source(Path(options.checkpoint), info, options.cfg, options.dataset)
    with located(f"{options.checkpoint}, its configuration") if source is info.config else nullcontext():
        cfg = load_config(source, options.set)
    section = f"DATA.{data_section(options.dataset, cfg)}"
    changes: dict[str, Any] = {
        f"{section}.MAX_INFERENCE_TRACKS": options.max_tracks,
        f"{section}.MIN_TRACK_SCORE": options.min_score,
        f"{section}.INFERENCE_FRAME_OVERLAP": options.frame_overlap,
        "INFERENCE.SEEDINESS_THRESHOLD": options.seediness_thresh,
        "INFERENCE.RESIZE_EMBEDDINGS": "true" if options.resize_embeddings else None,
        "INFERENCE.AMP": options.amp,
        "CLUSTERING.MIN_SEEDINESS_PROB": options.min_seediness_prob,
        **_input_size(options, cfg),
    }
    flags = [f"{key}={value}" for key, value in changes.items() if value is not None]
    cfg = load_config(source, [*flags, *options.set])
    if device is None or cfg.INFERENCE.AMP != "auto":
        return cfg
    return load_config(source, [*flags, *options.set, f"INFERENCE.AMP={choose_precision(device, 'auto')}"])


def output_directory(options: argparse.Namespace) -> Path:
    """The folder that results go to."""
    if options.output_dir is not None:
        return options.output_dir
    checkpoint = Path(options.checkpoint)
    if checkpoint.parent != PRETRAINED_DIR:
        return checkpoint.parent / "inference"
    name = f"{options.dataset}_{options.split}" if options.dataset else user_path(options.input[0]).resolve().stem
    return Path("segmented") / (name if options.dataset or len(options.input) == 1 else f"{name}_and_more")


def run_settings(options: argparse.Namespace, cfg: Config, videos: InputVideos, checkpoint_hash: str) -> dict[str, Any]:
    """Everything that a sequence's tracks depend on."""
    rules = cfg.DATA[data_section(options.dataset, cfg)]
    config = {name: cfg[name].to_dict() for name in ("INPUT", "MODEL", "CLUSTERING", "INFERENCE")}
    # has no effect on results, like the devices and the number of workers
    del config["INFERENCE"]["FRAMES_PER_BATCH"], config["MODEL"]["BACKBONE"]["PRETRAINED_WEIGHTS"]
    return {
        "checkpoint": {"name": Path(options.checkpoint).name, "sha256": checkpoint_hash},
        "videos": videos.origin,
        "classes": {str(i): c.result_id for i, c in (videos.classes or {}).items()},
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
    if info.config is not None and not (info.is_of_a_run and beside.is_file()):
        return info.config
    if beside.is_file():
        _warn_of_changes(beside, info)
        return beside
    if dataset is not None and (published := find_dataset(dataset).config) is not None:
        return published
    raise ConfigError(
        f"there is no config.yaml beside {checkpoint}, so the network's configuration is unknown; give the one "
        "that it was trained with, for example --cfg youtube_vis"
    )


def _warn_of_changes(path: Path, info: ModelInfo) -> None:
    """Tell where a run's ``config.yaml`` has other values than the checkpoint beside it, on which results depend."""
    own, beside = flatten(info.config or {}), flatten(read_yaml(path))
    changes = [
        f"{key} {shown(own[key])} -> {shown(value)}"
        for key, value in beside.items()
        if key.partition(".")[0] in _DECISIVE and key in own and own[key] != value and key != _STARTING_POINT
    ]
    if changes:
        _logger.warning("%s differs from what the checkpoint was trained with: %s", path, shorten_list(changes))


def _input_size(options: argparse.Namespace, cfg: Config) -> dict[str, int]:
    if options.min_dim is None and options.max_dim is None:
        return {}
    preprocessor = build_preprocessor(cfg, min_dim=options.min_dim, max_dim=options.max_dim)
    sizes = {"INPUT.MIN_DIM": preprocessor.min_dim, "INPUT.MAX_DIM": preprocessor.max_dim}
    given = {"--min_dim": options.min_dim, "--max_dim": options.max_dim}
    flags = " ".join(f"{flag} {value}" for flag, value in given.items() if value is not None)
    for key, value in sizes.items():
        limits = range_of(key)
        if limits is not None and not limits.allows(value):
            raise ConfigError(f"{flags} makes {key} {value}, expected {limits}; choose another size")
    if preprocessor.min_dim > preprocessor.max_dim:
        raise ConfigError(f"{flags}: the shorter side can't be longer than the longer one; choose other sizes")
    return sizes
