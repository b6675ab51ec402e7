"""Checkpoints: what a run keeps, and goes on from (method.md §7).

:class:`CheckpointStore` is the files of a run's directory: few kept, the newest found. :class:`TrainingState` is
everything that a run is at one moment: what a checkpoint holds, and what a resumed run goes on from. A run is started,
from nothing, other weights, or where it was, in ``training/run.py``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from stemseg.modeling.model_files import read_model_info
from stemseg.modeling.weights import (
    check_state,
    load_state,
    load_weights_file,
    non_finite_names,
    refuse_non_finite,
    save_weights_file,
)
from stemseg.training.logger import TrainingLogger
from stemseg.training.loss import TrainingLoss
from stemseg.training.optimizer import LearningRateSchedule
from stemseg.utils.errors import CheckpointError, DataError, TrainingError, hinted
from stemseg.utils.files import make_folder, write_text
from stemseg.utils.json_values import Entry, mapping, read_json
from stemseg.utils.text import shorten_list, shown

_logger = logging.getLogger(__name__)
CONFIG_NAME = "config.yaml"
_BEST = "best.pth"
_MAX_ITERATIONS = 10**9
_OTHER_NETWORK = "use the config.yaml beside it, or start a new run from its weights with --initial_ckpt"
_FILE_NAME = re.compile(r"(\d{6,})\.pth")


class CheckpointStore:
    """The ``%06d.pth`` files of one run's directory, numbered by completed iterations.

    Args:
        directory: where the files are; need not exist yet.
        keep: number of files kept, newest first; 0 keeps all.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self._keep = keep
        self._best_record = directory / _BEST.replace(".pth", ".json")

    def iterations(self) -> list[int]:
        """Iterations of the files that exist, ascending."""
        names = (p.name for p in self.directory.glob("*.pth"))
        return sorted(int(match[1]) for match in map(_FILE_NAME.fullmatch, names) if match)

    def path(self, iteration: int) -> Path:
        """The file of an iteration, whether it exists or not."""
        return self.directory / f"{iteration:06d}.pth"

    def newest(self) -> Path | None:
        """The file of the highest iteration, or None."""
        existing = self.iterations()
        return self.path(existing[-1]) if existing else None

    def save(self, content: Mapping[str, Any], iteration: int) -> Path:
        """Write a checkpoint and remove those that are no longer to be kept; returns its file."""
        path = self.path(iteration)
        save_weights_file(path, content)
        if self._keep > 0:
            for old in self.iterations()[: -self._keep]:
                self.path(old).unlink(missing_ok=True)
        return path

    def save_best(self, content: Mapping[str, Any], iteration: int, value: float, *, measure: str) -> bool:
        """Write ``best.pth`` where no checkpoint up to ``iteration`` had a higher ``value``; whether it was written.

        ``best.json`` records it; the value of another ``measure`` than before is compared with none.
        """
        best = self._best()
        is_comparable = best and best.get("measure", measure) == measure
        if best and is_comparable and best["iteration"] <= iteration and best["value"] >= value:
            return False
        save_weights_file(self.directory / _BEST, content)
        write_text(self._best_record, json.dumps({"iteration": iteration, "value": value, "measure": measure}))
        return True

    def _best(self) -> dict[str, Any] | None:
        """The record of ``best.pth``; None where there is none.

        Raises:
            DataError: where it is damaged.
        """
        if not self._best_record.exists():
            return None
        next_step = f"remove it and {_BEST} beside it, then the next evaluation writes both anew"
        record = Entry(read_json(self._best_record, next_step=next_step), self._best_record)
        with hinted(next_step):
            values = {"iteration": record.whole("iteration"), "value": record.number("value")}
            return values | ({"measure": record.text("measure")} if "measure" in record else {})

    def set_aside(self, after: int) -> None:
        """Move files of later iterations than ``after`` into a sub-folder, so that no run resumes from them."""
        later = [self.path(i) for i in self.iterations() if i > after]
        best = self._best()
        if best and best["iteration"] > after:
            later += [path for path in (self.directory / _BEST, self._best_record) if path.is_file()]
        if not later:
            return
        numbers = (n for n in range(1, 10**6) if not (self.directory / f"set_aside_{n}").exists())
        folder = self.directory / f"set_aside_{next(numbers)}"
        make_folder(folder)
        for path in later:
            path.rename(folder / path.name)
        _logger.warning("moved %d files of an earlier run to %s", len(later), folder)


def check_resumable(network: nn.Module, path: Path) -> None:
    """Refuse a checkpoint that no training of a network can go on from, at once, without its numbers in memory.

    Raises:
        CheckpointError: as :func:`read_checkpoint` does, or where its weights don't fit the network.
    """
    content = read_checkpoint(path, weights_needed=False)
    read_model_info(path)
    check_state(network, content["model"], where=path, next_step=_OTHER_NETWORK)


