"""Strict YAML: what is read as what, and short errors for what no configuration holds."""

from itertools import count

import pytest

from stemseg.config.yaml_reader import parse_yaml, read_yaml
from stemseg.utils.errors import ConfigError

LONGEST = 600  # characters of an error


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1.5e3", 1500.0), (".5E+2", 50.0), ("-1E5", -1e5), ("2.", 2.0), ("0.1", 0.1), ("12", 12),
     (".inf", float("inf")), ("e5", "e5"), ("1e", "1e"), ("true", True), ("null", None), ("[1e1, 2]", [10.0, 2])],
)  # fmt: skip
def test_numbers_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(text, name="x")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A: 1\nB: 2\nA: 3", ["line 3", "'A' is given twice, first in line 1"]),
        ("A:\n  B: {C: 1, C: 1}", ["line 2", "'C'"]),
        ("A: &a [1, 1]\nB: *a", ["line 2", "aliases"]),
        ("A: &a [*a]", ["aliases"]),
        ("[" * 100_000, ["nested deeper than 16"]),
        ("- " * 10_000, ["nested deeper than 16"]),
        ("{a: " * 10_000, ["nested deeper than 16"]),
        ("!!python/object/apply:os.system [x]", ["tags", "os.system"]),
        (f"A: !<{'t' * 5000}> 1", ["tags"]),
        ("!!bool x", ["tags"]),
        ("A: 2001-99-99", ["month must be in 1..12"]),
        ("9" * 5000, ["4300 digits"]),
        ("[1", ["line 1, column 3", "expected ',' or ']'"]),
        ("A: 1\n---\nB: 1", ["another document"]),
        ("A: \x01", ["#x0001"]),
        ("? [a]\n: 1", ["unhashable"]),
    ],
    ids=count(),
)
def test_refusals_say_where_and_are_short(text, words):
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, name="mine.yaml")
    message = str(error.value)
    assert message.startswith("mine.yaml is not valid YAML: ") and len(message) < LONGEST
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"A: 1\nB: \xe9\n", "is not UTF-8 (line 2)"),
        ("A: 1".encode("utf-16"), "is not UTF-8 (line 1)"),
        (b"#" * 100_001, "is larger than 100000 bytes"),
        (b"- 1", "found a list at the top"),
        (b"text", "found a str at the top"),
    ],
    ids=count(),
)
def test_files_that_are_no_configuration_are_named(content, words, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(path) in str(error.value) and words in str(error.value)


def test_a_file_may_be_empty_have_a_byte_order_mark_and_any_line_ends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"")
    assert read_yaml(path) == {}
    path.write_bytes(b"\xef\xbb\xbfA: 1\r\nB: 2\r\n")
    assert read_yaml(path) == {"A": 1, "B": 2}
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read_yaml(tmp_path / "absent.yaml")
