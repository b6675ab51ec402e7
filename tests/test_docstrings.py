"""Docstrings begin with a sentence that says what the thing is or does, for someone who reads it first."""

import ast
import re

from tests.helpers.paths import ROOT

FILES = sorted(path for folder in ("stemseg", "scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
QUESTION = re.compile(r"(?:What|How|Which|Where|Why|Who)\b")
LIST = re.compile(r"(?:Args|Attributes|Returns|Raises|Yields):")


def first_lines(source: str) -> list[tuple[int, str]]:
    """The line number of everything that has a docstring, and the docstring's first line."""
    nodes = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    return [
        (getattr(node, "lineno", 1), docstring.strip().partition("\n")[0])
        for node in nodes
        if (docstring := ast.get_docstring(node)) is not None
    ]


def test_no_docstring_begins_with_a_question_word_or_a_list():
    found = {path: first_lines(path.read_text(encoding="utf-8")) for path in FILES}
    assert sum(map(len, found.values())) > 1000
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, lines in found.items()
        for line, text in lines
        if QUESTION.match(text) or LIST.match(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_of_the_package_has_a_docstring():
    bare = [
        path
        for path in FILES
        if path.stat().st_size
        and "tests" not in path.parts
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not bare
