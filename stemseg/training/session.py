"""Where a run keeps its files, and what it starts from: nothing, other weights, or where it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stemseg.config import Config
from stemseg.modeling.network import Network
from stemseg.modeling.weights import load_model_weights, load_pretrained_backbone, models_dir
from stemseg.training.checkpoints import CheckpointStore
from stemseg.training.state import TrainingState

_logger = logging.getLogger(__name__)
CONFIG_NAME = "config.yaml"


class StartFrom(NamedTuple):
    """What the user wants a run to start from.

    Attributes:
        restore_session: go on from this checkpoint, whatever the run's directory holds.
        initial_ckpt: start a new run with the model weights of this checkpoint.
        resume: without ``restore_session``, go on from the directory's newest checkpoint where there is one.
    """

    restore_session: Path | None = None
    initial_ckpt: Path | None = None
    resume: bool = True


def run_directory(cfg: Config, model_dir: str) -> Path:
    """``$STEMSEG_MODELS_DIR/checkpoints/<TRAINING.MODE>/<model_dir>``; an absolute ``model_dir`` is taken as it is."""
    path = Path(model_dir).expanduser()
    return path if path.is_absolute() else models_dir() / "checkpoints" / cfg.TRAINING.MODE / path


def start_session(
    state: TrainingState, store: CheckpointStore, start: StartFrom, cfg: Config, *, is_main: bool
) -> None:
    """Restore or initialise ``state``; checkpoints that a new or rewound run leaves behind are moved aside.

    Raises:
        CheckpointError: where a file is missing or damaged, or does not fit.
    """
    source = start.restore_session or (store.newest() if start.resume else None)
    if source is not None:
        state.restore(source)
        _logger.info("going on from %s, after iteration %d", source, state.progress.iterations)
    else:
        _initialise(state.objective.network, start.initial_ckpt, cfg)
    if is_main and (source is None or start.restore_session is not None):
        store.set_aside(after=state.progress.iterations if source else -1)


def record_config(cfg: Config, directory: Path, *, resumed: bool) -> None:
    """Write ``config.yaml`` into the run's directory; tell what changed since a ``resumed`` run wrote its own."""
    path = directory / CONFIG_NAME
    if resumed and path.is_file():
        before = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for change in config_changes(before, cfg.to_dict()):
            _logger.warning("the configuration changed since this run began: %s", change)
    directory.mkdir(parents=True, exist_ok=True)
    cfg.save(path)


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A line "KEY: old -> new" for each value of ``after`` that differs."""
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from config_changes(old, value, f"{prefix}{key}.")
        elif old != value:
            yield f"{prefix}{key}: {old} -> {value}"


def _initialise(network: Network, initial_ckpt: Path | None, cfg: Config) -> None:
    """Give a new run its first weights."""
    if initial_ckpt is not None:
        load_model_weights(network, initial_ckpt)
        _logger.info("starting with the weights of %s", initial_ckpt)
    elif cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS is not None:
        load_pretrained_backbone(network.backbone, cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS)
        _logger.info("starting with the backbone %s", cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS)
    else:
        _logger.info("starting with random weights")
