"""The errors that a user can cause; each message says what, where, found, expected, and what to do next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class StemsegError(Exception):
    """Base of every error that stems from the user's input; the main scripts print it without a traceback.

    Attributes:
        is_said_elsewhere: another process of the same run prints the same.
    """

    is_said_elsewhere = False


class ConfigError(StemsegError):
    """A configuration key, value or combination of values is wrong."""


class DataError(StemsegError):
    """An annotation file, image, video or environment variable is missing or damaged."""


class OutputError(StemsegError):
    """A file or folder can't be written: the disk is full, the folder read-only, the name impossible."""


class CheckpointError(StemsegError):
    """A weights file is missing, damaged or does not fit the network."""


class TrainingError(StemsegError):
    """Training cannot go on in a sensible way."""


# what a command prints in a line, without a traceback: errors of ours, and of the machine that it runs on
EXPECTED_ERRORS = (StemsegError, OSError, MemoryError, RecursionError)


def in_a_line(error: BaseException) -> str:
    """The text that a command prints for one of :data:`EXPECTED_ERRORS`."""
    if isinstance(error, OSError):
        reason = f"{error.strerror or error}; check that it exists, its permissions and the space on its disk"
        return f"{error.filename or 'a file or connection'} can't be used: {reason}"
    if isinstance(error, MemoryError):
        return "the memory does not suffice; close other programs, or let fewer processes work (--help lists the flags)"
    if isinstance(error, RecursionError):
        return "a file or value is nested too deep; expected a few levels"
    return str(error)


def log_failure(logger: logging.Logger, error: BaseException) -> None:
    """Log one of :data:`EXPECTED_ERRORS` that ends a command, in a line; what another process says is not repeated."""
    if not getattr(error, "is_said_elsewhere", False):
        logger.error("%s: %s", type(error).__name__, in_a_line(error))


@contextmanager
def hinted(next_step: str) -> Iterator[None]:
    """Add what a user can do to the message of any error of ours that the ``with`` block raises."""
    try:
        yield
    except StemsegError as error:
        raise type(error)(f"{error}; {next_step}") from None


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put ``where`` in front of the message of any error of ours that the ``with`` block raises.

    >>> with located("a.json, entry 3"):
    ...     raise DataError("found no size")
    Traceback (most recent call last):
    stemseg.utils.errors.DataError: a.json, entry 3: found no size
    """
    try:
        yield
    except StemsegError as error:
        raise type(error)(f"{where}: {error}") from None
