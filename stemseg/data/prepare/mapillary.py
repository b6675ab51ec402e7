"""Mapillary Vistas: instance or panoptic PNGs, and copies of the images at the size that the annotations are made for.

Expected below ROOT: ``{training,validation}/images/<image>.jpg``, and beside ``images`` either ``instances`` (v1.2:
16-bit PNGs, 256 x label + instance, labels in ``config.json``) or ``panoptic`` (RGB PNGs, R + 256 G + 65536 B,
segments in ``panoptic_*.json``); both also below ``v1.2`` or ``v2.0``. Without ``--format`` the instances are taken
where they exist. Both parts of the dataset go into one file, as class ids label + 1 (what the panoptic files use
too); classes that are not countable are left out; unlabeled pixels and panoptic crowds become the image's ignore
region.

The images are larger than any network input (up to 4000 pixels and more). They are scaled down, never up, until the
shorter side is ``--short_side``, or to the sizes in an existing mapillary.json with ``--sizes_from``, and written
below ``--images_output``, which MAPILLARY_IMAGES_DIR has to name. Copies that exist with the right size are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stemseg.data.images import read_image
from stemseg.data.prepare.masks import check_map_size, encode_ids, present_ids
from stemseg.data.prepare.plan import ConversionJob, Converted, Plan
from stemseg.data.prepare.trees import find, read_official
from stemseg.datasets import DatasetEntry
from stemseg.structures.annotations import StillImage, load_still_annotations
from stemseg.structures.id_maps import image_size, read_color_ids, read_id_map
from stemseg.structures.official import read_labels
from stemseg.structures.rle import encode_rle
from stemseg.utils.arguments import positive
from stemseg.utils.drawing import write_image
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.files import list_images, make_folder, user_path
from stemseg.utils.json_values import Entry
from stemseg.utils.text import shorten_list

_PARTS = ("training", "validation")
_JPEG_QUALITY = 95
_UNLABELED = "void--unlabeled"
_INSTANCE_DIRS = ("instances", "v1.2/instances")
_PANOPTIC_DIRS = ("panoptic", "v1.2/panoptic", "v2.0/panoptic")


class PanopticSegment(NamedTuple):
    """A segment of a panoptic PNG."""

    id: int
    category_id: int
    is_crowd: bool


@dataclass(frozen=True)
class MapillaryImage(ConversionJob):
    """An image to scale down and annotate.

    Attributes:
        image: the original.
        id_map: its instance or panoptic PNG.
        segments: the panoptic file's segments of this image; None for an instance PNG.
        countable: category ids with instances.
        unlabeled: the label number of unlabeled pixels in an instance PNG, or None.
        output: where the smaller copy goes.
        size: its (height, width); None: by ``short_side``.
        short_side: pixels.
        overwrite: write the copy even where it exists.
    """

    image: Path
    id_map: Path
    segments: list[PanopticSegment] | None
    countable: frozenset[int]
    unlabeled: int | None
    output: Path
    size: tuple[int, int] | None
    short_side: int
    overwrite: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this dataset."""
    parser.add_argument(
        "--format", choices=("instances", "panoptic"), help="annotations to read (default: what exists)"
    )
    parser.add_argument("--images_output", metavar="DIR", help="folder of the copies (default: ROOT/downsampled)")
    parser.add_argument(
        "--short_side", type=positive, default=1024, help="pixels of the copies' shorter side (default: 1024)"
    )
    parser.add_argument("--sizes_from", metavar="JSON", help="take the copies' sizes from an existing mapillary.json")
    parser.add_argument("--overwrite", action="store_true", help="write copies anew that exist already")


