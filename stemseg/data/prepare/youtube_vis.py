"""YouTube-VIS 2019, YouTube-VIS 2021 and OVIS: one official JSON for each split, masks as RLE per video and instance.

Expected below ROOT: the official JSON files (``train.json``, ``train/instances.json``, ``annotations_train.json`` and
the like), and the images as ``<split>/JPEGImages/<video>/00000.jpg`` or ``<split>/<video>/img_0000001.jpg``, where
the split is ``train``, and ``valid`` or ``val``. Sequence ids are the official numeric video ids, so that the
official evaluators accept ``results.json``; instances are numbered from 1 in each video, in the order of their
official ids. Crowd tracks are left out: the format has no ignore region for videos, and the official files have none.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stemseg.data.categories import load_category_space
from stemseg.data.prepare.masks import image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, read_official
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.official import (
    OfficialTrack,
    OfficialVideo,
    annotation_name,
    group_annotations,
    index_entries,
    read_labels,
    read_track,
    read_video,
)
from stemseg.utils.errors import DataError
from stemseg.utils.json_values import Entry

# {name}: mmtracking and mmdetection keep the sets of several years in one folder
_JSON_NAMES = {
    "train": (
        "train.json", "train/instances.json", "train/train.json", "instances_train_sub.json", "annotations_train.json",
        "annotations/train.json", "annotations/instances_train.json", "annotations/instances_train_sub.json",
        "annotations/annotations_train.json", "annotations/{name}_train.json",
    ),
    "val": (
        "valid.json", "val.json", "valid/instances.json", "val/instances.json", "valid/valid.json",
        "instances_val_sub.json", "annotations_valid.json", "annotations/valid.json", "annotations/instances_val.json",
        "annotations/instances_val_sub.json", "annotations/annotations_valid.json",
        "annotations/{name}_valid.json", "annotations/{name}_val.json",
    ),
}  # fmt: skip
_IMAGE_DIRS = {
    "train": ("train/JPEGImages", "train"),
    "val": ("valid/JPEGImages", "val/JPEGImages", "valid", "val"),
}


@dataclass(frozen=True)
class YouTubeVisVideo(ConversionJob):
    """A video's entry and its annotations, as they stand in the official file; None in a test set."""

    video: Any
    annotations: list[Any] | None
    categories: frozenset[int]
    images: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of these datasets."""
    parser.add_argument("--only", choices=("train", "val"), help="make this split alone")
    parser.add_argument("--train_json", metavar="FILE", help="training file, below ROOT or here, of another name")
    parser.add_argument("--val_json", metavar="FILE", help="validation file, below ROOT or here, of another name")
    parser.add_argument("--skip_image_check", action="store_true", help="the images are not on this machine")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The files <stem>_train.json and <stem>_val.json."""
    return [_make_plan(entry, root, split, args) for split in ([args.only] if args.only else ["train", "val"])]


def _make_plan(entry: DatasetEntry, root: Path, split: str, args: argparse.Namespace) -> Plan:
    override, hint = {"train": args.train_json, "val": args.val_json}[split], f"name it with --{split}_json"
    name = "youtube_vis_2019" if entry.name == "youtube_vis" else entry.json_stem
    names = [path.format(name=name) for path in _JSON_NAMES[split]]
    source = find(root, names, f"the official {split} file of {entry.title}", override, hint)
    file = read_official(source, ["videos", "categories"])
    _refuse_converted(file, source, hint)
    images = None
    if not args.skip_image_check:
        images = find(
            root,
            _IMAGE_DIRS[split],
            f"the {split} images of {entry.title}",
            hint="leave the check of the images out with --skip_image_check",
        )
    problems: list[str] = []
    labels = read_labels(file)
    videos = index_entries(file, "videos", "video", problems)
    is_annotated = file.values.get("annotations") not in (None, [])  # public validation files have none
    groups = group_annotations(file, "video_id", videos, problems) if is_annotated else {}
    problems += _category_problems(entry, labels, source)
    if not is_annotated and split == "train":
        problems.append(f"{source} has no annotations; a training set needs them: is it the file of another split?")
    jobs = [
        YouTubeVisVideo(f"video {name}", value, groups.get(name), frozenset(labels), images)
        for name, value in videos.items()
    ]
    return Plan(
        f"{entry.json_stem}_{split}.json",
        "videos",
        labels,
        jobs,
        convert,
        problems,
        next_step=f"export {entry.variable}={root}",
        source=source,
    )


def _refuse_converted(file: Entry, source: Path, hint: str) -> None:
    """Name what mmtracking converts the official file to (CocoVID): an entry for each image, not for each video."""
    videos = file.values["videos"]
    if "images" in file.values and isinstance(videos, list) and videos and "file_names" not in videos[0]:
        raise DataError(
            f"{source} holds an entry for each image ('images'; mmtracking and mmdetection convert to that), expected "
            f"the official file, whose videos have 'file_names'; {hint}"
        )


def _category_problems(entry: DatasetEntry, labels: Mapping[int, str], source: Path) -> list[str]:
    """A file of another dataset, or of another year, would be trained and evaluated in the wrong classes."""
    try:
        load_category_space(entry.name).rule(entry.name, labels, source)
    except DataError as error:
        return [str(error)]
    return []


def convert(job: YouTubeVisVideo) -> Converted:
    """One video."""
    video = read_video(job.video, "its entry")
    sequence = VideoSequence(*video)
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    length = Entry(job.video, "its entry").whole("length", default=len(sequence))
    if length != len(sequence):
        problems.append(f"has length {length}, but {len(sequence)} file_names")
    if job.images is not None:
        size = (video.height, video.width)
        problems += [p for name in video.file_names for p in image_problems(job.images / name, size)]
    if job.annotations is not None:
        tracks = _read_tracks(job.annotations, video, problems)
        sequence = _with_tracks(sequence, [t for t in tracks if _is_kept(t, job.categories, problems, left_out)])
    return Converted(sequence, [f"{job.name}: {problem}" for problem in problems], dict(left_out))


def _read_tracks(values: Sequence[Any], video: OfficialVideo, problems: list[str]) -> list[OfficialTrack]:
    """The sound annotations by ascending id."""
    tracks: dict[int, OfficialTrack] = {}
    for value in values:
        try:
            track = read_track(value, video, annotation_name(value))
        except DataError as error:
            problems.append(str(error))
            continue
        tracks[track.id] = track
    return [tracks[i] for i in sorted(tracks)]


def _is_kept(track: OfficialTrack, categories: Collection[int], problems: list[str], left_out: Counter[str]) -> bool:
    """Whether a track becomes an instance; otherwise it is counted."""
    if track.is_crowd:
        left_out["crowd tracks"] += 1
    elif track.category_id not in categories:
        problems.append(f"annotation {track.id} has category {track.category_id}, which the file does not list")
    elif not any(track.masks):
        left_out["instances without a visible pixel"] += 1
    else:
        return True
    return False


def _with_tracks(sequence: VideoSequence, tracks: Sequence[OfficialTrack]) -> VideoSequence:
    """The sequence with the tracks as its instances, from 1."""
    numbered = dict(enumerate(tracks, start=1))
    segmentations = [
        {i: counts for i, track in numbered.items() if (counts := track.masks[t])} for t in range(len(sequence))
    ]
    categories = {i: track.category_id for i, track in numbered.items()}
    return replace(sequence, categories=categories, segmentations=segmentations)
