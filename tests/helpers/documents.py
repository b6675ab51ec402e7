"""Reads the project's Markdown files: their sections, links and the commands that they tell people to run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.helpers.paths import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", flags=re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"(python|torchrun|stemseg-[\w-]+) ")  # the name alone of a program is no command


class Command(NamedTuple):
    """A command as it stands in a document.

    Attributes:
        text: one shell command, its continuation lines joined, without a comment at its end.
        section: the heading (of the second level) that it stands below.
    """

    text: str
    section: str


class Block(NamedTuple):
    """A block of code in a document: its language, "" where it has none, and its text without its indentation."""

    language: str
    body: str


def sections(text: str) -> dict[str, str]:
    """The text below each heading of the second level, up to the next one."""
    parts = re.split(r"^## (.*)$", _without_code_headings(text), flags=re.MULTILINE)
    return {title: body.replace("\0", "#") for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def blocks(text: str) -> list[Block]:
    """Every code block, in order."""
    return [Block(m[2], re.sub(rf"^{m[1]}", "", m[3], flags=re.MULTILINE)) for m in _FENCE.finditer(text)]


def block(text: str, language: str) -> str:
    """The first code block of a language."""
    return next(block.body for block in blocks(text) if block.language == language)


def commands(text: str) -> list[Command]:
    """Every command in a document's shell blocks, and those that stand in a line of text as code."""
    found = []
    for title, body in sections(text).items():
        for match in _FENCE.finditer(body):
            if match[2] == "bash":
                found += [Command(line, title) for line in _lines(match[3])]
        found += [Command(code, title) for code in code_spans(body) if _COMMAND.match(code)]
    return found


def code_spans(text: str) -> list[str]:
    """Everything that stands as code in a line of text, or broken over two."""
    return [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", _FENCE.sub("", text))]


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    titles = re.findall(r"^#+ (.*)$", _without_code_headings(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}


def links(path: Path) -> list[str]:
    """The targets of a document's links and pictures, those to other places left out."""
    prose = _FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def _lines(script: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", "", script)
    lines = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _without_code_headings(text: str) -> str:
    """The text with the # of comments in code blocks hidden: they are no headings."""
    return _FENCE.sub(lambda match: match[0].replace("#", "\0"), text)
