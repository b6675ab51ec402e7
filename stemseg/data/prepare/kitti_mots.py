"""KITTI-MOTS, and MOTSChallenge's 0002 as sequence 0050: PNG or txt ground truth, images of KITTI tracking.

Expected below ROOT: images as ``training/image_02/0000/000000.png`` (or ``train/images``, ``images``), and at the top
or below ``training`` or ``train`` either ``instances/0000/000000.png`` (16-bit, 1000 x class + object) or
``instances_txt/0000.txt`` (lines "frame id class height width rle"). Without ``--format`` the PNGs are taken where
they exist. Instance ids are the official ones (1003: a car); the ignore region 10000 becomes an instance 10000 of
category 3, because the format has no ignore region for videos (the loaders know that category).

``--motschallenge`` names the root of MOTSChallenge with ``train/images/0002`` or ``train/MOTS20-02/img1``; its images
are linked into the KITTI images as 0050. Without it, and without a 0050 in ROOT, the training file lacks that
sequence.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stemseg.data.prepare.masks import check_map_size, encode_ids, image_problems
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.id_maps import image_size, read_id_map
from stemseg.structures.official import read_mots_line
from stemseg.structures.rle import check_rle_size, merge_rles, rle_area
from stemseg.utils.errors import DataError
from stemseg.utils.files import list_images, read_text

SEQUENCES = {
    "train": ("0000", "0001", "0003", "0004", "0005", "0009", "0011", "0012", "0015", "0017", "0019", "0020"),
    "val": ("0002", "0006", "0007", "0008", "0010", "0013", "0014", "0016", "0018"),
}
MOTSCHALLENGE_NAME = "0050"
IGNORE_ID = 10000
CATEGORIES = {1: "car", 2: "pedestrian", 3: "ignore"}
_IGNORE_CATEGORY = 3
_IMAGE_DIRS = ("training/image_02", "train/images", "images", "train/image_02")
_PNG_DIRS = ("instances", "training/instances", "train/instances")
_TXT_DIRS = ("instances_txt", "training/instances_txt", "train/instances_txt", "train/instances_txt_gt")
_MOTSCHALLENGE_IMAGES = ("train/images/0002", "images/0002", "train/MOTS20-02/img1", "MOTS20-02/img1")
_MOTSCHALLENGE_PNG = ("instances/0002", "train/instances/0002")
_MOTSCHALLENGE_TXT = (
    "instances_txt/0002.txt", "train/instances_txt/0002.txt", "train/MOTS20-02/gt/gt.txt", "MOTS20-02/gt/gt.txt",
)  # fmt: skip

Masks = list[dict[int, str]]  # for each frame the RLE counts of each official object id


@dataclass(frozen=True)
class KittiMotsSequence(ConversionJob):
    """A sequence: the folder of its images, and its folder of PNGs or its txt file."""

    images: Path
    ground_truth: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument("--only", choices=("train", "val"), help="make this split alone")
    parser.add_argument("--format", choices=("png", "txt"), help="ground truth to read (default: png where it exists)")
    parser.add_argument("--images_dir", metavar="DIR", help="folder of the sequences' images, below ROOT or here")
    parser.add_argument("--motschallenge", metavar="ROOT", help="root of MOTSChallenge, for sequence 0050")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The files <stem>_train.json and <stem>_val.json."""
    images = find(
        root, _IMAGE_DIRS, "the images of KITTI tracking (left color)", args.images_dir, "name it with --images_dir"
    )
    plans = []
    for split in [args.only] if args.only else ["train", "val"]:
        problems: list[str] = []
        jobs = list(_kitti_jobs(root, images, SEQUENCES[split], args.format, problems))
        plan = Plan(f"{entry.json_stem}_{split}.json", "videos", dict(CATEGORIES), jobs, convert, problems)
        plans.append(plan if split == "val" else _with_motschallenge(plan, entry, root, images, args))
    return plans


def _kitti_jobs(
    root: Path, images: Path, names: Sequence[str], wanted: str | None, problems: list[str]
) -> Iterator[KittiMotsSequence]:
    """The sequences that are there; what is missing is added to ``problems``."""
    for name in names:
        try:
            yield _kitti_job(root, images, name, wanted)
        except DataError as error:
            problems.append(f"{error}; --only train or val makes one split alone, --skip_invalid what is there")


def _kitti_job(root: Path, images: Path, name: str, wanted: str | None) -> KittiMotsSequence:
    pngs = [f"{folder}/{name}" for folder in _PNG_DIRS]
    texts = [f"{folder}/{name}.txt" for folder in _TXT_DIRS]
    return KittiMotsSequence(
        name, images / name, _ground_truth(root, pngs, texts, f"the ground truth of {name}", wanted)
    )


def _ground_truth(root: Path, pngs: list[str], texts: list[str], what: str, wanted: str | None) -> Path:
    candidates = {"png": pngs, "txt": texts, None: [*pngs, *texts]}[wanted]
    return find(root, candidates, what)


