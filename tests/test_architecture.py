"""The walls between the rooms: who may import whom, no circles, and no work or heavy library at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SOURCES = sorted((ROOT / "stemseg").rglob("*.py"))
# training paints and measures what inference would find, so it may call inference; never the other way round
MAY_IMPORT = {
    "utils": set(),
    "structures": {"utils"},
    "datasets": {"utils", "structures"},
    "config": {"utils", "structures", "datasets"},
    "data": {"utils", "structures", "datasets", "config"},
    "modeling": {"utils", "structures", "config"},
    "evaluation": {"utils", "structures", "datasets"},
    "inference": {"utils", "structures", "datasets", "data", "modeling", "evaluation", "config"},
    "training": {"utils", "structures", "datasets", "data", "modeling", "evaluation", "inference", "config"},
    "streaming": {"utils", "structures", "inference"},
    "api": {"utils", "structures", "modeling", "inference", "config", "streaming"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """The modules of the project that a file names in its imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("stemseg.")}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_rooms_import_only_what_they_may(path):
    parts = module_name(path).split(".")
    if len(parts) == 1:
        return
    rooms = {name.split(".")[1] for name in imported(path)} - {parts[1]}
    assert rooms <= MAY_IMPORT[parts[1]], f"{module_name(path)} imports {rooms - MAY_IMPORT[parts[1]]}"


def test_there_are_no_circles_and_nothing_imports_a_main():
    known = {module_name(path): path for path in SOURCES}
    graph = {name: imported(path) & set(known) - {name} for name, path in known.items()}
    assert not [name for name, targets in graph.items() if any(t.endswith(".main") for t in targets)]
    while graph:
        leaves = {name for name, targets in graph.items() if not targets & set(graph)}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in leaves}


def test_the_main_scripts_start_without_the_slow_libraries():
    code = (
        "import sys; import stemseg.training.run, stemseg.inference.run; "
        "print([m for m in ('torchvision', 'imgaug', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
