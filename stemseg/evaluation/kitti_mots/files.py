"""KITTI-MOTS annotations and results: txt files, 16-bit PNGs, or the standard JSON.

A txt line is "frame track class height width rle". Class 1 is car, 2 pedestrian, 10 the region to ignore; in PNGs a
pixel holds 1000 x class + object, and 10000 where it is to be ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthVideo
from stemseg.evaluation.masks import mask_areas, mask_intersections
from stemseg.structures.id_maps import read_id_map
from stemseg.structures.official import MOTS_CLASSES, MOTS_IGNORE, read_mots_line
from stemseg.structures.rle import check_rle_size, encode_rle
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import read_text

IGNORE_CLASS = MOTS_IGNORE
# class of each category name in the standard JSON
_CLASS_OF_LABEL = {"car": 1, "pedestrian": 2, "person": 2, "ignore": IGNORE_CLASS}


@dataclass(frozen=True)
class MotsObject:
    """One mask: its track, its class (1, 2 or :data:`IGNORE_CLASS`), its compressed RLE counts."""

    track_id: int
    class_id: int
    counts: str


@dataclass(frozen=True)
class MotsSequence:
    """One sequence: image size in pixels (0 where it has no mask at all) and the masks of each frame, by its number."""

    name: str
    height: int
    width: int
    frames: dict[int, list[MotsObject]] = field(default_factory=dict)

    @property
    def last_frame(self) -> int:
        """The highest number of a frame with a mask; -1 without any."""
        return max(self.frames, default=-1)


def read_mots(path: str | Path) -> MotsSequence:
    """:func:`read_mots_pngs` of a folder, :func:`read_mots_txt` of anything else."""
    return read_mots_pngs(path) if Path(path).is_dir() else read_mots_txt(path)


def read_mots_txt(path: str | Path) -> MotsSequence:
    """The sequence of a txt file, named like it.

    Raises:
        DataError: naming file and line: malformed line, unknown class, masks of different sizes, masks that overlap.
    """
    path = Path(path)
    text = read_text(
        path,
        next_step="every sequence needs a file, an empty one where nothing is found. Did inference stop early, or is "
        "the sequence not to be evaluated (--sequences)?",
    )
    frames: dict[int, list[MotsObject]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            with located(f"{path}, line {number}"):
                item = read_mots_line(line)
            frames.setdefault(item.frame, []).append(MotsObject(item.object_id, item.class_id, item.counts))
            sizes.setdefault((item.height, item.width), number)
    return _checked(MotsSequence(path.stem, *_only_size(sizes, path), frames), str(path))


def read_mots_pngs(folder: str | Path) -> MotsSequence:
    """The sequence of a folder of 16-bit PNGs named by frame number.

    Raises:
        DataError: where a PNG is damaged or holds an id of no known class.
    """
    folder = Path(folder)
    frames: dict[int, list[MotsObject]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for path in sorted(folder.glob("*.png")):
        ids = read_id_map(path)
        frames[frame_number(path)] = [_object_of(int(i), encode_rle(ids == i), path) for i in np.unique(ids) if i]
        sizes.setdefault(ids.shape, frame_number(path))
    if not sizes:
        raise DataError(f"{folder} holds no PNG; expected one for each frame, such as 000000.png")
    return MotsSequence(folder.name, *_only_size(sizes, folder), frames)


def frame_number(path: Path) -> int:
    """The number of the frame that a PNG is named by.

    Raises:
        DataError: where it is named otherwise.
    """
    if not (path.stem.isascii() and path.stem.isdigit() and len(path.stem) <= 6):
        raise DataError(f"{path} is not named by its frame number, such as 000000.png; rename or remove it")
    return int(path.stem)


def mots_from_ground_truth(ground_truth: GroundTruth) -> list[MotsSequence]:
    """The sequences of a standard JSON with the categories car, pedestrian and ignore.

    Raises:
        DataError: where an object has another category, or masks overlap.
    """
    return [_from_video(video, ground_truth) for video in ground_truth.videos]


def mots_from_tracks(video: VideoTracks) -> MotsSequence:
    """Tracks in memory, whose category is their class, as the results of a sequence.

    Raises:
        DataError: where masks overlap.
    """
    frames: dict[int, list[MotsObject]] = {number: [] for number in range(video.num_frames)}
    for track in video.tracks:
        for number, counts in enumerate(track.segmentations):
            if counts:
                frames[number].append(MotsObject(track.track_id, track.category_id, counts))
    sequence = MotsSequence(str(video.sequence_id), video.height, video.width, frames)
    return _checked(sequence, f"tracks of '{video.sequence_id}'")


def _from_video(video: GroundTruthVideo, ground_truth: GroundTruth) -> MotsSequence:
    frames: dict[int, list[MotsObject]] = {number: [] for number in range(len(video))}  # as our results count them
    for track in video.tracks:
        label = ground_truth.category_labels.get(track.category_id, "")
        if label not in _CLASS_OF_LABEL:
            raise DataError(
                f"{ground_truth.source}: sequence '{video.id}', instance {track.instance_id} is of category '{label}', "
                f"expected one of {', '.join(_CLASS_OF_LABEL)}"
            )
        for number, counts in enumerate(track.segmentations):
            if counts:
                frames[number].append(MotsObject(track.instance_id, _CLASS_OF_LABEL[label], counts))
    sequence = MotsSequence(video.id, video.height, video.width, frames)
    return _checked(sequence, f"{ground_truth.source}: sequence '{video.id}'")


def _object_of(value: int, counts: str, path: Path) -> MotsObject:
    class_id = value // 1000
    if class_id not in (*MOTS_CLASSES, IGNORE_CLASS):
        raise DataError(
            f"{path}: pixels hold {value}, expected 0, 1xxx (car), 2xxx (pedestrian) or 10000 (ignore); an 8-bit PNG "
            "can't hold these ids"
        )
    return MotsObject(value, class_id, counts)


def _only_size(sizes: dict[tuple[int, int], int], path: Path) -> tuple[int, int]:
    if len(sizes) > 1:
        found = ", ".join(f"{h} x {w} (first at {place})" for (h, w), place in sizes.items())
        raise DataError(f"{path}: masks of different sizes (height x width): {found}; expected one size per sequence")
    return next(iter(sizes), (0, 0))


def _checked(sequence: MotsSequence, where: str) -> MotsSequence:
    """The sequence, if its masks are whole, each track has one mask a frame, and no two masks share a pixel."""
    size = (sequence.height, sequence.width)
    for number, objects in sequence.frames.items():
        _check_frame(objects, size, f"{where}, frame {number}")
    return sequence


def _check_frame(objects: Sequence[MotsObject], size: tuple[int, int], where: str) -> None:
    counts = [item.counts for item in objects]
    for item in objects:
        with located(f"{where}, track {item.track_id}"):
            check_rle_size(item.counts, *size)
    ids = [item.track_id for item in objects]
    if len(set(ids)) < len(ids):
        raise DataError(f"{where}: track {max(ids, key=ids.count)} has two masks, expected one at most")
    shared = mask_intersections(counts, counts, *size)
    rows, columns = np.nonzero(shared - np.diag(mask_areas(counts, *size)))
    if rows.size:
        raise DataError(
            f"{where}: tracks {ids[rows[0]]} and {ids[columns[0]]} share {shared[rows[0], columns[0]]} pixels; "
            "KITTI-MOTS allows one track per pixel, and its official tool refuses overlaps too"
        )
