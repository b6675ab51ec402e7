"""Compare rules for the scores of tracks by their AP: on the videos that a rule was chosen on, and on others.

    python scripts/experiments/track_scores.py --sets design=OUT1:train.json confirm=OUT2:val.json --output scores.md

A set is the output folder of inference (``sequences/*.json`` hold the statistics of every track) and its ground truth;
videos of the ground truth that were not segmented are left out. Nothing is segmented again: all rules rank the same
tracks. Figures are AP in per cent; behind ± stands the standard error of the difference to ``pixels``, by a jackknife
over videos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone runs without being installed

from stemseg.evaluation.davis.measures import evaluate_davis
from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthVideo
from stemseg.evaluation.masks import video_ious
from stemseg.evaluation.video_tracks import painted_videos
from stemseg.evaluation.youtube_vis.average_precision import IOU_THRESHOLDS
from stemseg.evaluation.youtube_vis.files import load_ground_truth
from stemseg.inference.result_folder import ResultFolder
from stemseg.inference.track_scores import confidence
from stemseg.structures.tracks import TrackStatistics, VideoTracks
from stemseg.utils.arguments import CommandParser, run_command
from stemseg.utils.errors import DataError
from stemseg.utils.files import write_text

_RECALLS = np.linspace(0, 1, 101)
Rule = Callable[[TrackStatistics], float]


class Group(NamedTuple):
    """The tracks and the objects of one class in one video.

    Attributes:
        video: its number.
        category: the class; 1 where classes don't count.
        ious: [D, G] of the tracks with the objects.
        tracks: statistics of the tracks.
    """

    video: int
    category: int
    ious: np.ndarray
    tracks: list[TrackStatistics]


@dataclass(frozen=True)
class VideoSet:
    """The groups of a set of videos, the tracks of each video, and the objects."""

    name: str
    groups: list[Group]
    results: list[VideoTracks]
    truth: GroundTruth

    @property
    def num_videos(self) -> int:
        """Videos of the set."""
        return len(self.results)


RULES: Mapping[str, Rule] = {
    "confidence": confidence,
    "seediness x posterior x foreground": lambda t: t.seediness * t.posterior * t.foreground,
    "seediness x posterior": lambda t: t.seediness * t.posterior,
    "posterior x foreground x life^(1/3)": lambda t: t.posterior * t.foreground * t.life ** (1 / 3),
    "seediness x foreground x life^(1/3)": lambda t: t.seediness * t.foreground * t.life ** (1 / 3),
    "seediness x posterior x life^(1/3)": lambda t: t.seediness * t.posterior * t.life ** (1 / 3),
    "confidence x class_probability": lambda t: confidence(t) * _or_one(t.class_probability),
    "confidence x link_mean^(1/2)": lambda t: confidence(t) * _or_one(t.link_mean) ** 0.5,
    "seediness x life^(1/3) x share^(1/12)": lambda t: t.seediness * t.life ** (1 / 3) * t.share ** (1 / 12),
    "share": lambda t: t.share,
    "life": lambda t: t.life,
    "life x seen": lambda t: t.life * t.seen,
    "seediness": lambda t: t.seediness,
    "posterior": lambda t: t.posterior,
    "foreground": lambda t: t.foreground,
    "seed_mean": lambda t: t.seed_mean or 0.0,
    "seed_min": lambda t: t.seed_min or 0.0,
    "link_mean": lambda t: _or_one(t.link_mean),
    "link_min": lambda t: _or_one(t.link_min),
    "class_probability": lambda t: _or_one(t.class_probability),
    "-appearance_variance": lambda t: -(t.appearance_variance or 0.0),
}


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def load_set(text: str, *, class_agnostic: bool) -> VideoSet:
    """The set that ``NAME=RESULTS:GROUND_TRUTH`` means.

    Raises:
        DataError: where it is no such text, or tracks have no statistics.
    """
    name, _, paths = text.partition("=")
    folder, _, truth = paths.partition(":")
    if not truth:
        raise DataError(f"--sets: found {text}, expected NAME=RESULTS:GROUND_TRUTH")
    kept, annotated = ResultFolder(Path(folder)), load_ground_truth(truth)
    videos = [video for video in annotated.videos if kept.has(video.id)]
    results = [kept.load(video.id) for video in videos]
    if any(track.statistics is None for result in results for track in result.tracks):
        raise DataError(f"{folder}: tracks have no statistics; segment the videos again, with --overwrite")
    groups = [
        group
        for number, (video, result) in enumerate(zip(videos, results, strict=True))
        for group in _groups(number, video, result, class_agnostic)
    ]
    return VideoSet(name, groups, results, replace(annotated, videos=videos))


def _groups(number: int, video: GroundTruthVideo, result: VideoTracks, class_agnostic: bool) -> Iterator[Group]:
    objects = [t for t in video.tracks if not t.is_crowd]
    for category in [1] if class_agnostic else sorted({t.category_id for t in [*result.tracks, *objects]}):
        mine = [t for t in result.tracks if class_agnostic or t.category_id == category]
        theirs = [t for t in objects if class_agnostic or t.category_id == category]
        ious = video_ious([t.segmentations for t in mine], [t.segmentations for t in theirs], video.height, video.width)
        yield Group(number, category, ious, [t.statistics for t in mine if t.statistics])


def scores_of(videos: VideoSet, rule: str) -> list[np.ndarray]:
    """The scores [D] of each group's tracks by a rule: one of :data:`RULES`, "pixels", or "oracle", the true IoU."""
    if rule == "oracle":
        return [group.ious.max(axis=1, initial=0.0) for group in videos.groups]
    if rule == "pixels":
        largest: dict[int, int] = {}
        for group in videos.groups:
            pixels = [t.pixels for t in group.tracks]
            largest[group.video] = max([largest.get(group.video, 1), *pixels])
        return [np.array([t.pixels / largest[g.video] for t in g.tracks]) for g in videos.groups]
    return [np.array([RULES[rule](track) for track in group.tracks]) for group in videos.groups]


