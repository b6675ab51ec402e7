"""Finds files in official folder trees, and says what was looked for where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stemseg.utils.errors import DataError


def find(root: Path, candidates: Sequence[str], what: str, override: str | None = None, hint: str = "") -> Path:
    """The first of ``candidates`` below ``root`` that exists, or ``override`` (absolute, or below ``root``).

    Args:
        what: what is looked for, for the error message.
        hint: what else the user can do where it is not found.

    Raises:
        DataError: naming all places that were tried.
    """
    tried = [root / override] if override else [root / name for name in candidates]
    for path in tried:
        if path.exists():
            return path
    places = ", ".join(str(path) for path in tried)
    raise DataError(
        f"{what} not found: tried {places}. Give the folder of the official download as ROOT{hint and ', or ' + hint}"
    )


def read_json(path: Path, required: Iterable[str]) -> dict[str, Any]:
    """The object in an official JSON file.

    Raises:
        DataError: where it is damaged or lacks one of the ``required`` keys.
    """
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); was the download cut off? Download it again") from None
    missing = [key for key in required if not isinstance(content, dict) or key not in content]
    if missing:
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: found {found}, but no {', '.join(missing)}; is it the right file?")
    return content


def read_list(path: Path) -> list[str]:
    """The first word of each line of an image set file."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def grouped_by(entries: Iterable[dict[str, Any]], key: str) -> dict[Any, list[dict[str, Any]]]:
    """Entries in lists by the value of ``key``; entries without it are under None."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for entry in entries:
        groups.setdefault(entry.get(key), []).append(entry)
    return groups
