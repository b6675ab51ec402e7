"""KITTI-MOTS: sMOTSA, MOTSA, MOTSP, the counts behind them, and HOTA, per class and sequence.

:func:`open_mots` finds the sequences on disk, :func:`evaluate_mots` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stemseg.evaluation.davis.files import results_folder
from stemseg.evaluation.ground_truth import check_sequences, ground_truth_from_annotations
from stemseg.evaluation.kitti_mots.clear_mots import MATCH_IOU, ClassFrame, ClearCounts, count_matches
from stemseg.evaluation.kitti_mots.files import (
    IGNORE_CLASS,
    MOTS_CLASSES,
    MotsObject,
    MotsSequence,
    frame_number,
    mots_from_ground_truth,
    read_mots,
)
from stemseg.evaluation.kitti_mots.hota import HotaSums, sum_hota
from stemseg.evaluation.masks import ious, mask_areas, mask_intersections
from stemseg.evaluation.report import Cell, MetricTable
from stemseg.structures.annotations import load_video_annotations
from stemseg.utils.errors import DataError
from stemseg.utils.files import name_of_file
from stemseg.utils.parallel import run_jobs

MOTS_COLUMNS = (
    "sMOTSA", "MOTSA", "MOTSP", "HOTA", "DetA", "AssA", "LocA", "TP", "FP", "FN", "IDS", "Frag", "MT", "PT", "ML",
)  # fmt: skip
_TRUTH_FOLDERS = ("instances_txt", "instances", "gt/instances_txt", "gt/instances")
_IGNORED_SHARE = 0.5  # a result with more of its area than this inside the ignore region does not count


@dataclass(frozen=True)
class MotsPair:
    """A sequence's ground truth and results. Frames count from 0 to ``last_frame``; None: to the last with a mask.

    A path in place of a sequence is read when it is needed: by the process that evaluates it.
    """

    name: str
    truth: MotsSequence | Path
    result: MotsSequence | Path
    last_frame: int | None = None

    def load(self) -> LoadedPair:
        """Both in memory, checked against each other; raises DataError as :func:`evaluate_mots` does."""
        truth = self.truth if isinstance(self.truth, MotsSequence) else read_mots(self.truth)
        result = self.result if isinstance(self.result, MotsSequence) else read_mots(self.result)
        _check_pair(self.name, truth, result, self.last_frame)
        last = max(truth.last_frame, result.last_frame) if self.last_frame is None else self.last_frame
        return LoadedPair(truth, result, last)


class LoadedPair(NamedTuple):
    """A sequence's ground truth, its results, the number of the last frame that counts."""

    truth: MotsSequence
    result: MotsSequence
    last_frame: int


@dataclass(frozen=True)
class MotsScores:
    """The measures of one class, in one sequence or over several; two of them can be added."""

    clear: ClearCounts
    hota: HotaSums

    def __add__(self, other: MotsScores) -> MotsScores:
        return MotsScores(self.clear + other.clear, self.hota + other.hota)

    @property
    def num_objects(self) -> int:
        """Masks of the ground truth."""
        return self.clear.tp + self.clear.fn

    def row(self) -> list[Cell]:
        """The figures in the order of :data:`MOTS_COLUMNS`."""
        clear, hota = self.clear, self.hota
        fractions = [clear.smotsa, clear.motsa, clear.motsp, hota.hota, hota.det_a, hota.ass_a, hota.loc_a]
        return [*fractions, clear.tp, clear.fp, clear.fn, clear.ids, clear.frag, clear.mt, clear.pt, clear.ml]


@dataclass(frozen=True)
class MotsReport:
    """Scores of each class in each sequence: ``per_sequence[sequence][class name]``."""

    per_sequence: dict[str, dict[str, MotsScores]]

    @property
    def empty_sequences(self) -> list[str]:
        """Names of those whose ground truth has neither cars nor pedestrians."""
        return [name for name, result in self.per_sequence.items() if not any(s.num_objects for s in result.values())]

    def per_class(self) -> dict[str, MotsScores]:
        """Each class over all sequences."""
        empty = MotsScores(ClearCounts(), HotaSums())
        return {
            name: sum((scores[name] for scores in self.per_sequence.values()), empty) for name in MOTS_CLASSES.values()
        }

    def tables(self) -> list[MetricTable]:
        """The classes over all sequences, then each class by sequence."""
        summary = MetricTable("class", MOTS_COLUMNS, {name: s.row() for name, s in self.per_class().items()})
        details = [
            MetricTable(name, MOTS_COLUMNS, {seq: scores[name].row() for seq, scores in self.per_sequence.items()})
            for name in MOTS_CLASSES.values()
        ]
        return [summary, *details]

    def scalars(self) -> dict[str, float]:
        """sMOTSA, MOTSA, MOTSP and HOTA of each class, as "car sMOTSA", and the mean of the classes that occur."""
        columns = MOTS_COLUMNS[:4]
        rows = {name: scores.row()[: len(columns)] for name, scores in self.per_class().items()}
        present = [row for row in rows.values() if not math.isnan(row[0])]
        mean = {"mean": np.mean(present, axis=0).tolist()} if present else {}
        return {
            f"{name} {column}": value
            for name, row in (rows | mean).items()
            for column, value in zip(columns, row, strict=True)
        }


