"""Values of JSON files: what they plainly mean, or an error with file, entry and key."""

from __future__ import annotations

import math
from typing import Any

import pytest

from stemseg.utils.errors import DataError
from stemseg.utils.json_values import Entry, inner_path, parse_json, whole_key

ENTRY = Entry({"a": 40.0, "b": None, "c": "x", "d": [], "size": 1}, "file.json, entry 3")


def test_values_are_read_as_what_they_plainly_mean() -> None:
    assert ENTRY.whole("a") == 40 and type(ENTRY.whole("a")) is int
    assert ENTRY.whole("b", default=7) == ENTRY.whole("missing", default=7) == 7
    assert ENTRY.number("size") == 1.0 and ENTRY.text("c") == ENTRY.identity("c") == "x"
    assert ENTRY.flag("size") and not ENTRY.flag("b") and "b" not in ENTRY
    assert whole_key("12", "here") == 12
    assert parse_json(b'\xef\xbb\xbf{"a": 1}', "bom.json") == {"a": 1}


@pytest.mark.parametrize("value", [None, True, "48", 1.5, math.nan, math.inf, -1, 10**30, [], {}])
def test_other_values_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"file\.json: 'height' is .*, expected a whole number from 1 to 65535; correct it"
    ):
        Entry({"height": value, "width": 3}, "file.json").size()


def test_missing_keys_and_images_without_bounds_are_named() -> None:
    with pytest.raises(DataError, match=r"entry 3: key 'id' is missing; found a, b, c, d, size"):
        ENTRY.identity()
    with pytest.raises(DataError, match="expected at most 67108864 pixels"):
        Entry({"height": 65535, "width": 65535}, "file.json").size()
    with pytest.raises(DataError, match=r"is empty.*list them"):
        ENTRY.paths("d")


@pytest.mark.parametrize(
    "path", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:\\x", "", "nul\0", "\ud800", "x" * 256, 3]
)
def test_paths_stay_below_their_folder(path: Any) -> None:
    with pytest.raises(DataError, match=r"^here is .*expected"):
        inner_path(path, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deep"), (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b"\xff\xfe", "not UTF-8"), (b"1" * 5000, "not valid JSON"), (b"", "not valid JSON"),
        (b'{"a": 1}}', "not valid JSON"),
    ],
)  # fmt: skip
def test_texts_that_are_no_json_are_named(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"file.json.*{message}"):
        parse_json(content, "file.json")
