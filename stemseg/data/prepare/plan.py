"""The plan that every dataset hands to the runner: the file to write, its jobs, and the outcome of a job."""

from __future__ import annotations

import argparse
import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import StillImage, VideoSequence
from stemseg.utils.errors import ConfigError


@dataclass(frozen=True)
class ConversionJob:
    """One video or still to convert; datasets derive from it. It travels to a worker process, so it must be picklable.

    Attributes:
        name: what error messages and the split know it by; unique within the file.
    """

    name: str


class Converted(NamedTuple):
    """The outcome of a job.

    Attributes:
        item: the entry of the annotation file; None where there is nothing to write.
        problems: everything that is inconsistent, each naming file, frame and instance.
        left_out: how often something was left out on purpose, by reason.
    """

    item: VideoSequence | StillImage | None
    problems: list[str]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Plan:
    """One annotation file to write.

    Attributes:
        filename: its name in the output folder.
        kind: "videos" or "stills".
        category_labels: category names by id.
        jobs: one for each entry, in the file's order.
        convert: turns a job into an entry; a module-level function.
        problems: inconsistencies found while planning.
        left_out: as :attr:`Converted.left_out`, found while planning.
        finish: runs after the file is written.
        next_step: what the user must set so that the loaders find the images.
        source: the official file that is converted, where there is one for all entries.
    """

    filename: str
    kind: Literal["videos", "stills"]
    category_labels: dict[int, str]
    jobs: Sequence[ConversionJob]
    convert: Callable[[Any], Converted]
    problems: Sequence[str] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    finish: Callable[[], None] | None = None
    next_step: str = ""
    source: Path | None = None


class Converter(Protocol):
    """A module that the registry names as a dataset's converter; its docstring says what is expected below ROOT."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the flags that the dataset has beside those of all (see data/prepare/main.py)."""
        ...

    def make_plans(self, entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
        """The files to write from the official download in the folder ``root``.

        Raises:
            DataError: where ``root`` is not the folder tree that the dataset has.
        """
        ...


def load_converter(entry: DatasetEntry) -> Converter:
    """The converter of a dataset that has one."""
    return cast(Converter, importlib.import_module(entry.converter or ""))


def split_plan(plan: Plan, fraction: float, seed: int) -> list[Plan]:
    """Divide a training plan into the plan of the remaining training set and that of a held-out "minival" set.

    The choice depends on the names and the seed alone, not on their order in the official file.

    Raises:
        ConfigError: where a side would be empty.
    """
    names = sorted(job.name for job in plan.jobs)
    count = round(fraction * len(names))
    if not 0 < count < len(names):
        raise ConfigError(
            f"--split {fraction} of the {len(names)} entries of {plan.filename} holds out {count}, expected at least 1 "
            "on either side; choose another fraction"
        )
    held_out = set(random.Random(seed).sample(names, count))
    rest = [job for job in plan.jobs if job.name not in held_out]
    minival = [job for job in plan.jobs if job.name in held_out]
    name = plan.filename.replace("_train.json", "_minival.json")
    return [replace(plan, jobs=rest), replace(plan, filename=name, jobs=minival, problems=(), left_out={}, finish=None)]
