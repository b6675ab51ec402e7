"""The two forms of MOTS ground truth: 16-bit PNGs with 1000 x class + object, and txt files with an RLE a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.prepare.masks import check_map_size, encode_ids, read_id_map
from stemseg.structures.rle import check_rle_size, merge_rles, rle_area
from stemseg.utils.errors import DataError

IGNORE_ID = 10000
CATEGORIES = {1: "car", 2: "pedestrian", 3: "ignore"}
_IGNORE_CATEGORY = 3

Masks = list[dict[int, str]]  # for each frame the RLE counts of each official object id


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
    index = {int(name): t for t, name in enumerate(frames) if name.isdigit()}
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), start=1):
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
    for t, frame in enumerate(masks):
        if _overlap(frame, size):
            problems.append(f"{path}: masks overlap in frame {frames[t]}, where every pixel may have one object")
    return masks, problems


def _parse_line(line: str, size: tuple[int, int]) -> tuple[int, int, str]:
    """(frame, object id, RLE counts) of a line "frame id class height width rle"."""
    fields = line.split()
    if len(fields) != 6 or not all(field.isdigit() for field in fields[:5]):
        raise DataError(f"found '{line[:40]}', expected 'frame id class height width rle'")
    frame, object_id, class_id, height, width = map(int, fields[:5])
    if class_id != object_id // 1000:
        raise DataError(f"object id {object_id} has class {class_id}, expected {object_id // 1000} (id // 1000)")
    if (height, width) != size:
        raise DataError(f"mask is {height} x {width}, but the image is {size[0]} x {size[1]} (height x width)")
    check_rle_size(fields[5], height, width)
    return frame, object_id, fields[5]


def _overlap(frame: dict[int, str], size: tuple[int, int]) -> bool:
    """Whether masks share a pixel."""
    if len(frame) < 2:
        return False
    masks = list(frame.values())
    return sum(rle_area(counts, *size) for counts in masks) > rle_area(merge_rles(masks, *size), *size)