def average_precision(groups: Sequence[Group], scores: Sequence[np.ndarray]) -> float:
    """AP of all objects, mean over classes and IoU thresholds; equal to the official one (without crowds)."""
    values = []
    for category in sorted({group.category for group in groups}):
        chosen = [i for i, group in enumerate(groups) if group.category == category]
        num_objects = sum(groups[i].ious.shape[1] for i in chosen)
        if num_objects:
            hits = np.concatenate([match(groups[i].ious, scores[i]) for i in chosen], axis=1)
            order = np.argsort(-np.concatenate([scores[i] for i in chosen]), kind="mergesort")
            values.append(np.mean([_area(row, num_objects) for row in hits[:, order]]))
    return float(np.mean(values)) if values else float("nan")


def match(ious: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whether each track is the first by score to take an object, at each IoU threshold, [10, D] bool."""
    hits = np.zeros((len(IOU_THRESHOLDS), len(ious)), dtype=bool)
    if not ious.size:
        return hits
    for i, threshold in enumerate(IOU_THRESHOLDS):
        free = ious.copy()
        for d in np.argsort(-scores, kind="mergesort"):
            if free[d].max() >= threshold:
                hits[i, d] = True
                free[:, free[d].argmax()] = -1
    return hits


def _area(hits: np.ndarray, num_objects: int) -> float:
    """Mean precision at 101 recalls of ranked hits [D]."""
    if not len(hits):
        return 0.0
    found = np.cumsum(hits)
    precision = np.maximum.accumulate((found / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(found / num_objects, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[places].mean())


def compare(videos: VideoSet, rules: Sequence[str]) -> dict[str, tuple[float, float]]:
    """AP of each rule, and the standard error of its difference to "pixels"."""
    base = _leave_one_out(videos, "pixels")
    rows = {}
    for rule in rules:
        values = _leave_one_out(videos, rule)
        gain = values[1:] - base[1:]
        n = len(gain)
        rows[rule] = (float(values[0]), float(np.sqrt((n - 1) / n * np.square(gain - gain.mean()).sum())))
    return rows


def _leave_one_out(videos: VideoSet, rule: str) -> np.ndarray:
    """AP of all videos, then without each of them, [1 + V]."""
    scores = scores_of(videos, rule)
    values = []
    for left_out in [None, *range(videos.num_videos)]:
        kept = [i for i, group in enumerate(videos.groups) if group.video != left_out]
        values.append(average_precision([videos.groups[i] for i in kept], [scores[i] for i in kept]))
    return np.array(values)


def report(sets: Sequence[VideoSet], rules: Sequence[str]) -> str:
    """A Markdown table: a row per rule, a column per set."""
    columns = [compare(videos, rules) for videos in sets]
    heads = [f"{v.name} ({v.num_videos} videos, {sum(len(g.tracks) for g in v.groups)} tracks)" for v in sets]
    lines = ["| rule | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(sets)]
    for rule in rules:
        cells = [f"{100 * rows[rule][0]:.1f} ± {100 * rows[rule][1]:.1f}" for rows in columns]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def limits_report(sets: Sequence[VideoSet], limits: Sequence[float]) -> str:
    """A Markdown table: what is left of J&F, tracks and good tracks where tracks of less confidence are left out."""
    heads = [f"{v.name}: J&F | tracks | good" for v in sets]
    lines = ["| least confidence | " + " | ".join(heads) + " |", "|---:|" + "---:|" * 3 * len(sets)]
    for limit in limits:
        cells = [cell for videos in sets for cell in _left(videos, limit)]
        lines.append(f"| {limit:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _left(videos: VideoSet, limit: float) -> list[str]:
    """Of a set: J&F, tracks of a video, and tracks whose IoU with an object is above one half."""
    kept = [[confidence(track) >= limit for track in group.tracks] for group in videos.groups]
    fits = [group.ious.max(axis=1, initial=0.0) > 0.5 for group in videos.groups]
    good = sum(int((fit & np.array(k, dtype=bool)).sum()) for fit, k in zip(fits, kept, strict=True))
    results = [
        replace(r, tracks=[t for t in r.tracks if t.statistics and confidence(t.statistics) >= limit])
        for r in videos.results
    ]
    score = evaluate_davis(painted_videos(results, videos.truth)).scalars()["J&F-Mean"]
    return [f"{100 * score:.1f}", f"{sum(map(sum, kept)) / len(results):.1f}", str(good)]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=RESULTS:TRUTH", help="sets of videos")
    parser.add_argument("--with_classes", action="store_true", help="AP by class; by default classes don't count")
    parser.add_argument("--limits", nargs="+", type=float, metavar="P", help="instead: J&F and what is left above each")
    parser.add_argument("--output", "-o", type=Path, help="write the table here too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse_arguments(arguments)

    def run() -> None:
        sets = [load_set(text, class_agnostic=not options.with_classes) for text in options.sets]
        text = limits_report(sets, options.limits) if options.limits else report(sets, ["pixels", *RULES, "oracle"])
        print(text)
        if options.output is not None:
            write_text(options.output, text)

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
