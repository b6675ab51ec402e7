"""COCO 2017 instances: polygons, and RLE for crowds.

Expected below ROOT: ``annotations/instances_train2017.json`` and ``train2017/<image>.jpg``. A crowd region becomes the
image's ignore region, less the pixels that single instances claim. Images without a single instance are left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemseg.data.prepare.masks import image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, grouped_by, read_json
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import StillImage
from stemseg.structures.rle import decode_rle, encode_rle, merge_rles, rle_from_coco
from stemseg.utils.errors import DataError


@dataclass(frozen=True)
class CocoImage(ConversionJob):
    """An image's entry and its annotations, as they stand in the official file."""

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    categories: frozenset[int]
    images: Path | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument("--json", metavar="FILE", help="instances file (default: annotations/instances_train2017.json)")
    parser.add_argument("--images_dir", metavar="DIR", help="folder of the images, below ROOT (default: train2017)")
    parser.add_argument("--skip_image_check", action="store_true", help="the images are not on this machine")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The file coco.json."""
    names = ["annotations/instances_train2017.json", "instances_train2017.json"]
    source = find(root, names, "the instance annotations of COCO", args.json, "name it with --json")
    content = read_json(source, ["images", "annotations", "categories"])
    places = ["train2017", "images/train2017"]
    images = None
    if not args.skip_image_check:
        images = find(root, places, "the COCO images", args.images_dir, "name it with --images_dir")
    labels = {category["id"]: category["name"] for category in content["categories"]}
    groups = grouped_by(content["annotations"], "image_id")
    known = Counter(image["id"] for image in content["images"])
    problems = [f"{source}: image id {i} occurs {n} times" for i, n in known.items() if n > 1]
    problems += [
        f"{source}: annotation {annotation.get('id')} is of image {image}, which the file does not list"
        for image, group in groups.items() if image not in known for annotation in group
    ]  # fmt: skip
    jobs = [
        CocoImage(f"image {image['file_name']}", image, groups.get(image["id"], []), frozenset(labels), images)
        for image in content["images"]
    ]
    next_step = f"export {entry.variable}={images or 'the folder of the images'}"
    return [Plan(f"{entry.json_stem}.json", "stills", labels, jobs, convert, problems, next_step=next_step)]


def convert(job: CocoImage) -> Converted:
    """One image; nothing to write where it has no single instance."""
    height, width = job.image["height"], job.image["width"]
    name = job.image["file_name"]
    problems = [] if job.images is None else image_problems(job.images / name, (height, width))
    left_out: Counter[str] = Counter()
    categories: list[int] = []
    segmentations: list[str] = []
    crowds: list[str] = []
    for annotation in job.annotations:
        where = f"annotation {annotation.get('id')}"
        category = annotation.get("category_id")
        if category not in job.categories:
            problems.append(f"{where} has category {category}, which the file does not list")
        try:
            counts = rle_from_coco(annotation.get("segmentation"), height, width)
        except DataError as error:
            problems.append(f"{where}: {error}")
            continue
        if counts is None:
            left_out["instances smaller than a pixel"] += 1
        elif annotation.get("iscrowd"):
            crowds.append(counts)
        elif category is not None:
            categories.append(category)
            segmentations.append(counts)
    problems = [f"{job.name}: {problem}" for problem in problems]
    if not segmentations:
        left_out["images without a single instance"] += not problems
        return Converted(None, problems, +left_out)
    ignore = crowd_region(crowds, segmentations, height, width)
    return Converted(StillImage(height, width, name, categories, segmentations, ignore), problems, +left_out)


def crowd_region(crowds: list[str], instances: list[str], height: int, width: int) -> str | None:
    """RLE counts of the pixels of crowds that belong to no single instance; None where there are none."""
    if not crowds:
        return None
    crowd = decode_rle(merge_rles(crowds, height, width), height, width)
    if instances:
        crowd &= 1 - decode_rle(merge_rles(instances, height, width), height, width)
    return encode_rle(crowd) if crowd.any() else None
