"""Follows docs/extending.md: writes its files and makes its changes in a copy of the code, and imports that copy."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.commands import run_python
from tests.helpers.documents import Block, blocks, commands
from tests.helpers.paths import ROOT

_COPIED = ("stemseg", "scripts", "configs")


def follow(text: str, folder: Path) -> list[str]:
    """Make all changes of a section in a new copy of the code in ``folder``; the files that it wrote or changed.

    Every block of Python or YAML is a file, every diff a change; none is left aside.
    """
    for name in _COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    touched = []
    for block in blocks(text):
        if block.language == "diff":
            touched.append(change_file(block.body, folder))
        elif block.language in ("python", "yaml"):
            touched.append(write_file(block, folder))
    return touched


def write_file(block: Block, folder: Path) -> str:
    """Write a block that begins with "# path"; the path."""
    first, _, content = block.body.partition("\n")
    name = first.removeprefix("# ")
    assert not (folder / name).exists() and (folder / name).parent.is_dir(), first
    (folder / name).write_text(content, encoding="utf-8")
    return name


def change_file(diff: str, folder: Path) -> str:
    """Make the changes of a block that begins with "--- path", each hunk where its old lines stand; the path.

    Hunks are set apart by "@@" alone: they are found by their lines, which must stand in the file exactly once.
    """
    first, *hunks = re.split(r"^@@\n", diff, flags=re.MULTILINE)
    name = first.strip().removeprefix("--- ")
    content = (folder / name).read_text(encoding="utf-8")
    for hunk in hunks:
        lines = [line or " " for line in hunk.splitlines()]
        assert {line[0] for line in lines} <= set(" +-"), hunk
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kinds) for kinds in (" -", " +"))
        assert content.count(old) == 1, f"{name} holds these lines {content.count(old)} times:\n{old}"
        content = content.replace(old, new)
    (folder / name).write_text(content, encoding="utf-8")
    return name


@contextmanager
def imported_from(folder: Path) -> Iterator[None]:
    """Within, ``import stemseg`` imports the copy in ``folder``; outside, everything is as before."""

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in ("stemseg", "scripts")]

    before = {name: sys.modules.pop(name) for name in ours()}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(folder)
            yield
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


def run_commands(text: str, folder: Path, options: Mapping[str, Sequence[str]], **replaced: str) -> None:
    """Run every command of a section in the copy; ``export`` sets the variable until the process ends.

    Args:
        options: for each script, what is added to its commands.
        replaced: what takes too long as it stands, and what stands in its place.
    """
    for command in commands(f"## \n{text}"):
        line = command.text.replace("~/", f"{os.environ['HOME']}/")
        for old, new in replaced.items():
            line = line.replace(old, new)
        words = [os.path.expandvars(word) for word in shlex.split(line)]
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            os.environ[name] = value
        else:
            assert words[0] == "python"
            assert run_python(words[1], [*words[2:], *options.get(words[1], ())], folder) == 0, line
