"""DAVIS 2017 unsupervised: palette PNGs, one per frame; every object is of one class.

Expected below ROOT: ``JPEGImages/480p/<sequence>/00000.jpg``, ``Annotations_unsupervised/480p/<sequence>/00000.png``,
``ImageSets/2017/{train,val}.txt``. Instance ids are the PNG's; void pixels (255) are left out: the format has no void.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from stemseg.data.prepare.masks import check_map_size, encode_ids, image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, read_list
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.id_maps import image_size, read_id_map
from stemseg.utils.errors import DataError
from stemseg.utils.files import list_images

_OBJECT = 1
_VOID = 255
_SUPPORTED_ANNOTATIONS = "Annotations_unsupervised/480p"


@dataclass(frozen=True)
class DavisSequence(ConversionJob):
    """A sequence: the folder of its images and that of its PNGs."""

    images: Path
    annotations: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument("--only", choices=("train", "val"), help="make this split alone")
    parser.add_argument(
        "--annotations_dir",
        metavar="DIR",
        help=f"folder of the PNGs, below ROOT or here (default: {_SUPPORTED_ANNOTATIONS})",
    )


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The files <stem>_train.json and <stem>_val.json."""
    images = find(root, ["JPEGImages/480p"], "the DAVIS images")
    annotations = find(
        root,
        [_SUPPORTED_ANNOTATIONS],
        "the unsupervised annotations ('Unsupervised' on the DAVIS page; the semi-supervised ones label other objects)",
        args.annotations_dir,
        "name it with --annotations_dir",
    )
    plans = []
    for split in [args.only] if args.only else ["train", "val"]:
        names = read_list(
            find(root, [f"ImageSets/2017/{split}.txt", f"ImageSets/{split}.txt"], "the list of sequences")
        )
        jobs = [DavisSequence(name, images / name, annotations / name) for name in names]
        next_step = f"export {entry.variable}={root}"
        filename = f"{entry.json_stem}_{split}.json"
        plans.append(Plan(filename, "videos", {_OBJECT: "object"}, jobs, convert, next_step=next_step))
    return plans


def convert(job: DavisSequence) -> Converted:
    """One sequence; its frames are the images, each of which must have a PNG of its size."""
    frames = list_images(job.images)
    size = image_size(frames[0])
    problems: list[str] = []
    segmentations: list[dict[int, str]] = []
    left_out: Counter[str] = Counter()
    for frame in frames:
        problems += image_problems(frame, size)
        png = job.annotations / f"{frame.stem}.png"
        try:
            ids = read_id_map(png)
            check_map_size(ids, size, png)
        except DataError as error:
            problems.append(str(error))
            continue
        left_out["void regions of a frame (255)"] += bool((ids == _VOID).any())
        segmentations.append(encode_ids(ids, leave_out=(0, _VOID)))
    if not problems and not any(segmentations):
        found = "every pixel is 0 or void (255)" if left_out.total() else "every pixel is 0"
        problems.append(
            f"no frame has an object: {found}, expected object numbers from 1; are the PNGs those of DAVIS 2016 "
            "(0 and 255)?"
        )
    stems = {frame.stem for frame in frames}
    problems += [f"{png} has no image" for png in sorted(job.annotations.glob("*.png")) if png.stem not in stems]
    sequence = VideoSequence(
        id=job.name,
        height=size[0],
        width=size[1],
        image_paths=[f"{job.name}/{frame.name}" for frame in frames],
        categories=dict.fromkeys(sorted(set().union(*segmentations)), _OBJECT),
        segmentations=segmentations,
    )
    return Converted(sequence, [f"{job.name}: {problem}" for problem in problems], +left_out)
