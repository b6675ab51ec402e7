"""Values of foreign JSON files, read by their kind: as what they plainly mean, or refused with file, entry and key.

``40.0`` is the whole number 40; ``"40"``, ``true``, ``null``, NaN and infinity are no numbers. Every reader of a JSON
file, official, standard or our own, takes its values from an :class:`Entry`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

from stemseg.utils.errors import DataError
from stemseg.utils.files import MAX_IMAGE_PIXELS, decode_text, read_bytes
from stemseg.utils.text import first_line, shorten, shorten_list, shown

MAX_ID = 2**53  # whole numbers beyond are not the same in every program that reads JSON
MAX_SIDE = 65535  # pixels of an image's height or width
_MAX_JSON_BYTES = 4 << 30  # the largest official file, LVIS, has 1.1 GB
_SHOWN_ERROR = 200
_MAX_NAME = 255  # characters of a file's or folder's name


def read_json(path: str | Path, *, next_step: str = "") -> Any:
    """The content of a JSON file.

    Args:
        next_step: what a user can do where it is missing or damaged.

    Raises:
        DataError: where it can't be read, is no UTF-8, no valid JSON, nested too deep, or names a key twice.
    """
    return parse_json(read_bytes(path, max_bytes=_MAX_JSON_BYTES, next_step=next_step), path, next_step=next_step)


def parse_json(content: bytes, where: str | Path, *, next_step: str = "") -> Any:
    """The value that bytes are in JSON, with or without a byte order mark; raises as :func:`read_json` does."""
    text = decode_text(content, where)
    hint = f"; {next_step}" if next_step else ""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise DataError(f"{where} is nested too deep to be a file of this kind{hint}") from None
    except ValueError as error:
        reason = shorten(first_line(error), _SHOWN_ERROR)
        raise DataError(f"{where} is not valid JSON: {reason}{hint or '; was it cut off? Write it again'}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {shown(max(names, key=names.count))} is given twice in one object, expected once")
    return values


class Entry:
    """An object of a JSON file; its methods read the values of its keys by their kind.

    Args:
        value: what should be the object.
        where: its place, the file and the entry in it, for messages.

    Raises:
        DataError: the methods too: with the place, the key, what was found and what was expected.
    """

    def __init__(self, value: Any, where: str | Path) -> None:
        self.where = str(where)
        self.values: Mapping[str, Any] = mapping(value, self.where)

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str) -> Any:
        """The value of a key as it stands there."""
        return require(self.values, key, self.where)

    def whole(self, key: str, low: int = 0, high: int = MAX_ID, *, default: int | None = None) -> int:
        """A whole number; ``default``, where one is given, for a key that is missing or null."""
        if default is not None and key not in self:
            return default
        return whole(self.get(key), self.place(key), low, high)

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number."""
        return number(self.get(key), self.place(key), low, high)

    def text(self, key: str) -> str:
        """A text with at least a character."""
        return text(self.get(key), self.place(key))

    def identity(self, key: str = "id") -> int | str:
        """An id: a whole number, also below 0, or a text."""
        return identity(self.get(key), self.place(key))

    def flag(self, key: str) -> bool:
        """True or false, or 1 or 0; false where the key is missing or null."""
        value = self.values.get(key)
        if value not in (None, 0, 1):
            fail(self.place(key), value, "true or false, or 1 or 0")
        return bool(value)

    def path(self, key: str) -> str:
        """A relative path that does not lead out of the folder it starts in."""
        return inner_path(self.get(key), self.place(key))

    def paths(self, key: str) -> list[str]:
        """Such a path for each frame, at least one."""
        paths = [inner_path(value, f"{self.place(key)}[{i}]") for i, value in enumerate(self.items(key))]
        if not paths:
            raise DataError(f"{self.where} has no frames ('{key}' is empty); list them, or remove the entry")
        return paths

    def size(self) -> tuple[int, int]:
        """The image size (height, width) in pixels."""
        height, width = (self.whole(key, 1, MAX_SIDE) for key in ("height", "width"))
        if height * width > MAX_IMAGE_PIXELS:
            fail(self.where, f"{height} x {width}", f"at most {MAX_IMAGE_PIXELS} pixels (height x width)")
        return height, width

    def items(self, key: str) -> list[Any]:
        """A list."""
        return items(self.get(key), self.place(key))

    def entries(self, key: str, kind: str) -> Iterator[Entry]:
        """The objects in a list; ``kind`` is what messages call one of them, "annotation"."""
        for index, value in enumerate(self.items(key)):
            yield Entry(value, f"{self.where}, {kind} {index}")

    def mapping(self, key: str) -> Mapping[str, Any]:
        """An object whose keys are not known beforehand."""
        return mapping(self.get(key), self.place(key))

    def place(self, key: str) -> str:
        """The place of a key's value, for messages."""
        return f"{self.where}: '{key}'"


