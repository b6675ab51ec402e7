"""Which sequences to evaluate: names on the command line, a list file, or everything that the ground truth has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from stemseg.utils.errors import DataError


def read_sequence_names(texts: Sequence[str]) -> dict[str, int | None]:
    """Sequence names, and the number of the last frame where a list file states it.

    Args:
        texts: names; or one path of a text file with a name per line (DAVIS ImageSets), or with lines
            "name empty first last" (KITTI-MOTS seqmap).

    Raises:
        DataError: where a file of that name holds no sequence.
    """
    if len(texts) != 1 or not Path(texts[0]).is_file():
        return dict.fromkeys(texts)
    lines = [line.split() for line in Path(texts[0]).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{texts[0]} names no sequence; expected a name in each line")
    return {fields[0]: int(fields[3]) if len(fields) == 4 and fields[3].isdigit() else None for fields in lines}


def check_sequences(known: Iterable[str], found: Iterable[str], wanted: Iterable[str] | None, where: Path) -> list[str]:
    """The names to evaluate, in the order of the ground truth.

    Args:
        known: sequences of the ground truth.
        found: sequences of the results.
        wanted: names to evaluate; None: all of the ground truth.
        where: of the results, for messages.

    Raises:
        DataError: where the results hold an unknown sequence or lack one, or a wanted one is unknown.
    """
    known, found = list(known), list(found)
    unknown = [name for name in found if name not in known]
    if unknown:
        raise DataError(
            f"{where} holds results of {_some(unknown)}, which the ground truth lacks; it has {_some(known)}. Were the "
            "results made for another split or dataset?"
        )
    wanted = None if wanted is None else list(wanted)
    names = known if wanted is None else [name for name in known if name in wanted]
    strange = [] if wanted is None else [name for name in wanted if name not in known]
    if strange:
        raise DataError(f"--sequences names {_some(strange)}, which the ground truth lacks; it has {_some(known)}")
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{where} has no results of {_some(missing)}; segment these too, or name those to evaluate with --sequences"
        )
    return names


def _some(names: Sequence[str], limit: int = 8) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown or "none"