def _with_motschallenge(plan: Plan, entry: DatasetEntry, root: Path, images: Path, args: argparse.Namespace) -> Plan:
    """The training plan with sequence 0050 where it is to be had, else with a word that it is not."""
    name = MOTSCHALLENGE_NAME
    next_step = f"export {entry.variable}={root if images.is_relative_to(root) else images}"
    finish = None
    left_out: dict[str, int] = {}
    jobs, problems = list(plan.jobs), list(plan.problems)
    if args.motschallenge:
        other = Path(args.motschallenge)
        hint = "correct --motschallenge"
        folder = find(other, _MOTSCHALLENGE_IMAGES, "the images of MOTSChallenge 0002", hint=hint)
        what = "the ground truth of MOTSChallenge 0002"
        truth = _ground_truth(other, [*_MOTSCHALLENGE_PNG], [*_MOTSCHALLENGE_TXT], what, args.format)
        jobs.append(KittiMotsSequence(name, folder, truth))
        finish = partial(link_folder, folder, images / name)
    elif (images / name).exists():
        jobs += _kitti_jobs(root, images, [name], args.format, problems)
    else:
        left_out = {f"sequence {name} (MOTSChallenge 0002; give its root with --motschallenge)": 1}
    return replace(plan, jobs=jobs, problems=problems, left_out=left_out, finish=finish, next_step=next_step)


def link_folder(source: Path, link: Path) -> None:
    """Make ``link`` show the folder ``source``: a relative symbolic link, or a copy where links cannot be made."""
    if link.exists():
        return
    try:
        link.symlink_to(os.path.relpath(source.resolve(), link.parent.resolve()), target_is_directory=True)
    except OSError:
        shutil.copytree(source, link)


def convert(job: KittiMotsSequence) -> Converted:
    """One sequence; its frames are the images."""
    frames = list_images(job.images)
    size = image_size(frames[0])
    problems = [p for frame in frames for p in image_problems(frame, size)]
    read = read_png_masks if job.ground_truth.is_dir() else read_txt_masks
    masks, found = read(job.ground_truth, [frame.stem for frame in frames], size)
    problems += found
    instances = sorted({i for frame in masks for i in frame})
    categories = {i: category for i in instances if (category := category_of(i)) is not None}
    problems += [f"object id {i} is of no known class (expected 1xxx car, 2xxx pedestrian or {IGNORE_ID})"
                 for i in instances if i not in categories]  # fmt: skip
    paths = [f"{job.name}/{frame.name}" for frame in frames]
    sequence = VideoSequence(job.name, *size, paths, categories=categories, segmentations=masks)
    return Converted(sequence, [f"sequence {job.name}: {problem}" for problem in problems], {})


def category_of(object_id: int) -> int | None:
    """Our category of an official object id; None where it has none."""
    if object_id == IGNORE_ID:
        return _IGNORE_CATEGORY
    category = object_id // 1000
    return category if category in (1, 2) else None


def read_png_masks(folder: Path, frames: Sequence[str], size: tuple[int, int]) -> tuple[Masks, list[str]]:
    """Masks of the PNGs named like the frames, and what is wrong with them."""
    masks: Masks = []
    problems = []
    for name in frames:
        path = folder / f"{name}.png"
        masks.append({})
        try:
            ids = read_id_map(path)
            check_map_size(ids, size, path)
        except DataError as error:
            problems.append(str(error))
            continue
        masks[-1] = encode_ids(ids)
    known = set(frames)
    problems += [f"{path} has no image" for path in sorted(folder.glob("*.png")) if path.stem not in known]
    return masks, problems


def read_txt_masks(path: Path, frames: Sequence[str], size: tuple[int, int]) -> tuple[Masks, list[str]]:
    """Masks of a txt file, whose frame numbers are those of the images' names, and what is wrong with its lines."""
    masks: Masks = [{} for _ in frames]
    problems = []
    index = {int(name): t for t, name in enumerate(frames) if name.isascii() and name.isdigit()}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            frame, object_id, counts = _parse_line(line, size)
            if frame not in index:
                raise DataError(f"frame {frame} has no image")
            if object_id in masks[index[frame]]:
                raise DataError(f"object {object_id} has a second mask in frame {frame}")
        except DataError as error:
            problems.append(f"{path}, line {number}: {error}")
            continue
        if rle_area(counts, *size):
            masks[index[frame]][object_id] = counts
    for t, objects in enumerate(masks):
        if _overlap(objects, size):
            problems.append(f"{path}: masks overlap in frame {frames[t]}, where every pixel may have one object")
    return masks, problems


def _parse_line(line: str, size: tuple[int, int]) -> tuple[int, int, str]:
    """(frame, object id, RLE counts) of a line "frame id class height width rle"."""
    item = read_mots_line(line)
    expected = item.object_id // 1000
    if item.class_id != expected:
        raise DataError(f"object id {item.object_id} has class {item.class_id}, expected {expected} (id // 1000)")
    if (item.height, item.width) != size:
        raise DataError(
            f"mask is {item.height} x {item.width}, but the image is {size[0]} x {size[1]} (height x width)"
        )
    check_rle_size(item.counts, *size)
    return item.frame, item.object_id, item.counts


def _overlap(frame: dict[int, str], size: tuple[int, int]) -> bool:
    """Whether masks share a pixel."""
    if len(frame) < 2:
        return False
    masks = list(frame.values())
    return sum(rle_area(counts, *size) for counts in masks) > rle_area(merge_rles(masks, *size), *size)