def make_plans(entry: DatasetEntry, root: Path, args: argparse.Namespace) -> list[Plan]:
    """The file mapillary.json."""
    output = user_path(args.images_output).absolute() if args.images_output else root / "downsampled"
    sizes = _published_sizes(args.sizes_from)
    labels: dict[int, str] = {}
    jobs, problems = [], []
    for part in _PARTS:
        images = find(root, [f"{part}/images"], f"the {part} images of Mapillary Vistas")
        if output.resolve() == images.resolve():
            raise ConfigError(
                f"--images_output is {images}, where the copies would replace the originals; choose another folder"
            )
        folder, is_panoptic = _annotation_folder(root / part, args.format)
        source = _read_panoptic(folder) if is_panoptic else _read_config(root)
        labels.update(source.labels)
        for image in sorted(list_images(images)):  # by plain name: the order of published files
            segments = source.segments.get(image.stem) if is_panoptic else None
            if is_panoptic and segments is None:
                problems.append(f"{image} has no entry in the panoptic file of {folder}, expected one for each image")
                continue
            name = f"{image.stem}.jpg"
            job = MapillaryImage(
                name=name,
                image=image,
                id_map=folder / f"{image.stem}.png",
                segments=segments,
                countable=frozenset(source.labels),
                unlabeled=source.unlabeled,
                output=output / name,
                size=sizes.get(name),
                short_side=args.short_side,
                overwrite=args.overwrite,
            )
            jobs.append(job)
    make_folder(output)  # what can't be written is said once
    next_step = f"export {entry.variable}={output}"
    return [Plan(f"{entry.json_stem}.json", "stills", labels, jobs, convert, problems, next_step=next_step)]


@dataclass(frozen=True)
class _Labels:
    """Names of the countable categories, the label of unlabeled pixels, and (panoptic) segments by image."""

    labels: dict[int, str]
    unlabeled: int | None
    segments: dict[str, list[PanopticSegment]]


def _published_sizes(path: str | None) -> dict[str, tuple[int, int]]:
    if path is None:
        return {}
    return {Path(i.image_path).name: (i.height, i.width) for i in load_still_annotations(path).images}


def _annotation_folder(part: Path, wanted: str | None) -> tuple[Path, bool]:
    """The folder of the PNGs and whether they are panoptic."""
    if wanted != "panoptic" and (wanted or any((part / name).is_dir() for name in _INSTANCE_DIRS)):
        return find(part, _INSTANCE_DIRS, "the instance PNGs"), False
    return find(part, _PANOPTIC_DIRS, "the panoptic PNGs"), True


def _read_config(root: Path) -> _Labels:
    path = find(root, ["config_v1.2.json", "config.json"], "the file that names the labels")
    entries = list(read_official(path, ["labels"]).entries("labels", "label"))
    names = {i: entry.text("readable") for i, entry in enumerate(entries, start=1)}
    labels = {i: names[i] for i, entry in enumerate(entries, start=1) if _is_countable(entry, "instances")}
    unlabeled = next((i for i, entry in enumerate(entries) if entry.text("name") == _UNLABELED), None)
    return _Labels(labels, unlabeled, {})


def _read_panoptic(folder: Path) -> _Labels:
    sources = sorted([*folder.glob("panoptic*.json"), *folder.parent.glob("panoptic*.json")])
    if not sources:
        raise DataError(f"no panoptic_*.json in {folder} or {folder.parent}; it is part of the official download")
    file = read_official(sources[0], ["annotations", "categories"])
    names = read_labels(file)
    things = {c.whole("id") for c in file.entries("categories", "category") if _is_countable(c, "isthing")}
    segments: dict[str, list[PanopticSegment]] = {}
    for entry in file.entries("annotations", "annotation"):
        name = Path(entry.path("file_name")).stem
        if name in segments:
            raise DataError(f"{entry.where}: a second one of '{name}', expected one of each image; remove one")
        segments[name] = _read_segments_of(entry, names)
    return _Labels({i: name for i, name in names.items() if i in things}, None, segments)


