"""Texts for people: lists and long values cut to what can be read."""

from __future__ import annotations

from collections.abc import Iterable


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
