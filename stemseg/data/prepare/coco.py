"""COCO 2017 instances: polygons, and RLE for crowds.

Expected below ROOT: ``annotations/instances_train2017.json`` and ``train2017/<image>.jpg``. A crowd region becomes the
image's ignore region, less the pixels that single instances claim. Images without a single instance are left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemseg.data.prepare.masks import image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, read_official
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import StillImage
from stemseg.structures.official import annotation_name, group_annotations, index_entries, read_image, read_labels
from stemseg.structures.rle import decode_rle, encode_rle, merge_rles, rle_from_coco
from stemseg.utils.errors import DataError, located
from stemseg.utils.json_values import Entry, is_unicode


@dataclass(frozen=True)
class CocoImage(ConversionJob):
    """An image's entry and its annotations, as they stand in the official file."""

    image: Any
    annotations: list[Any]
    categories: frozenset[int]
    images: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument("--json", metavar="FILE", help="instances file (default: annotations/instances_train2017.json)")
    parser.add_argument(
        "--images_dir", metavar="DIR", help="folder of the images, below ROOT or here (default: train2017)"
    )
    parser.add_argument("--skip_image_check", action="store_true", help="the images are not on this machine")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The file coco.json."""
    names = ["annotations/instances_train2017.json", "instances_train2017.json"]
    source = find(root, names, "the instance annotations of COCO", args.json, "name it with --json")
    file = read_official(source, ["images", "annotations", "categories"])
    places = ["train2017", "images/train2017"]
    images = None
    if not args.skip_image_check:
        images = find(root, places, "the COCO images", args.images_dir, "name it with --images_dir")
    problems: list[str] = []
    labels = read_labels(file)
    entries = index_entries(file, "images", "image", problems)
    groups = group_annotations(file, "image_id", entries, problems)
    jobs = [
        CocoImage(f"image {_name_of(value, name)}", value, groups[name], frozenset(labels), images)
        for name, value in entries.items()
    ]
    next_step = f"export {entry.variable}={images or 'the folder of the images'}"
    filename = f"{entry.json_stem}.json"
    return [Plan(filename, "stills", labels, jobs, convert, problems, next_step=next_step, source=source)]


def _name_of(image: Any, image_id: str) -> str:
    """The name of an image in messages: that of its file, where it can be written."""
    name = image.get("file_name")
    return name if isinstance(name, str) and is_unicode(name) else image_id


def convert(job: CocoImage) -> Converted:
    """One image; nothing to write where it has no single instance."""
    image = read_image(job.image, "its entry")
    size = (image.height, image.width)
    problems = [] if job.images is None else image_problems(job.images / image.file_name, size)
    left_out: Counter[str] = Counter()
    categories: list[int] = []
    segmentations: list[str] = []
    crowds: list[str] = []
    for value in job.annotations:
        try:
            category, is_crowd, counts = _read_annotation(value, size, job.categories)
        except DataError as error:
            problems.append(str(error))
            continue
        if counts is None:
            left_out["instances smaller than a pixel"] += 1
        elif is_crowd:
            crowds.append(counts)
        else:
            categories.append(category)
            segmentations.append(counts)
    problems = [f"{job.name}: {problem}" for problem in problems]
    if not segmentations:
        left_out["images without a single instance"] += not problems
        return Converted(None, problems, +left_out)
    ignore = crowd_region(crowds, segmentations, *size)
    return Converted(StillImage(*size, image.file_name, categories, segmentations, ignore), problems, +left_out)


def _read_annotation(value: Any, size: tuple[int, int], categories: Collection[int]) -> tuple[int, bool, str | None]:
    """Category, whether it is a crowd, and the counts of an annotation; None where the mask has no pixel."""
    where = annotation_name(value)
    entry = Entry(value, where)
    category, is_crowd = entry.whole("category_id"), entry.flag("iscrowd")
    if category not in categories:
        raise DataError(f"{where} has category {category}, which the file does not list")
    with located(where):
        return category, is_crowd, rle_from_coco(entry.get("segmentation"), *size)


def crowd_region(crowds: list[str], instances: list[str], height: int, width: int) -> str | None:
    """RLE counts of the pixels of crowds that belong to no single instance; None where there are none."""
    if not crowds:
        return None
    crowd = decode_rle(merge_rles(crowds, height, width), height, width)
    if instances:
        crowd &= 1 - decode_rle(merge_rles(instances, height, width), height, width)
    return encode_rle(crowd) if crowd.any() else None
