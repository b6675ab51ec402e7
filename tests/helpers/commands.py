"""Runs ``python FILE ARGUMENTS`` in this process: nothing has to be imported again."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def run_python(file: str, arguments: Sequence[str], folder: Path) -> int:
    """The exit code of ``python FILE ARGUMENTS`` in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [file, *arguments])
        patch.setattr(sys, "path", [str((folder / file).parent), *sys.path])
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
