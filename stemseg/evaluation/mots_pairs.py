"""Find the sequences of a KITTI-MOTS evaluation on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from stemseg.evaluation.davis_files import results_folder
from stemseg.evaluation.ground_truth import ground_truth_from_annotations
from stemseg.evaluation.mots import MotsPair
from stemseg.evaluation.mots_files import MotsSequence, mots_from_ground_truth
from stemseg.evaluation.sequence_lists import check_sequences
from stemseg.structures.annotations import load_video_annotations
from stemseg.utils.errors import DataError

_TRUTH_FOLDERS = ("instances_txt", "instances", "gt/instances_txt", "gt/instances")


def open_mots(
    results: str | Path, ground_truth: str | Path, *, sequences: Mapping[str, int | None] | None = None
) -> list[MotsPair]:
    """Pair the results of each sequence with its ground truth; txt files and PNGs are read later.

    Args:
        results: folder of ``<sequence>.txt``, or the folder above with these in ``results/``.
        ground_truth: standard JSON, folder of ``<sequence>.txt`` or of ``<sequence>/<frame>.png``, or the folder above.
        sequences: names, each with the number of its last frame where that is known; None: all of the ground truth.

    Raises:
        DataError: naming what is missing.
    """
    folder = results_folder(results)
    truth, last_frames = _find_truth(Path(ground_truth))
    last_frames |= {name: last for name, last in (sequences or {}).items() if last is not None}
    found = {unquote(path.stem): path for path in sorted(folder.glob("*.txt"))}
    names = check_sequences(truth, found, sequences, folder)
    return [MotsPair(name, truth[name], found[name], last_frames.get(name)) for name in names]


def _find_truth(path: Path) -> tuple[dict[str, MotsSequence | Path], dict[str, int]]:
    """Ground truth of each sequence by name, and the number of its last frame where the files tell."""
    if path.is_file() and path.suffix == ".json":
        loaded = mots_from_ground_truth(ground_truth_from_annotations(load_video_annotations(path)))
        return {sequence.name: sequence for sequence in loaded}, {s.name: s.last_frame for s in loaded}
    folder = next((path / name for name in _TRUTH_FOLDERS if (path / name).is_dir()), path)
    if not folder.is_dir():
        raise DataError(f"{path} does not exist; expected a folder of txt files or PNGs, or a standard JSON")
    texts = {file.stem: file for file in sorted(folder.glob("*.txt"))}
    if texts:
        return texts, {}
    folders = {child.name: child for child in sorted(folder.iterdir()) if child.is_dir() and any(child.glob("*.png"))}
    if not folders:
        raise DataError(
            f"{folder} holds neither <sequence>.txt nor <sequence>/000000.png; expected KITTI-MOTS' annotations"
        )
    return folders, {name: max(int(f.stem) for f in child.glob("[0-9]*.png")) for name, child in folders.items()}