def require(values: Mapping[str, Any], key: str, where: str) -> Any:
    """The value of a key of an object.

    Raises:
        DataError: with the keys that are there, where it is missing.
    """
    if key not in values:
        raise DataError(f"{where}: key '{key}' is missing; found {names_of(values)}")
    return values[key]


def names_of(values: Mapping[str, Any]) -> str:
    """The first keys of an object, for messages."""
    return shorten_list(shorten(str(key), 40) for key in values)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, if it is an object."""
    return value if isinstance(value, Mapping) else fail(where, value, "an object {...}")


def items(value: Any, where: str) -> list[Any]:
    """The value, if it is a list."""
    return value if isinstance(value, list) else fail(where, value, "a list [...]")


def whole(value: Any, where: str, low: int = 0, high: int = MAX_ID) -> int:
    """The whole number from ``low`` to ``high`` that a value is, also where it is written as 40.0."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        fail(where, value, f"a whole number from {low} to {high}")
    return value


def whole_key(key: str, where: str, low: int = 0) -> int:
    """The whole number that a key of an object is, keys being texts: "1"."""
    if not (key.isascii() and key.removeprefix("-").isdigit() and len(key) < 17):
        fail(where, key, 'a whole number as key, such as "1"')
    return whole(int(key), where, low)


def number(value: Any, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The finite number from ``low`` to ``high`` that a value is."""
    if type(value) not in (int, float) or not low <= value <= high or abs(value) > 1e300:
        limits = "" if low == -math.inf else f" from {low:g}" + ("" if high == math.inf else f" to {high:g}")
        fail(where, value, f"a finite number{limits}")
    return float(value)


def text(value: Any, where: str) -> str:
    """The value, if it is a text with at least a character, and one that can be written to a file."""
    if not isinstance(value, str) or not value or "\0" in value or not is_unicode(value):
        fail(where, value, "a text")
    return value


def identity(value: Any, where: str) -> int | str:
    """The id that a value is: a whole number or a text."""
    if isinstance(value, str):
        return text(value, where)
    if type(value) not in (int, float):
        fail(where, value, "a whole number or a text")
    return whole(value, where, -MAX_ID)


def inner_path(value: Any, where: str) -> str:
    """The value, if it is a relative path that does not lead out of the folder it starts in."""
    path = text(value, where)
    if max(map(len, path.split("/"))) > _MAX_NAME:
        fail(where, value, f"names of at most {_MAX_NAME} characters")
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or ".." in path.replace("\\", "/").split("/"):
        fail(where, value, "a relative path that stays below its folder (no '..', no '/' at the start)")
    return path


def name_in_folder(value: Any, where: str) -> str:
    """The value, if it can be the name of a file in a folder, and of none anywhere else."""
    name = inner_path(value, where)
    if name == "." or "/" in name or "\\" in name:
        fail(where, value, "a name without a folder")
    return name


def is_unicode(value: str) -> bool:
    """Whether a text holds no half characters (surrogates), which no file can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def fail(where: str, value: Any, expected: str) -> NoReturn:
    """Raise the error of a value that is not what it should be.

    Raises:
        DataError: always.
    """
    raise DataError(
        f"{where} is {shown(value)} ({_TYPES.get(type(value), 'a value')}), expected {expected}; correct it"
    )


_TYPES = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
_TYPES |= dict.fromkeys((int, float), "a number")