def _is_countable(category: Entry, key: str) -> bool:
    """Whether a category has instances; a file that does not say so would lose all of them."""
    if category.get(key) is None:
        raise DataError(f"{category.place(key)} is null, expected true or false, or 1 or 0; correct the file")
    return category.flag(key)


def _read_segments_of(image: Entry, names: Mapping[int, str]) -> list[PanopticSegment]:
    found: dict[int, PanopticSegment] = {}
    for entry in image.entries("segments_info", "segment"):
        segment = PanopticSegment(entry.whole("id"), entry.whole("category_id"), entry.flag("iscrowd"))
        if segment.id in found:
            raise DataError(f"{entry.where}: id {segment.id} is given twice, expected each once; correct the file")
        if segment.category_id not in names:
            raise DataError(
                f"{entry.place('category_id')} is {segment.category_id}, expected one of the file's categories "
                f"{shorten_list(names)}; correct the file"
            )
        found[segment.id] = segment
    return list(found.values())


def convert(job: MapillaryImage) -> Converted:
    """Write the smaller copy and annotate it; nothing to annotate where it shows no instance."""
    original = image_size(job.image)
    size = job.size or shrunk_size(*original, short_side=job.short_side)
    ids = read_id_map(job.id_map) if job.segments is None else read_color_ids(job.id_map)
    check_map_size(ids, original, job.id_map)
    all_ids = set(present_ids(ids))
    ids = resize_ids(ids, size)
    if job.segments is None:
        categories = {i: i // 256 + 1 for i in all_ids}
        ignored = [i for i in all_ids if i // 256 == job.unlabeled]
        problems: list[str] = []
    else:
        categories, ignored, problems = _read_segments(job.id_map, job.segments, all_ids)
    instances = {i: category for i, category in categories.items() if category in job.countable and i not in ignored}
    masks = encode_ids(ids, leave_out=all_ids - instances.keys())
    left_out = {"instances that vanish in the smaller copy": len(instances) - len(masks)}
    left_out = {reason: count for reason, count in left_out.items() if count}
    if not masks or problems:
        return Converted(None, problems, left_out if problems else {**left_out, "images without an instance": 1})
    write_downsampled(job.image, job.output, size, overwrite=job.overwrite)
    region = np.isin(ids, ignored)
    ignore = encode_rle(region) if region.any() else None
    item = StillImage(*size, job.name, [instances[i] for i in masks], list(masks.values()), ignore)
    return Converted(item, [], left_out)


def _read_segments(
    id_map: Path, segments: list[PanopticSegment], ids: set[int]
) -> tuple[dict[int, int], list[int], list[str]]:
    """Category of each segment, ids that become the ignore region (unlabeled: 0; crowds), problems."""
    categories = {segment.id: segment.category_id for segment in segments}
    crowds = [segment.id for segment in segments if segment.is_crowd]
    problems = [
        f"{id_map}: segment {i} is not in the panoptic file, expected all there"
        for i in sorted(ids - {0} - categories.keys())
    ]
    problems += [
        f"{id_map}: segment {i} of the panoptic file has no pixel, expected some"
        for i in sorted(categories.keys() - ids)
    ]
    return categories, [0, *crowds], problems


def shrunk_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """(height, width) with the shorter side at most ``short_side`` pixels and the same aspect ratio."""
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The id map [H, W] at another size [h, w]: the id at the center of each new pixel."""
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, ids.shape, strict=True))
    return ids[rows[:, None], columns]


def write_downsampled(source: Path, target: Path, size: tuple[int, int], *, overwrite: bool) -> None:
    """Write ``source`` at (height, width) = ``size`` as a JPEG, whole or not at all; keeps a copy of that size.

    Raises:
        DataError: where the source cannot be read.
        OutputError: where the copy cannot be written.
    """
    if not overwrite and target.exists() and image_size(target) == size:
        return
    image = read_image(source)
    if image.shape[:2] != size:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    write_image(target, image, jpeg_quality=_JPEG_QUALITY, durable=True)
