"""Mutations of files: values of a wrong kind at any place of a JSON document, and texts that are no such document."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

DELETE, TWICE = "<delete>", "<twice>"
VALUES: tuple[Any, ...] = (
    None, True, "", "x", "7", 0, -1, 1.5, 10**30, math.nan, math.inf, [], {}, [None], [[[]]], {"a": 1}, "../../up",
    "\ud800", "nul\0", DELETE, TWICE,
)  # fmt: skip

Path = tuple[str | int, ...]


class Mutation(NamedTuple):
    """A changed document as bytes, its name for messages, and where which value stands in it (None: the whole text)."""

    name: str
    content: bytes
    path: Path | None = None
    value: Any = None


def places(document: Any, prefix: Path = ()) -> Iterator[Path]:
    """Every place of a JSON document, the whole of it first."""
    yield prefix
    entries: list[tuple[str | int, Any]] = list(document.items()) if isinstance(document, dict) else []
    if isinstance(document, list):
        entries = list(enumerate(document[:3]))  # of long lists the first ones
    for key, value in entries:
        yield from places(value, (*prefix, key))


def value_at(document: Any, path: Path) -> Any:
    """The value at a place."""
    for key in path:
        document = document[key]
    return document


def changed(document: Any, path: Path, value: Any) -> Any:
    """A copy with another value at a place, without it, or with it twice (in lists)."""
    if not path:
        return value if value not in (DELETE, TWICE) else []
    document = copy.deepcopy(document)
    parent = value_at(document, path[:-1])
    if value is DELETE:
        del parent[path[-1]]
    elif value is TWICE and isinstance(parent, list):
        parent.insert(path[-1], copy.deepcopy(parent[path[-1]]))
    elif value is TWICE:
        parent[f"{path[-1]} again"] = copy.deepcopy(parent[path[-1]])
    else:
        parent[path[-1]] = copy.deepcopy(value)
    return document


def json_mutations(document: Any) -> list[Mutation]:
    """Every value of :data:`VALUES` at every place."""
    found = []
    for path in places(document):
        for value in VALUES:
            text = json.dumps(changed(document, path, value))
            text = text.replace("Infinity", "1e309") if len(path) % 2 else text
            name = f"{'/'.join(map(str, path)) or 'all of it'} = {value!r:.40}"
            found.append(Mutation(name, text.encode("ascii"), path, value))
    return found


def text_mutations(text: str) -> list[Mutation]:
    """Texts that are no document: cut off, in other encodings, of another kind."""
    content = text.encode()
    middle = len(content) // 2
    texts = {
        "empty": b"",
        "one byte": content[:1],
        "cut in half": content[:middle],
        "last byte gone": content.rstrip()[:-1],
        "garbage behind": content + b"}}",
        "UTF-16": text.encode("utf-16"),
        "Latin-1": content[:middle] + b"\xe4\xff" + content[middle:],
        "zero bytes": bytes(64),
        "web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "nested lists": b"[" * 100_000,
        "nested objects": b'{"a":' * 100_000,
        "a number": b"12",
        "a text": b'"hello"',
        "null": b"null",
        "number of 5000 digits": b"1" * 5000,
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "archive": b"PK\x03\x04" + bytes(40),
    }
    return [Mutation(name, value) for name, value in texts.items()]
