"""YAML read strictly: every key once, floats as in YAML 1.2, bounded, short errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from stemseg.utils.errors import ConfigError
from stemseg.utils.text import first_line, shorten, shown

_MAX_BYTES = 100_000  # seven times configs/defaults.yaml with its comments; parsing that much takes seconds
_MAX_DESCRIPTION = 250
_MAX_DEPTH = 16  # the deepest key of defaults.yaml has a depth of 4
# YAML 1.1, which PyYAML implements, takes 1e-4 and 1.5e3 for texts: it wants a point and a sign in the exponent
_YAML_1_2_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; an empty file holds an empty one.

    Raises:
        ConfigError: where the file can't be read, is no UTF-8, too large, not valid YAML, or no mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror or error}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES} bytes; is it a configuration?")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} is not UTF-8 (line {line}); save it with that encoding") from error
    values = parse_yaml(text, name=str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found a {type(values).__name__} at the top, expected sections such as 'INPUT:'")
    return values


def parse_yaml(text: str, *, name: str) -> Any:
    """The value that a text is in YAML.

    Args:
        name: what errors call the text, a file or an override.

    Raises:
        ConfigError: where it is not valid YAML, names a key twice, nests too deep, or has aliases or tags.
    """
    try:
        loader = _StrictLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that Python has no value for
        raise ConfigError(f"{name} is not valid YAML: {_describe(error)}; correct it") from error


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without what a configuration never needs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next value, unless it is an alias, which may stand for any amount of data, tagged or too deep."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases (*name) are not possible; write the values out", event.start_mark)
        if event.tag is not None:
            raise _refusal(f"tags ({shown(event.tag)}) are not possible; write the value alone", event.start_mark)
        if self._depth == _MAX_DEPTH:
            raise _refusal(f"nested deeper than {_MAX_DEPTH} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, unless it names a key twice."""
        node = super().compose_mapping_node(anchor)
        first_lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in first_lines:
                problem = f"key {shown(key.value)} is given twice, first in line {first_lines[key.value]}"
                raise _refusal(problem, key.start_mark)
            first_lines[key.value] = line
        return node


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"^(?:{_YAML_1_2_FLOAT.pattern})$"), list("-+.0123456789")
)


def _refusal(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _describe(error: Exception) -> str:
    """The problem and its place, in a line."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        text = place + " ".join(filter(None, (error.problem, error.context)))
    else:
        text = first_line(error)
    return shorten(text, _MAX_DESCRIPTION)
