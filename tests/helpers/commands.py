"""Runs ``python FILE ARGUMENTS`` in this process: nothing has to be imported again."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT


def console_commands() -> list[tuple[str, str]]:
    """The commands of an installed package: the name of each and the module whose ``main`` it calls."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    return re.findall(r'"(stemseg-[\w-]+) = ([\w.]+):main"', setup)


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
