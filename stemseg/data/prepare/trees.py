"""Finds files in official folder trees, and says what was looked for where there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from stemseg.utils.errors import DataError
from stemseg.utils.files import read_text, user_path
from stemseg.utils.json_values import Entry, inner_path, names_of, read_json


def find(root: Path, candidates: Sequence[str], what: str, override: str | None = None, hint: str = "") -> Path:
    """The first of ``candidates`` below ``root`` that exists, or ``override`` (absolute, below ``root`` or here).

    Args:
        what: what is looked for, for the error message.
        hint: what else the user can do where it is not found.

    Raises:
        DataError: naming all places that were tried.
    """
    own = user_path(override or "")
    tried = [root / own, own.absolute()] if override else [root / name for name in candidates]
    for path in tried:
        if path.exists():
            return path
    places = ", ".join(str(path) for path in dict.fromkeys(tried))
    raise DataError(
        f"{what} not found: tried {places}. Give the folder of the official download as ROOT{hint and ', or ' + hint}"
    )


def read_official(path: Path, required: Iterable[str]) -> Entry:
    """The object in an official JSON file.

    Raises:
        DataError: where it is damaged or lacks one of the ``required`` keys.
    """
    file = Entry(read_json(path, next_step="was the download cut off? Download it again"), path)
    missing = [key for key in required if key not in file.values]
    if missing:
        raise DataError(f"{path}: found {names_of(file.values)}, but no {', '.join(missing)}; is it the right file?")
    return file


def read_list(path: Path) -> list[str]:
    """The names that the lines of an image set file begin with.

    Raises:
        DataError: where it is no text, names nothing, or a name leads out of its folder.
    """
    lines = [line.split() for line in read_text(path, next_step="download it again").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} names nothing, expected a name in each line; download it again")
    names = [inner_path(fields[0], f"{path}: name {i}") for i, fields in enumerate(lines, start=1)]
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise DataError(f"{path} holds the name '{name}' {times} times, expected each once; remove the others")
    return names
