"""Commands: one signature, one style of flags, ``--help`` that answers at once, in a clone and installed alike.

Installing takes a while, so the console commands are read from setup.py and their modules run.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SOURCES = sorted([*(ROOT / "stemseg").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])
CONSOLE = dict(re.findall(r'"(stemseg-[\w-]+) = ([\w.]+):main"', (ROOT / "setup.py").read_text(encoding="utf-8")))
HEAVY = ("torch", "cv2", "torchvision", "imgaug", "scipy", "matplotlib")


def mains() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                yield path, node


def test_every_main_has_the_one_signature():
    found = dict(mains())
    assert len(found) > 10
    for path, node in found.items():
        signature = f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"
        assert signature == "(arguments: Sequence[str] | None=None) -> int", path


def test_every_flag_is_written_with_underscores_and_understood_with_hyphens():
    flags = 0
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "argparse.ArgumentParser(" not in text.replace("class CommandParser(argparse.ArgumentParser)", ""), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "add", "add_argument",
            ):  # fmt: skip
                names = [a.value for a in node.args if isinstance(a, ast.Constant) and str(a.value).startswith("--")]
                flags += len(names)
                assert not [name for name in names if "-" in name[2:]], path
    assert flags > 80


@pytest.mark.parametrize("command", CONSOLE)
def test_help_answers_without_heavy_libraries(command: str, tmp_path: Path):
    code = (
        "import sys, atexit; sys.path.insert(0, sys.argv.pop(1)); sys.argv[0] = sys.argv.pop(1); "
        f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules])); "
        f"from {CONSOLE[command]} import main; sys.exit(main())"
    )
    arguments = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", code, str(ROOT), command]
    result = subprocess.run([*arguments, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: {command}")
    assert result.stdout.rstrip().endswith("[]"), "imported by --help"


def test_the_console_commands_are_those_of_the_package():
    assert set(CONSOLE) == {
        "stemseg-train", "stemseg-infer", "stemseg-evaluate", "stemseg-prepare", "stemseg-convert-backbone",
    }  # fmt: skip
    for module in CONSOLE.values():
        assert inspect.isfunction(importlib.import_module(module).main)


@pytest.mark.parametrize("name", ["evaluate", "prepare_dataset", "convert_backbone"])
def test_a_clone_has_the_commands_too(name: str, tmp_path: Path):
    script = ROOT / "scripts" / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 30
    result = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0 and "usage: stemseg-" in result.stdout


def test_no_text_of_the_package_names_what_is_not_installed():
    for path in sorted((ROOT / "stemseg").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        texts = [
            n.value for n in ast.walk(tree)
            if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
        ]  # fmt: skip
        wrong = [text for text in texts if re.search(r"\bscripts/|\bdocs/|README\.md|requirements\.txt", text)]
        assert not wrong, path
