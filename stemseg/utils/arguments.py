"""Command lines: one style of flags for all commands, and values that are checked while they are read.

Nothing heavy is imported here, nor in the modules that describe a command line, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from stemseg.utils.errors import EXPECTED_ERRORS, StemsegError, in_a_line
from stemseg.utils.text import shown

DEFAULT_WORKERS = min(8, os.cpu_count() or 1)  # processes of a command that shares its work among several

T = TypeVar("T")


class CommandParser(argparse.ArgumentParser):
    """Parser whose flags are written with underscores and understood with hyphens too; abbreviations are refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(  # type: ignore[override]  # argparse's overloads differ between the versions of Python
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, whichever of the two spellings the flags have."""
        return super().parse_known_args(list(with_underscores(sys.argv[1:] if args is None else args)), namespace)


def with_underscores(arguments: Iterable[str]) -> Iterable[str]:
    """The arguments with every ``--some-flag`` as ``--some_flag``; values and what follows ``--`` stay as they are."""
    flags_ended = False
    for argument in arguments:
        flags_ended = flags_ended or argument == "--"
        flag, separator, value = argument.partition("=")
        is_flag = argument.startswith("--") and not flags_ended
        yield f"--{flag[2:].replace('-', '_')}{separator}{value}" if is_flag else argument


def checked(convert: Callable[[str], T]) -> Callable[[str], T]:
    """``convert`` as argparse's ``type``: where it raises one of our errors, the usage error has the same text."""

    def read(text: str) -> T:
        try:
            return convert(text)
        except StemsegError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def count(text: str) -> int:
    """A whole number from 0, as argparse's ``type``."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number, expected 0 to 999999999")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1, as argparse's ``type``."""
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not possible, expected 1 or more")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1, as argparse's ``type``."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no such number, expected 0 to 1")
    return value


def run_command(work: Callable[[], object]) -> int:
    """Do a command's work; returns its exit code: 0, or 1 after one of EXPECTED_ERRORS, which is printed in a line."""
    try:
        work()
    except EXPECTED_ERRORS as error:
        print(f"error: {in_a_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
