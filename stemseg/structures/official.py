"""The entries of official files, read by one schema for preparation and evaluation.

YouTube-VIS and OVIS have "videos" and annotations of whole tracks, COCO "images" and annotations of single masks,
KITTI-MOTS a line for each mask. Entries are read one by one, so that a file with mistakes can be listed whole.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from stemseg.structures.rle import are_whole, coco_rles, rle_from_coco
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import MAX_IMAGE_PIXELS
from stemseg.utils.json_values import MAX_SIDE, Entry, number
from stemseg.utils.text import shown

MOTS_CLASSES = {1: "car", 2: "pedestrian"}
MOTS_IGNORE = 10  # the class of regions to ignore
_MAX_DIGITS = 9
_MAX_FRAME = 999_999  # frames are named by six digits


class OfficialVideo(NamedTuple):
    """A video's entry: its id, its image size in pixels, the relative path of each frame."""

    id: int | str
    height: int
    width: int
    file_names: list[str]


class OfficialTrack(NamedTuple):
    """An object's entry.

    Attributes:
        id: of the annotation.
        category_id: as the file has it.
        is_crowd: a region of many objects.
        area: mean pixels over the frames where it is visible, as the file states it; None where it does not.
        masks: compressed counts, or None, for each frame.
    """

    id: int
    category_id: int
    is_crowd: bool
    area: float | None
    masks: list[str | None]


class OfficialImage(NamedTuple):
    """A still's entry: its id, its size in pixels, its relative path."""

    id: int | str
    height: int
    width: int
    file_name: str


class MotsLine(NamedTuple):
    """A line of a KITTI-MOTS txt: a mask (compressed counts) of an object in a frame."""

    frame: int
    object_id: int
    class_id: int
    height: int
    width: int
    counts: str


def read_labels(file: Entry) -> dict[int, str]:
    """Category names by id.

    Raises:
        DataError: where a category lacks id or name, or an id is there twice.
    """
    labels: dict[int, str] = {}
    for category in file.entries("categories", "category"):
        category_id = category.whole("id")
        if category_id in labels:
            raise DataError(f"{category.where}: id {category_id} is given twice, expected each once; correct the file")
        labels[category_id] = category.text("name")
    return labels


def index_entries(file: Entry, key: str, kind: str, problems: list[str]) -> dict[str, Any]:
    """The values of a list by their ids as texts; what has none, or that of another, is added to ``problems``."""
    found: dict[str, Any] = {}
    for index, value in enumerate(file.items(key)):
        with _listing(problems):
            name = str(Entry(value, f"{file.where}, {kind} number {index}").identity())
            if name in found:
                raise DataError(f"{file.where}: {kind} id {name} is there twice, expected each once")
            found[name] = value
    return found


def group_annotations(
    file: Entry, owner_key: str, owners: Collection[str], problems: list[str]
) -> dict[str, list[Any]]:
    """The annotations by the id, as a text, of what they belong to; strange ones are added to ``problems``."""
    groups: dict[str, list[Any]] = {owner: [] for owner in owners}
    known: set[str] = set()
    for index, value in enumerate(file.items("annotations")):
        with _listing(problems):
            entry = Entry(value, f"{file.where}, annotation number {index}")
            owner = str(entry.identity(owner_key))
            if owner not in groups:
                raise DataError(
                    f"{file.where}: annotation {shown(entry.values.get('id'))} is of {owner_key.removesuffix('_id')} "
                    f"{owner}, which the file does not list; add it there, or remove the annotation"
                )
            if "id" in entry and (name := str(entry.identity())) in known:
                raise DataError(f"{file.where}: annotation id {name} is there twice, expected each once; remove one")
            known.add(str(entry.values.get("id")))
            groups[owner].append(value)
    return groups