def evaluate_mots(pairs: Sequence[MotsPair], *, workers: int = 1, progress: str | None = None) -> MotsReport:
    """All measures of all sequences.

    Args:
        workers: processes that share the sequences.
        progress: text of a progress bar; None: show none.

    Raises:
        DataError: where the sizes of results and ground truth differ, or results lie after the last frame.
    """
    scores = run_jobs(score_sequence, pairs, sizes=[_size(p) for p in pairs], workers=workers, progress=progress)
    return MotsReport({pair.name: result for pair, result in zip(pairs, scores, strict=True)})


def score_sequence(pair: MotsPair) -> dict[str, MotsScores]:
    """The measures of one sequence, by class name; raises as :func:`evaluate_mots` does."""
    loaded = pair.load()
    scores = {}
    for class_id, name in MOTS_CLASSES.items():
        frames = class_frames(loaded, class_id)
        scores[name] = MotsScores(count_matches(frames), sum_hota(frames))
    return scores


def class_frames(pair: LoadedPair, class_id: int) -> list[ClassFrame]:
    """One class in each frame of a sequence, without the results that lie in the ignore region and match nothing."""
    truth, result = pair.truth, pair.result
    size = (truth.height or result.height, truth.width or result.width)
    return [
        _class_frame(truth.frames.get(t, []), result.frames.get(t, []), class_id, size)
        for t in range(pair.last_frame + 1)
    ]


def _class_frame(
    truth: Sequence[MotsObject], results: Sequence[MotsObject], class_id: int, size: tuple[int, int]
) -> ClassFrame:
    objects = [item for item in truth if item.class_id == class_id]
    found = [item for item in results if item.class_id == class_id]
    ignore = [item.counts for item in truth if item.class_id == IGNORE_CLASS]
    counts = [item.counts for item in found]
    areas = mask_areas(counts, *size)
    intersections = mask_intersections([item.counts for item in objects], counts, *size)
    overlaps = ious(intersections, mask_areas([item.counts for item in objects], *size), areas)
    inside = mask_intersections(counts, ignore, *size).sum(axis=1)
    counted = (overlaps > MATCH_IOU).any(axis=0) | (inside <= _IGNORED_SHARE * areas)
    return ClassFrame(
        np.array([item.track_id for item in objects], dtype=np.int64),
        np.array([item.track_id for item in found], dtype=np.int64)[counted],
        overlaps[:, counted],
    )


def _size(pair: MotsPair) -> int:
    """The work that a pair is, roughly."""
    if isinstance(pair.result, Path):
        return pair.result.stat().st_size if pair.result.is_file() else 0
    return sum(map(len, pair.result.frames.values()))


def _check_pair(name: str, truth: MotsSequence, result: MotsSequence, last_frame: int | None) -> None:
    if result.height and truth.height and (result.height, result.width) != (truth.height, truth.width):
        raise DataError(
            f"sequence '{name}': result masks are {result.height} x {result.width} (height x width), expected "
            f"{truth.height} x {truth.width} as in the ground truth"
        )
    if last_frame is not None and result.last_frame > last_frame:
        raise DataError(
            f"sequence '{name}': the results reach frame {result.last_frame}, but the last frame is {last_frame}; were "
            "they made for another sequence?"
        )


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
    found = {name_of_file(path.stem): path for path in sorted(folder.glob("*.txt"))}
    names = check_sequences(truth, found, sequences, folder)
    return [MotsPair(name, truth[name], found[name], last_frames.get(name)) for name in names]


def _find_truth(path: Path) -> tuple[Mapping[str, MotsSequence | Path], dict[str, int]]:
    """Ground truth of each sequence by name, and the number of its last frame where the files tell."""
    if path.is_file() and path.suffix == ".json":
        loaded = mots_from_ground_truth(ground_truth_from_annotations(load_video_annotations(path, check_masks=True)))
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
    return folders, {name: max(map(frame_number, child.glob("*.png"))) for name, child in folders.items()}
