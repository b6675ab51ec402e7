"""Runs commands on malformed files, in this process, and finds fault with the way they end."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 20  # a case that takes longer hangs

Command = Callable[[Sequence[str]], int]


class Hang(BaseException):
    """A case took too long; no Exception, so that no command takes it for one of its own."""


class Outcome(NamedTuple):
    """The end of a command: its exit code, or the exception that came out of it, and all that it wrote."""

    code: int | None
    text: str
    crash: str = ""


def run(command: Command, arguments: Sequence[str]) -> Outcome:
    """Run a command's ``main`` with a limit on its time."""
    output = io.StringIO()
    code, crash = None, ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _time_limit():
        try:
            code = command(list(arguments))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
        except (Exception, Hang) as error:
            crash = f"{type(error).__name__}: {error}"
    for handler in logging.getLogger().handlers[:]:
        if isinstance(handler, logging.StreamHandler) and getattr(handler, "stream", None) is output:
            logging.getLogger().removeHandler(handler)
    return Outcome(code, output.getvalue(), crash)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def complaint(outcome: Outcome, *, named: Sequence[str], may_pass: bool) -> str:
    """The fault of the way a case ended; empty where there is none.

    Args:
        named: texts of which the message must hold one: the file's name.
        may_pass: whether exit code 0 is right.
    """
    if outcome.crash:
        return outcome.crash
    if "Traceback" in outcome.text or "weights_only=False" in outcome.text:
        return f"traceback or unsafe advice: {outcome.text[-300:]}"
    if outcome.code == 0:
        return "" if may_pass else "taken without a word"
    if outcome.code not in (1, 2):
        return f"exit code {outcome.code}"
    message = message_of(outcome.text)
    if not message:
        return f"exit code {outcome.code} without a message"
    if not any(name in message for name in named):
        return f"the message names none of {named}: {message}"
    if len(message) > 4000:
        return f"a message of {len(message)} characters: {message[:200]}"
    return "" if re.search(r"expected|;|\?|upload|Take|documents", message) else f"no next step: {message}"


def message_of(text: str) -> str:
    """The error in what a command wrote."""
    start = re.search(r"(?m)^(?:\S+ +)?(?:[\w.]+: )*(?:error: |\w+Error: )", text)
    return text[start.start() :] if start else ""


class Restored:
    """A file that is changed in a ``with`` block and afterwards as it was."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        self._content = self._path.read_bytes() if self._path.is_file() else None
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        if self._content is not None:
            self._path.write_bytes(self._content)
