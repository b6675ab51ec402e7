"""Texts cut to what can be read."""

import pytest

from stemseg.utils.text import first_line, shorten, shorten_list, shown


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "none"), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2 and 1 more"), (9, "0, 1, 2 and 6 more")]
)
def test_lists_say_how_many_more_there_are(count, expected):
    assert shorten_list(range(count), 3) == expected


def test_lists_take_any_separator():
    assert shorten_list(["a", "b", "c"], 2, separator="; ") == "a; b and 1 more"


def test_long_texts_end_in_an_ellipsis_within_the_limit():
    assert shorten("eight...", 8) == "eight..."
    assert shorten("nine.....", 8) == "nine...…"


def test_first_lines():
    assert first_line(ValueError("found 3\nat the place")) == "found 3"
    assert first_line("") == ""


def test_values_are_shown_shortly():
    for value in ("a" * 9999, list(range(9999)), [[[[[[1]]]]]], 16**9999, {"a" * 999: "b" * 999}):
        assert len(shown(value)) < 250
    assert shown([1, "a", None]) == "[1, 'a', None]"
