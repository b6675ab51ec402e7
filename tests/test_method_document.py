"""docs/method.md and the code lead to each other: cited sections exist, and so do the code map's files and names."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^##+ (\d+(?:\.\d+)?)\.? ", DOCUMENT, flags=re.MULTILINE))
EQUATIONS = set(re.findall(r"\\tag\{([\d.]+)\}", DOCUMENT))
ROWS = re.findall(
    r"^\| (§[^|]*) \| `(stemseg/[^`]*)` \| ([^|]*) \|$", DOCUMENT.split("## Code map")[1], flags=re.MULTILINE
)
CITING = sorted(
    path
    for pattern in ("stemseg/**/*.py", "scripts/**/*.py", "tests/**/*.py", "configs/*.yaml", "*.md", "docs/*.md")
    for path in ROOT.glob(pattern)
    if path != Path(__file__)
)


def cited(text: str) -> set[str]:
    """The sections that a text cites: "method.md §8.2, §8.3" cites two."""
    lists = re.findall(r"method\.md ((?:§[\d.]*\d(?:, )?)+)", text)
    return {section for sections in lists for section in re.findall(r"§([\d.]*\d)", sections)}


def test_every_cited_section_exists():
    found = {path: cited(path.read_text(encoding="utf-8")) for path in CITING}
    assert sum(map(len, found.values())) > 30
    missing = {str(path): sections - SECTIONS for path, sections in found.items() if sections - SECTIONS}
    assert not missing


def test_every_citation_has_the_one_form():
    mentions = re.compile(r"METHOD(?:\.md)? (?:section|§)|method\.md(?: section|, section| [Ss]ec)")
    assert not [path for path in CITING if mentions.search(path.read_text(encoding="utf-8"))]


def test_sections_are_numbered_without_gaps():
    top = [int(section) for section in SECTIONS if "." not in section]
    assert sorted(top) == list(range(1, len(top) + 1))


@pytest.mark.parametrize(("file", "names"), [row[1:] for row in ROWS])
def test_the_code_map_leads_to_names_that_are_defined(file, names):
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    assert (ROOT / file).is_file()
    for name in re.findall(r"`([^`]+)`", names):
        value = reduce(getattr, name.split("."), module)
        assert getattr(value, "__module__", module.__name__) in (module.__name__, "builtins"), (
            f"{name} comes from elsewhere"
        )


def test_the_code_map_covers_every_section_and_equation():
    mapped = " ".join(row[0] for row in ROWS)
    ranges = re.findall(r"\((\d+)\.(\d+)\) to \(\1\.(\d+)\)", mapped)
    covered = set(re.findall(r"\(([\d.]+)\)", mapped))
    covered |= {f"{section}.{i}" for section, first, last in ranges for i in range(int(first), int(last) + 1)}
    assert covered == EQUATIONS
    sections = set(re.findall(r"§([\d.]*\d)", mapped))
    assert sections <= SECTIONS
    assert {section.split(".")[0] for section in sections} == {s for s in SECTIONS if "." not in s} - {"11", "13"}
