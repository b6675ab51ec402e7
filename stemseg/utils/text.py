"""Texts for people: lists and long values cut to what can be read."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Any


def shorten_list(items: Iterable[object], limit: int = 8, *, separator: str = ", ") -> str:
    """The first ``limit`` items, and how many more there are.

    >>> shorten_list(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    >>> shorten_list([])
    'none'
    """
    texts = [str(item) for item in items]
    rest = len(texts) - limit
    shown = separator.join(texts[:limit])
    return f"{shown} and {rest} more" if rest > 0 else shown or "none"


def shorten(text: str, limit: int) -> str:
    """A text cut to ``limit`` characters, the last of which then is an ellipsis.

    >>> shorten("skateboard", 6)
    'skate…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def first_line(value: object) -> str:
    """The first line of what ``value`` says: of an error's message, say.

    >>> first_line("found 3\\nfrom here on only details")
    'found 3'
    """
    return str(value).split("\n", 1)[0]


def shown(value: Any) -> str:
    """``value`` as an error shows it: like ``repr``, but never long.

    >>> shown([2.5, "a"])
    "[2.5, 'a']"
    >>> shown(list(range(100)))
    '[0, 1, 2, 3, 4, 5, 6, 7, ...]'
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write out whole numbers of more than 4300 digits
        return "a huge number"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxdict = 8
_SHORT.maxlevel = 3
