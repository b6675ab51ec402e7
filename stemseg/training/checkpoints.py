"""The checkpoint files of a run: written whole or not at all, few kept, the newest found."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stemseg.modeling.weights import load_weights_file
from stemseg.utils.errors import CheckpointError

_logger = logging.getLogger(__name__)
_BEST = "best.pth"
_FILE_NAME = re.compile(r"(\d{6,})\.pth")


class CheckpointStore:
    """The ``%06d.pth`` files of one run's directory, numbered by completed iterations."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        """
        Args:
            directory: where the files are; need not exist yet.
            keep: number of files kept, newest first; 0 keeps all.
        """
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
        write_checkpoint(content, path)
        if self._keep > 0:
            for old in self.iterations()[: -self._keep]:
                self.path(old).unlink(missing_ok=True)
        return path

    def save_best(self, content: Mapping[str, Any], iteration: int, value: float) -> bool:
        """Write ``best.pth`` where no checkpoint up to ``iteration`` had a higher ``value``; whether it was written."""
        best = self._best()
        if best and best["iteration"] <= iteration and best["value"] >= value:
            return False
        write_checkpoint(content, self.directory / _BEST)
        self._best_record.write_text(json.dumps({"iteration": iteration, "value": value}), encoding="utf-8")
        return True

    def _best(self) -> dict[str, Any] | None:
        """What is known of ``best.pth``."""
        try:
            return json.loads(self._best_record.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None

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
        folder.mkdir()
        for path in later:
            path.rename(folder / path.name)
        _logger.warning("moved %d files of an earlier run to %s", len(later), folder)


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write ``content`` so that ``path`` is either the complete new file or what it was, even if the power fails.

    Raises:
        CheckpointError: where the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"could not write the checkpoint {path}: {error}; is the disk full?") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a training checkpoint, on the CPU. Nothing but tensors and plain values is unpickled.

    Raises:
        CheckpointError: where the file is missing, damaged or no training checkpoint.
    """
    try:
        content = load_weights_file(path)
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
    return content


def _suggest_older(path: Path) -> str:
    """The next step for someone whose checkpoint cannot be read."""
    match = _FILE_NAME.fullmatch(path.name)
    store = CheckpointStore(path.parent, keep=0)
    older = [i for i in store.iterations() if match and i < int(match[1])]
    if not older:
        return "There is no older one beside it; start anew with --no_resume."
    return f"Go on from the one before it with --restore_session {store.path(older[-1])}"


def _sync_directory(directory: Path) -> None:
    """Make a rename within ``directory`` survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
