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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.prepare.masks import image_problems, image_size
from scripts.prepare.mots_masks import CATEGORIES, IGNORE_ID, category_of, read_png_masks, read_txt_masks
from scripts.prepare.plan import Converted, Dataset, Job, Plan
from scripts.prepare.trees import find, list_images
from stemseg.structures.annotations import VideoSequence

SEQUENCES = {
    "train": ("0000", "0001", "0003", "0004", "0005", "0009", "0011", "0012", "0015", "0017", "0019", "0020"),
    "val": ("0002", "0006", "0007", "0008", "0010", "0013", "0014", "0016", "0018"),
}
MOTSCHALLENGE_NAME = "0050"
_IMAGE_DIRS = ("training/image_02", "train/images", "images", "train/image_02")
_PNG_DIRS = ("instances", "training/instances", "train/instances")
_TXT_DIRS = ("instances_txt", "training/instances_txt", "train/instances_txt", "train/instances_txt_gt")
_MOTSCHALLENGE_IMAGES = ("train/images/0002", "images/0002", "train/MOTS20-02/img1", "MOTS20-02/img1")
_MOTSCHALLENGE_PNG = ("instances/0002", "train/instances/0002")
_MOTSCHALLENGE_TXT = (
    "instances_txt/0002.txt", "train/instances_txt/0002.txt", "train/MOTS20-02/gt/gt.txt", "MOTS20-02/gt/gt.txt",
)  # fmt: skip


@dataclass(frozen=True)
class SequenceJob(Job):
    """A sequence: the folder of its images, and its folder of PNGs or its txt file."""

    images: Path
    ground_truth: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument("--only", choices=("train", "val"), help="make this split alone")
    parser.add_argument("--format", choices=("png", "txt"), help="ground truth to read (default: png where it exists)")
    parser.add_argument("--images-dir", metavar="DIR", help="folder of the sequences' images, below ROOT")
    parser.add_argument("--motschallenge", metavar="ROOT", help="root of MOTSChallenge, for sequence 0050")


def make_plans(root: Path, args: argparse.Namespace) -> list[Plan]:
    """The files kittimots_train.json and kittimots_val.json."""
    images = find(
        root, _IMAGE_DIRS, "the images of KITTI tracking (left colour)", args.images_dir, "name it with --images-dir"
    )
    plans = []
    for split in [args.only] if args.only else ["train", "val"]:
        jobs = [_kitti_job(root, images, name, args.format) for name in SEQUENCES[split]]
        plan = Plan(f"kittimots_{split}.json", "videos", dict(CATEGORIES), jobs, convert)
        plans.append(plan if split == "val" else _with_motschallenge(plan, root, images, args))
    return plans


def _kitti_job(root: Path, images: Path, name: str, wanted: str | None) -> SequenceJob:
    pngs = [f"{folder}/{name}" for folder in _PNG_DIRS]
    texts = [f"{folder}/{name}.txt" for folder in _TXT_DIRS]
    return SequenceJob(name, images / name, _ground_truth(root, pngs, texts, f"the ground truth of {name}", wanted))


def _ground_truth(root: Path, pngs: list[str], texts: list[str], what: str, wanted: str | None) -> Path:
    candidates = {"png": pngs, "txt": texts, None: [*pngs, *texts]}[wanted]
    return find(root, candidates, what)


def _with_motschallenge(plan: Plan, root: Path, images: Path, args: argparse.Namespace) -> Plan:
    """The training plan with sequence 0050 where it is to be had, else with a word that it is not."""
    name = MOTSCHALLENGE_NAME
    next_step = f"export KITTIMOTS_BASE_DIR={root if images.is_relative_to(root) else images}"
    finish = None
    left_out = {}
    jobs = list(plan.jobs)
    if args.motschallenge:
        other = Path(args.motschallenge)
        folder = find(other, _MOTSCHALLENGE_IMAGES, "the images of MOTSChallenge 0002")
        what = "the ground truth of MOTSChallenge 0002"
        truth = _ground_truth(other, [*_MOTSCHALLENGE_PNG], [*_MOTSCHALLENGE_TXT], what, args.format)
        jobs.append(SequenceJob(name, folder, truth))
        finish = partial(link_folder, folder, images / name)
    elif (images / name).exists():
        jobs.append(_kitti_job(root, images, name, args.format))
    else:
        left_out = {f"sequence {name} (MOTSChallenge 0002; give its root with --motschallenge)": 1}
    return Plan(
        plan.filename, plan.kind, plan.category_labels, jobs, convert, (), left_out, finish=finish, next_step=next_step
    )


def link_folder(source: Path, link: Path) -> None:
    """Make ``link`` show the folder ``source``: a relative symbolic link, or a copy where links cannot be made."""
    if link.exists():
        return
    try:
        link.symlink_to(os.path.relpath(source.resolve(), link.parent.resolve()), target_is_directory=True)
    except OSError:
        shutil.copytree(source, link)


def convert(job: SequenceJob) -> Converted:
    """One sequence; its frames are the images."""
    frames = list_images(job.images)
    size = image_size(frames[0])
    problems = [p for frame in frames for p in image_problems(frame, size)]
    read = read_png_masks if job.ground_truth.is_dir() else read_txt_masks
    masks, found = read(job.ground_truth, [frame.stem for frame in frames], size)
    problems += found
    instances = sorted({i for frame in masks for i in frame})
    categories = {i: category_of(i) for i in instances if category_of(i) is not None}
    problems += [f"object id {i} is of no known class (expected 1xxx car, 2xxx pedestrian or {IGNORE_ID})"
                 for i in instances if i not in categories]  # fmt: skip
    paths = [f"{job.name}/{frame.name}" for frame in frames]
    sequence = VideoSequence(job.name, *size, paths, categories=categories, segmentations=masks)
    return Converted(sequence, [f"sequence {job.name}: {problem}" for problem in problems], {})


KITTI_MOTS = Dataset("KITTI-MOTS, with MOTSChallenge 0002 as 0050", add_arguments, make_plans)
