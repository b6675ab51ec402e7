"""A sound file of some kind, the command that reads it, and the changes of it that mean nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.trials.harness import Command
from tests.trials.mutations import DELETE, TWICE, Mutation

Rule = Callable[[Any], bool]


@dataclass
class Bench:
    """A file, the command that reads it, and what is right.

    Attributes:
        name: of the kind of file.
        path: of the file.
        command, arguments: a command's ``main`` and its command line.
        document: the file's content, where it is JSON.
        harmless: by a place's keys ("*": any), values that mean the same there, or something else that is right.
        named: one of these stands in every message.
        mutations: the changes to try, in place of those of a JSON document.
        num_cases: drawn of them.
        is_text: whether texts that are no such file are tried too.
        sound_texts: names of those texts that are right here.
    """

    name: str
    path: Path
    command: Command
    arguments: Sequence[str]
    document: Any = None
    harmless: dict[str, Rule] = field(default_factory=dict)
    named: Sequence[str] = ()
    mutations: Sequence[Mutation] = ()
    num_cases: int = 60
    is_text: bool = True
    sound_texts: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.named = [self.path.name, *self.named]
        self.arguments = list(map(str, self.arguments))

    def is_harmless(self, case: Mutation) -> bool:
        """Whether exit code 0 is right."""
        if case.path is None:
            return case.name in self.sound_texts
        for pattern, rule in self.harmless.items():
            keys = pattern.split("/")
            fits = len(keys) == len(case.path) and all(k in ("*", str(p)) for k, p in zip(keys, case.path, strict=True))
            if fits and rule(case.value):
                return True
        return False


def anything(_: Any) -> bool:
    """Nobody reads the value."""
    return True


def a_text(value: Any) -> bool:
    """Any name."""
    return isinstance(value, str) and value not in ("", DELETE, TWICE, "\ud800", "nul\0")


def an_inner_path(value: Any) -> bool:
    """A path below its folder."""
    return a_text(value) and ".." not in value


def a_number(value: Any) -> bool:
    """A finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def an_area(value: Any) -> bool:
    """A number of pixels, or none."""
    return value in (None, DELETE, TWICE) or (a_number(value) and value >= 0)


def near_the_image(value: Any) -> bool:
    """A coordinate within the image or a little outside."""
    return a_number(value) and -40 <= value <= 80


def one_of(*values: Any) -> Rule:
    """Exactly these values."""
    return lambda value: any(value is v or (type(value) is type(v) and value == v) for v in values)
