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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemseg.data.categories import load_category_space
from stemseg.data.prepare.masks import image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, grouped_by, read_json
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.rle import rle_from_coco
from stemseg.utils.errors import DataError

_JSON_NAMES = {
    "train": (
        "train.json", "train/instances.json", "train/train.json", "instances_train_sub.json", "annotations_train.json",
        "annotations/train.json", "annotations/instances_train.json", "annotations/instances_train_sub.json",
        "annotations/annotations_train.json",
    ),
    "val": (
        "valid.json", "val.json", "valid/instances.json", "val/instances.json", "valid/valid.json",
        "instances_val_sub.json", "annotations_valid.json", "annotations/valid.json", "annotations/instances_val.json",
        "annotations/instances_val_sub.json", "annotations/annotations_valid.json",
    ),
}  # fmt: skip
_IMAGE_DIRS = {
    "train": ("train/JPEGImages", "train"),
    "val": ("valid/JPEGImages", "val/JPEGImages", "valid", "val"),
}


@dataclass(frozen=True)
class YouTubeVisVideo(ConversionJob):
    """A video's entry and its annotations, as they stand in the official file; None in a test set."""

    video: dict[str, Any]
    annotations: list[dict[str, Any]] | None
    categories: frozenset[int]
    images: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of these datasets."""
    parser.add_argument("--only", choices=("train", "val"), help="make this split alone")
    parser.add_argument("--train_json", metavar="FILE", help="official training file, where it has another name")
    parser.add_argument("--val_json", metavar="FILE", help="official validation file, where it has another name")
    parser.add_argument("--skip_image_check", action="store_true", help="the images are not on this machine")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The files <stem>_train.json and <stem>_val.json."""
    return [_make_plan(entry, root, split, args) for split in ([args.only] if args.only else ["train", "val"])]


def _make_plan(entry: DatasetEntry, root: Path, split: str, args: argparse.Namespace) -> Plan:
    override, hint = {"train": args.train_json, "val": args.val_json}[split], f"name it with --{split}_json"
    source = find(root, _JSON_NAMES[split], f"the official {split} file of {entry.title}", override, hint)
    content = read_json(source, ["videos", "categories"])
    images = None
    if not args.skip_image_check:
        images = find(
            root,
            _IMAGE_DIRS[split],
            f"the {split} images of {entry.title}",
            hint="leave the check of the images out with --skip_image_check",
        )
    labels = {category["id"]: category["name"] for category in content["categories"]}
    annotations = content.get("annotations") or None  # public validation files have none, null or an empty list
    groups = grouped_by(annotations or [], "video_id")
    known = {video["id"] for video in content["videos"]}
    problems = [
        f"{source}: annotation {annotation.get('id')} is of video {video}, which the file does not list"
        for video, group in groups.items() if video not in known for annotation in group
    ]  # fmt: skip
    problems += _category_problems(entry, labels, source)
    if annotations is None and split == "train":
        problems.append(f"{source} has no annotations; a training set needs them: is it the file of another split?")
    problems += [f"{source}: video id {i} occurs {n} times" for i, n in _counts(content["videos"]) if n > 1]
    jobs = [
        YouTubeVisVideo(
            f"video {video['id']}",
            video,
            groups.get(video["id"], []) if annotations is not None else None,
            frozenset(labels),
            images,
        )
        for video in content["videos"]
    ]
    next_step = f"export {entry.variable}={root}"
    return Plan(f"{entry.json_stem}_{split}.json", "videos", labels, jobs, convert, problems, next_step=next_step)


def _category_problems(entry: DatasetEntry, labels: Mapping[int, str], source: Path) -> list[str]:
    """A file of another dataset, or of another year, would be trained and evaluated in the wrong classes."""
    try:
        load_category_space(entry.name).rule(entry.name, labels, source)
    except DataError as error:
        return [str(error)]
    return []


def _counts(videos: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return sorted(Counter(video["id"] for video in videos).items())


def convert(job: YouTubeVisVideo) -> Converted:
    """One video."""
    video = job.video
    size = (video["height"], video["width"])
    base = {"id": video["id"], "height": size[0], "width": size[1], "image_paths": list(video["file_names"])}
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    if not base["image_paths"]:
        problems.append("has no file_names")
    if video.get("length", len(base["image_paths"])) != len(base["image_paths"]):
        problems.append(f"has length {video['length']}, but {len(base['image_paths'])} file_names")
    if job.images is not None:
        problems += [p for name in base["image_paths"] for p in image_problems(job.images / name, size)]
    if job.annotations is not None:
        categories, segmentations, found = _convert_tracks(job, job.annotations, size, left_out)
        problems += found
        base.update(categories=categories, segmentations=segmentations)
    return Converted(VideoSequence(**base), [f"{job.name}: {problem}" for problem in problems], dict(left_out))


def _convert_tracks(
    job: YouTubeVisVideo, annotations: Sequence[dict[str, Any]], size: tuple[int, int], left_out: Counter[str]
) -> tuple[dict[int, int], list[dict[int, str]], list[str]]:
    """Categories, masks per frame, problems."""
    num_frames = len(job.video["file_names"])
    categories: dict[int, int] = {}
    segmentations: list[dict[int, str]] = [{} for _ in range(num_frames)]
    problems = []
    for annotation in sorted(annotations, key=lambda a: a["id"]):
        where = f"annotation {annotation['id']}"
        if annotation.get("iscrowd"):
            left_out["crowd tracks"] += 1
            continue
        category = annotation.get("category_id")
        if category not in job.categories:
            problems.append(f"{where} has category {category}, which the file does not list")
        masks, found = _track_masks(annotation, size, num_frames)
        problems += [f"{where}{problem}" for problem in found]
        if not masks and not found:
            left_out["instances without a visible pixel"] += 1
        elif masks and category is not None:
            instance = len(categories) + 1
            categories[instance] = category
            for t, counts in masks.items():
                segmentations[t][instance] = counts
    return categories, segmentations, problems


def _track_masks(
    annotation: Mapping[str, Any], size: tuple[int, int], num_frames: int
) -> tuple[dict[int, str], list[str]]:
    """RLE counts of the frames in which the instance is visible; problems, to be read behind "annotation n"."""
    entries = annotation.get("segmentations") or []
    if len(entries) != num_frames:
        return {}, [f" has {len(entries)} segmentations, but its video has {num_frames} frames"]
    masks, problems = {}, []
    for t, entry in enumerate(entries):
        if entry is None:
            continue
        try:
            counts = rle_from_coco(entry, *size)
        except DataError as error:
            problems.append(f", frame {t}: {error}")
            continue
        if counts is not None:
            masks[t] = counts
    return masks, problems