def read_checkpoint(path: Path, *, weights_needed: bool = True) -> dict[str, Any]:
    """The content of a training checkpoint, on the CPU. Nothing but tensors and plain values is unpickled.

    Args:
        weights_needed: see :func:`stemseg.modeling.weights.load_weights_file`.

    Raises:
        CheckpointError: where the file is missing, damaged or no training checkpoint.
    """
    try:
        content = load_weights_file(path, weights_needed=weights_needed)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {_suggest_older(path)}") from error
    missing = [
        key for key in ("model", "optimizer", "iterations") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise CheckpointError(
            f"{path} holds no {', '.join(missing)}, so no training can go on from it; "
            "to start a new run with its weights pass it as --initial_ckpt"
        )
    try:
        _check_content(Entry(content, path))
    except DataError as error:
        raise CheckpointError(f"{error}; {_suggest_older(path)}") from None
    return content


def _check_content(record: Entry) -> None:
    """Raise a DataError where what stands beside the weights is not what :meth:`TrainingState.capture` gives."""
    record.whole("iterations", high=_MAX_ITERATIONS)
    record.whole("glow_iterations", high=_MAX_ITERATIONS, default=0)
    optimizer = Entry(record.mapping("optimizer"), record.place("optimizer"))
    for group in optimizer.items("param_groups"):
        mapping(group, optimizer.place("param_groups"))
    for index, values in optimizer.mapping("state").items():
        mapping(values, f"{optimizer.place('state')}, parameter {index}")


def _suggest_older(path: Path) -> str:
    """The next step for someone whose checkpoint cannot be read."""
    match = _FILE_NAME.fullmatch(path.name)
    store = CheckpointStore(path.parent, keep=0)
    older = [i for i in store.iterations() if match and i < int(match[1])]
    if not older:
        return "There is no older one beside it; start anew with --no_resume."
    return f"Go on from the one before it with --restore_session {store.path(older[-1])}"


@dataclass
class Progress:
    """The position of a run.

    Attributes:
        iterations: completed steps of the optimizer; also the position among the samples and in the learning rate's
            schedule, and, with the seed, what random numbers come next.
        glow_iterations: completed sub-iterations of the appearance flow's warm-up (method.md §5).
    """

    iterations: int = 0
    glow_iterations: int = 0


@dataclass(kw_only=True)
class TrainingState:
    """The parts of a run that change while it runs.

    Attributes:
        training_loss: itself, not its distributed wrapping; has the child ``network``, whose weights are saved.
        optimizer, schedule, log: made for it.
        scaler: of the loss in fp16; disabled, and without a state, in other precisions.
        progress: how far the run has come.
        category_names: name of each category id, for those who use the model.
        config: every configuration value, as plain dictionaries, for the same.
    """

    training_loss: TrainingLoss
    optimizer: Optimizer
    schedule: LearningRateSchedule
    scaler: torch.amp.GradScaler
    log: TrainingLogger
    progress: Progress = field(default_factory=Progress)
    category_names: Mapping[int, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)

    def capture(self) -> dict[str, Any]:
        """The content of a checkpoint (method.md §7).

        Raises:
            TrainingError: where a weight is not finite; such a state is never saved.
        """
        weights = self.training_loss.network.state_dict()
        ruined = non_finite_names(weights)
        if ruined:
            raise TrainingError(
                f"after iteration {self.progress.iterations} {len(ruined)} weights are not finite: "
                f"{shorten_list(ruined)}; this state is not saved. Lower TRAINING.INITIAL_LR, and go on from the last "
                "checkpoint with the same command"
            )
        return {
            "model": weights,
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "logger": self.log.state_dict(),
            "iterations": self.progress.iterations,
            "glow_iterations": self.progress.glow_iterations,
            "category_names": dict(self.category_names),
            "config": dict(self.config),
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint; the optimizer's settings (weight decay, momentum) stay the configuration's.

        Raises:
            CheckpointError: where the file is missing or damaged, or was made with another network or optimizer.
        """
        content = read_checkpoint(path)
        self._refuse_other_classes(content.get("category_names"), path)
        load_state(self.training_loss.network, content["model"], where=path, next_step=_OTHER_NETWORK)
        refuse_non_finite(_moments(content["optimizer"]), path)
        _refuse_other_kind(self.optimizer, content["optimizer"], path)
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(content["optimizer"])
            _refuse_other_shapes(self.optimizer)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the optimizer of {path} is not the one of this configuration: {error}. Next: {_OTHER_NETWORK}"
            ) from error
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)
        # a checkpoint of a run without fp16 has no scale; the initial one is kept then
        if content.get("scaler") and self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        self.log.load_state_dict(content.get("logger", {}))
        self.progress = Progress(int(content["iterations"]), int(content.get("glow_iterations") or 0))

    def _refuse_other_classes(self, saved: Any, path: Path) -> None:
        """Raise where the checkpoint's classes are others than the data's; older ones don't say theirs."""
        names = {int(i): str(name) for i, name in saved.items()} if isinstance(saved, Mapping) else {}
        if names and self.category_names and names != dict(self.category_names):
            raise CheckpointError(
                f"{path} was trained on the classes {shown(names)}, but the data now have "
                f"{shown(dict(self.category_names))}. Next: restore the annotation file that it was trained on, or "
                f"start a new run with the weights by --initial_ckpt {path}"
            )


def _moments(optimizer: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors in an optimizer's state dict, by names for messages."""
    return {
        f"optimizer {name} of parameter {index}": value
        for index, values in optimizer.get("state", {}).items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def _refuse_other_shapes(optimizer: Optimizer) -> None:
    """Raise a ValueError where a moment has another shape than its weight; PyTorch finds that in the next step."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name} of shape {list(value.shape)}, expected {list(parameter.shape)}")


def _refuse_other_kind(optimizer: Optimizer, saved: Mapping[str, Any], path: Path) -> None:
    """Raise a CheckpointError where the state is that of another kind of optimizer (only Adam has betas)."""
    saved_is_adam = any("betas" in group for group in saved.get("param_groups", ()))
    if saved_is_adam != ("betas" in optimizer.param_groups[0]):
        other = "Adam" if saved_is_adam else "SGD"
        raise CheckpointError(
            f"{path} was trained with {other}, but TRAINING.OPTIMIZER is {type(optimizer).__name__}. Next: set "
            f"TRAINING.OPTIMIZER={other}, or start a new run with the weights by --initial_ckpt {path}"
        )
