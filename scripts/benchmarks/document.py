"""Tables in a document that a benchmark makes: what stands between its markers is replaced, the prose around it stays.

<!-- benchmark: loading -->
(tables)
<!-- end of benchmark -->
"""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from stemseg.evaluation.report import MetricTable
from stemseg.utils.errors import DataError
from stemseg.utils.files import read_text, write_text

_SECTION = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end of benchmark -->)", re.DOTALL)


def check_document(path: Path, parts: Iterable[str]) -> None:
    """Make sure that a document has a section for each of these parts.

    Raises:
        DataError: naming what is missing.
    """
    known = [match[2] for match in _SECTION.finditer(read_text(path))]
    for part in parts:
        if known.count(part) != 1:
            raise DataError(
                f"{path} has {known.count(part)} sections for the benchmark's part '{part}', expected one; put these "
                f"two lines where its tables belong: <!-- benchmark: {part} --> and <!-- end of benchmark -->"
            )


def write_sections(path: Path, texts: Mapping[str, str]) -> None:
    """Replace the sections of these parts of a document, and nothing else."""

    def replaced(match: re.Match[str]) -> str:
        return match[0] if match[2] not in texts else f"{match[1]}\n{texts[match[2]].strip()}\n\n{match[3]}"

    write_text(path, _SECTION.sub(replaced, read_text(path)))


def as_section(tables: Iterable[MetricTable], command: str, note: str) -> str:
    """The Markdown of one part: the command as a comment, the machine, what is to be said of the run, its tables."""
    lines = [f"<!-- {command} -->", "", *textwrap.wrap(f"{describe_machine()}. {note}", width=120)]
    for table in tables:
        lines += ["", *_markdown(table)]
    return "\n".join(lines)


def describe_machine() -> str:
    """The processor, its cores that this process may use, and the version of torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} core{'' if cores == 1 else 's'}, torch {torch.__version__}"


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _markdown(table: MetricTable) -> list[str]:
    """The lines of a table; rows that stand indented, as parts of the one above, get a dash."""
    lines = ["| " + " | ".join([table.title, *table.columns]) + " |", "|---|" + "---:|" * len(table.columns)]
    for name, values in table.to_dict().items():
        cells = [_cell(values[column], table.decimals) for column in table.columns]
        lines.append("| " + " | ".join([re.sub(r"^ +", "- ", name), *cells]) + " |")
    return lines


def _cell(value: float | int | None, decimals: int) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{round(value, decimals) + 0.0:.{decimals}f}"
