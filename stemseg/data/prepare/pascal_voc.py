"""PascalVOC 2012 segmentation: an object PNG and a class PNG for each image.

Expected below ROOT (``VOCdevkit/VOC2012``): ``JPEGImages/<image>.jpg``, ``SegmentationObject/<image>.png``,
``SegmentationClass/<image>.png``, ``ImageSets/Segmentation/trainval.txt``. An object's class is that of its pixels in
the class PNG; the void border (255) becomes the image's ignore region. PNGs of the same kind made from SBD are given
with ``--objects_dir``, ``--classes_dir`` and ``--list``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stemseg.data.prepare.masks import check_map_size, encode_ids, image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, read_list
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import StillImage
from stemseg.structures.id_maps import image_size, read_id_map
from stemseg.structures.rle import encode_rle
from stemseg.utils.errors import DataError

_VOID = 255
_MIN_SHARE = 0.9  # an object of which less is in one class has the wrong class PNG, or the wrong outline
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class PascalVocImage(ConversionJob):
    """The three files of an image."""

    image: Path
    objects: Path
    classes: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument(
        "--objects_dir",
        metavar="DIR",
        help="folder of the object PNGs, below ROOT or here (default: SegmentationObject)",
    )
    parser.add_argument(
        "--classes_dir", metavar="DIR", help="folder of the class PNGs, below ROOT or here (default: SegmentationClass)"
    )
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="list of image names, below ROOT or here (default: ImageSets/Segmentation/trainval.txt; without it all)",
    )


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The file pascal_voc.json."""
    unpacked = [root / "VOCdevkit/VOC2012", root / "VOC2012"]  # the folders that the download unpacks to
    root = next((path for path in (root, *unpacked) if (path / "JPEGImages").exists()), root)
    images = find(root, ["JPEGImages"], "the images of PascalVOC")
    objects = find(root, ["SegmentationObject"], "the object PNGs", args.objects_dir, "name it with --objects_dir")
    classes = find(root, ["SegmentationClass"], "the class PNGs", args.classes_dir, "name it with --classes_dir")
    if args.list or (root / "ImageSets").is_dir():
        names = read_list(
            find(root, ["ImageSets/Segmentation/trainval.txt"], "the list of images", args.list, "name it with --list")
        )
    else:
        names = sorted(path.stem for path in objects.glob("*.png"))
    jobs = [
        PascalVocImage(name, images / f"{name}.jpg", objects / f"{name}.png", classes / f"{name}.png") for name in names
    ]
    labels = dict(enumerate(CLASSES, start=1))
    next_step = f"export {entry.variable}={images}"
    return [Plan(f"{entry.json_stem}.json", "stills", labels, jobs, convert, next_step=next_step)]


def convert(job: PascalVocImage) -> Converted:
    """One image; nothing to write where it shows no object."""
    size = image_size(job.image)
    objects, classes = read_id_map(job.objects), read_id_map(job.classes)
    check_map_size(objects, size, job.objects)
    check_map_size(classes, size, job.classes)
    problems = image_problems(job.image, size)
    categories, segmentations = [], []
    for instance, counts in encode_ids(objects, leave_out=(0, _VOID)).items():
        try:
            categories.append(_class_of(classes[objects == instance]))
        except DataError as error:
            problems.append(f"{job.name}: object {instance} of {job.objects}: {error}")
            continue
        segmentations.append(counts)
    if not segmentations:
        return Converted(None, problems, {} if problems else {"images without an object": 1})
    void = objects == _VOID
    ignore = encode_rle(void) if void.any() else None
    return Converted(StillImage(*size, job.image.name, categories, segmentations, ignore), problems, {})


def _class_of(pixels: np.ndarray) -> int:
    """The class of an object from its pixels [P] in the class PNG."""
    known = pixels[(pixels > 0) & (pixels != _VOID)]
    if not known.size:
        raise DataError("the class PNG has no class there")
    counts = np.bincount(known)
    category = int(counts.argmax())
    if category > len(CLASSES):
        raise DataError(f"the class PNG has class {category} there, expected 1 to {len(CLASSES)}")
    if counts[category] < _MIN_SHARE * known.size:
        found = ", ".join(f"{CLASSES[i - 1]} {counts[i]}" for i in np.flatnonzero(counts) if i <= len(CLASSES))
        raise DataError(f"the class PNG has several classes there (pixels: {found}), expected one")
    return category