class _listing:
    """Add the text of an error of ours that a ``with`` block raises to a list, and go on."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, DataError):
            self._problems.append(str(error))
        return isinstance(error, DataError)


def read_video(value: Any, where: str) -> OfficialVideo:
    """A video's entry.

    Raises:
        DataError: beginning with ``where``, naming the key.
    """
    entry = Entry(value, where)
    return OfficialVideo(entry.identity(), *entry.size(), entry.paths("file_names"))


def read_image(value: Any, where: str) -> OfficialImage:
    """A still's entry; raises as :func:`read_video` does."""
    entry = Entry(value, where)
    return OfficialImage(entry.identity(), *entry.size(), entry.path("file_name"))


def read_track(value: Any, video: OfficialVideo, where: str) -> OfficialTrack:
    """An object's entry with its masks; raises as :func:`read_video` does."""
    entry = Entry(value, where)
    track_id, category, is_crowd = entry.whole("id"), entry.whole("category_id"), entry.flag("iscrowd")
    areas = entry.items("areas") if "areas" in entry else None
    numbers = [number(area, f"{where}: 'areas'", 0) for area in areas or () if area is not None]
    visible = [area for area in numbers if area]
    area = None if areas is None else float(np.mean(visible)) if visible else 0.0
    masks = read_masks(entry.items("segmentations"), video.height, video.width, len(video.file_names), where)
    return OfficialTrack(track_id, category, is_crowd, area, masks)


def annotation_name(value: Any) -> str:
    """The name of an annotation in messages: its id as it stands there."""
    return f"annotation {shown(value.get('id') if isinstance(value, dict) else value)}"


def read_masks(values: list[Any], height: int, width: int, num_frames: int, where: str) -> list[str | None]:
    """Compressed counts of the masks of a track, in any form of COCO; None where there is none.

    Raises:
        DataError: naming the frame of a damaged mask, or where there is not one mask, or null, for each frame.
    """
    if len(values) != num_frames:
        raise DataError(
            f"{where}: found {len(values)} segmentations, expected one (or null) for each of the {num_frames} frames"
        )
    given = {t: value for t, value in enumerate(values) if value not in (None, [])}
    masks: list[str | None] = [None] * num_frames
    plain = {t: v["counts"] for t, v in given.items() if _is_plain(v, height, width)}
    if len(plain) == len(given) and are_whole(list(plain.values()), [height * width] * len(plain)):  # the usual case
        areas = coco_mask.area(coco_rles(list(plain.values()), height, width)) if plain else ()
        for (t, counts), area in zip(plain.items(), areas, strict=True):
            masks[t] = counts if area else None
        return masks
    for t, value in given.items():
        with located(f"{where}, frame {t}"):
            masks[t] = rle_from_coco(value, height, width)
    return masks


def _is_plain(value: Any, height: int, width: int) -> bool:
    """Whether a mask is a compressed RLE of this size."""
    return isinstance(value, dict) and value.get("size") == [height, width] and isinstance(value.get("counts"), str)


def read_mots_line(line: str) -> MotsLine:
    """A line "frame track class height width rle".

    Raises:
        DataError: where it has other fields or an unknown class; the mask is not looked at.
    """
    fields = line.split()
    if len(fields) != 6 or not all(f.isascii() and f.isdigit() and len(f) <= _MAX_DIGITS for f in fields[:5]):
        raise DataError(f"found {shown(line)}, expected 'frame track class height width rle' with whole numbers")
    frame, object_id, class_id, height, width = map(int, fields[:5])
    if class_id not in (*MOTS_CLASSES, MOTS_IGNORE):
        raise DataError(f"class is {class_id}, expected 1 (car), 2 (pedestrian) or 10 (ignore)")
    if frame > _MAX_FRAME:
        raise DataError(f"frame is {frame}, expected 0 to {_MAX_FRAME}")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_IMAGE_PIXELS):
        raise DataError(f"size is {height} x {width}, expected at least 1 x 1 and at most {MAX_IMAGE_PIXELS} pixels")
    return MotsLine(frame, object_id, class_id, height, width, fields[5])


def refuse(problems: list[str]) -> None:
    """Raise the first of the problems, if there is one.

    Raises:
        DataError: with the number of the others.
    """
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
