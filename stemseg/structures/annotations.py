"""The standard annotation JSON: reading, writing and checking it. The one place that knows this format.

Images are not touched here; ``stemseg.data`` loads them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stemseg.structures.rle import are_whole, check_rle_size, is_decodable, rle_from_coco
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import replacing
from stemseg.utils.json_values import Entry, mapping, names_of, read_json, text, whole, whole_key
from stemseg.utils.text import shorten, shorten_list

_NEXT_STEP = "stemseg-prepare makes annotation files from official downloads"
_IMAGES_AT_ONCE = 1000  # whose masks are checked together


@dataclass(frozen=True)
class VideoSequence:
    """One annotated video.

    Attributes:
        id: the sequence's id, a text or a number, as it stands in the file.
        height, width: image size in pixels.
        image_paths: relative path of each frame.
        categories: category id of each instance id; None in a test set.
        segmentations: for each frame the compressed RLE counts of the instances visible in it; None in a test set.
    """

    id: str | int
    height: int
    width: int
    image_paths: list[str]
    categories: dict[int, int] | None = None
    segmentations: list[dict[int, str]] | None = None

    def __len__(self) -> int:
        return len(self.image_paths)

    @property
    def is_annotated(self) -> bool:
        """Whether the file gives instances for this sequence."""
        return self.segmentations is not None


@dataclass(frozen=True)
class StillImage:
    """One annotated still image; ``categories[i]`` and ``segmentations[i]`` (RLE counts) belong to instance i.

    ``ignore`` holds the counts of the region that belongs to nothing known, or None.
    """

    height: int
    width: int
    image_path: str
    categories: list[int]
    segmentations: list[str]
    ignore: str | None = None


@dataclass(frozen=True)
class VideoAnnotations:
    """A video annotation file: where it was read, its category names by id, its sequences."""

    source: Path
    category_labels: dict[int, str]
    sequences: list[VideoSequence]

    def __iter__(self) -> Iterator[VideoSequence]:
        return iter(self.sequences)

    @property
    def is_annotated(self) -> bool:
        """Whether every sequence has ground truth."""
        return all(sequence.is_annotated for sequence in self.sequences)


@dataclass(frozen=True)
class StillAnnotations:
    """A still image annotation file: where it was read, its category names by id, its images."""

    source: Path
    category_labels: dict[int, str]
    images: list[StillImage]


def load_annotations(path: str | Path, *, check_masks: bool = False) -> VideoAnnotations | StillAnnotations:
    """Read a standard JSON file of videos ("sequences") or stills ("images").

    Args:
        check_masks: also verify that every RLE covers its image (reads every mask; 2 s per 100,000 masks).

    Raises:
        DataError: naming file, sequence and frame of what is missing, of a wrong type or inconsistent.
    """
    content = read_json(path, next_step=_NEXT_STEP)
    return parse_annotations(content, Path(path), check_masks=check_masks)


def parse_annotations(content: Any, path: Path, *, check_masks: bool = False) -> VideoAnnotations | StillAnnotations:
    """:func:`load_annotations` for the content of the JSON file ``path``."""
    file = Entry(content, path)
    labels = _labels(Entry(file.get("meta"), f"{path}: 'meta'"))
    if "sequences" in file.values:
        sequences = [_parse_sequence(*named, check_masks) for named in _named(file, "sequences", "sequence", "id")]
        _check_ids(sequences, path)
        return VideoAnnotations(path, labels, sequences)
    if "images" in file.values:
        return StillAnnotations(path, labels, _parse_images(file, check_masks))
    found = names_of(file.values)
    raise DataError(f"{path}: found the keys {found}, expected 'sequences' (videos) or 'images' (stills)")


def load_video_annotations(path: str | Path, *, check_masks: bool = False) -> VideoAnnotations:
    """:func:`load_annotations` for a file that must hold videos."""
    content = read_json(path, next_step=_NEXT_STEP)
    return parse_video_annotations(content, Path(path), check_masks=check_masks)


def parse_video_annotations(content: Any, path: Path, *, check_masks: bool = False) -> VideoAnnotations:
    """:func:`load_video_annotations` for the content of the JSON file ``path``."""
    annotations = parse_annotations(content, path, check_masks=check_masks)
    if not isinstance(annotations, VideoAnnotations):
        raise DataError(f"{path} holds still images ('images'), expected videos ('sequences')")
    return annotations


def load_still_annotations(path: str | Path, *, check_masks: bool = False) -> StillAnnotations:
    """:func:`load_annotations` for a file that must hold still images."""
    annotations = load_annotations(path, check_masks=check_masks)
    if not isinstance(annotations, StillAnnotations):
        raise DataError(f"{path} holds videos ('sequences'), expected still images ('images')")
    return annotations


def save_video_annotations(
    path: str | Path, sequences: Iterable[VideoSequence], category_labels: Mapping[int, str]
) -> None:
    """Write videos as standard JSON; :func:`load_video_annotations` reads them back equal.

    Entries are written as they come, so that a generator's videos need not fit into memory together. Where the
    generator raises, no file appears and an earlier one stays.
    """
    _write_json(Path(path), category_labels, "sequences", map(_sequence_entry, sequences))


def save_still_annotations(path: str | Path, images: Iterable[StillImage], category_labels: Mapping[int, str]) -> None:
    """:func:`save_video_annotations` for stills; :func:`load_still_annotations` reads them back equal."""
    _write_json(Path(path), category_labels, "images", map(_image_entry, images))


def _sequence_entry(sequence: VideoSequence) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": sequence.id,
        "height": sequence.height,
        "width": sequence.width,
        "image_paths": list(sequence.image_paths),
    }
    if sequence.categories is not None and sequence.segmentations is not None:
        entry["categories"] = {str(k): v for k, v in sequence.categories.items()}
        entry["segmentations"] = [{str(k): v for k, v in frame.items()} for frame in sequence.segmentations]
    return entry


def _image_entry(image: StillImage) -> dict[str, Any]:
    entry = {name: getattr(image, name) for name in ("height", "width", "image_path", "categories", "segmentations")}
    if image.ignore is not None:
        entry["ignore"] = image.ignore
    return entry


def _write_json(path: Path, category_labels: Mapping[int, str], key: str, entries: Iterable[dict[str, Any]]) -> None:
    """{"meta": ..., key: [entries]}, one entry a line."""
    meta = json.dumps({"category_labels": {str(k): v for k, v in category_labels.items()}})
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"meta": {meta}, "{key}": [')
        for i, entry in enumerate(entries):
            file.write((",\n" if i else "\n") + json.dumps(entry))
        file.write("\n]}\n")


def _labels(meta: Entry) -> dict[int, str]:
    """Category names by id."""
    place, names = meta.place("category_labels"), meta.mapping("category_labels")
    labels = {whole_key(key, place): text(name, f"{place}, category {key}") for key, name in names.items()}
    if len(labels) < len(names):
        raise DataError(f"{place} names a category id twice")
    return labels


def _named(file: Entry, key: str, kind: str, name: str) -> Iterator[tuple[Entry, str]]:
    """The objects in a list of the file, each with its place: the file and the object's name."""
    values = file.items(key)
    if not values:
        raise DataError(f"{file.where}: '{key}' is empty, expected at least one {kind}; was the file written whole?")
    for index, value in enumerate(values):
        found = value.get(name) if isinstance(value, Mapping) else None
        where = f"{file.where}: {kind} " + (f"number {index}" if found is None else f"'{shorten(str(found), 80)}'")
        yield Entry(value, where), where


def _check_ids(sequences: Sequence[VideoSequence], path: Path) -> None:
    """Refuse ids that are equal as texts: results are kept under them."""
    for name, times in Counter(str(sequence.id) for sequence in sequences).most_common(1):
        if times > 1:
            raise DataError(f"{path}: sequence '{name}' is there {times} times; give every sequence an id of its own")


def _parse_sequence(entry: Entry, where: str, check_masks: bool) -> VideoSequence:
    sequence = VideoSequence(entry.identity(), *entry.size(), image_paths=entry.paths("image_paths"))
    if "segmentations" not in entry:
        return sequence
    categories = _instances(entry.mapping("categories"), entry.place("categories"))
    categories = {instance: whole(v, f"{where}: category of instance {instance}") for instance, v in categories.items()}
    segmentations = [_parse_frame(f, sequence, t, where) for t, f in enumerate(entry.items("segmentations"))]
    if len(segmentations) != len(sequence):
        raise DataError(
            f"{where} has {len(sequence)} image_paths and {len(segmentations)} segmentations, expected one each"
        )
    sequence = replace(sequence, categories=categories, segmentations=segmentations)
    _check_instances(sequence, where)
    if check_masks:
        _check_masks(sequence, where)
    return sequence


def _parse_frame(frame: Any, sequence: VideoSequence, t: int, where: str) -> dict[int, str]:
    """The counts of each instance; a frame, or a mask, that is null shows none."""
    if frame is None:
        return {}
    masks = _instances(mapping(frame, f"{where}, frame {t}"), f"{where}, frame {t}")
    counts = {i: _counts(m, sequence.height, sequence.width, where, t, i) for i, m in masks.items() if m is not None}
    return {instance: mask for instance, mask in counts.items() if mask is not None}


def _instances(values: Mapping[str, Any], where: str) -> dict[int, Any]:
    """An object by instance ids."""
    by_id = {int(k) if k.isdecimal() and k.isascii() and len(k) < 10 else whole_key(k, where): v
             for k, v in values.items()}  # fmt: skip
    if len(by_id) < len(values):
        raise DataError(f"{where} names an instance twice; remove one of them")
    return by_id


def _counts(mask: Any, height: int, width: int, where: str, t: int, instance: int) -> str | None:
    """Compressed counts, as the format has them, or any other mask of COCO's; None where it has no pixel."""
    if isinstance(mask, str) and is_decodable(mask):  # first of all, since files hold hundreds of thousands
        return mask
    with located(f"{where}, frame {t}, instance {instance}"):
        if isinstance(mask, str):
            check_rle_size(mask, height, width)
        return rle_from_coco(mask, height, width)


def _check_instances(sequence: VideoSequence, where: str) -> None:
    """Refuse masks of an instance that has no category."""
    for t, frame in enumerate(sequence.segmentations or ()):
        for instance in frame.keys() - (sequence.categories or {}).keys():
            raise DataError(
                f"{where}, frame {t} ({sequence.image_paths[t]}): instance {instance} has a mask but no category; add "
                f"it to the sequence's 'categories' (found instances {shorten_list(sorted(sequence.categories or {}))})"
            )


def mask_problems(annotations: VideoAnnotations | StillAnnotations) -> list[str]:
    """Messages on masks that don't fit, in annotations that were read without ``check_masks``; one a sequence."""
    problems: list[str] = []
    if isinstance(annotations, VideoAnnotations):
        for sequence in annotations:
            with _collected(problems):
                _check_masks(sequence, f"{annotations.source}: sequence '{sequence.id}'")
        return problems
    for first in range(0, len(annotations.images), _IMAGES_AT_ONCE):
        with _collected(problems):
            _check_stills(annotations.images[first : first + _IMAGES_AT_ONCE], str(annotations.source))
    return problems


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Add the message of an error in the ``with`` block to a list, and go on."""
    try:
        yield
    except DataError as error:
        problems.append(str(error))


def _check_masks(sequence: VideoSequence, where: str) -> None:
    frames = sequence.segmentations or []
    masks = [mask for frame in frames for mask in frame.values()]
    if are_whole(masks, [sequence.height * sequence.width] * len(masks)):
        return
    for t, frame in enumerate(frames):
        for instance, mask in frame.items():
            with located(f"{where}, frame {t} ({sequence.image_paths[t]}), instance {instance}"):
                check_rle_size(mask, sequence.height, sequence.width)


def _parse_images(file: Entry, check_masks: bool) -> list[StillImage]:
    images: list[StillImage] = []
    unchecked = 0
    for entry, where in _named(file, "images", "image", "image_path"):
        images.append(_parse_image(entry, where))
        if check_masks and len(images) - unchecked == _IMAGES_AT_ONCE:
            _check_stills(images[unchecked:], file.where)
            unchecked = len(images)
    if check_masks:
        _check_stills(images[unchecked:], file.where)
    return images


def _parse_image(entry: Entry, where: str) -> StillImage:
    height, width = entry.size()
    categories = [whole(value, f"{where}: category {i}") for i, value in enumerate(entry.items("categories"))]
    masks = entry.items("segmentations")
    if len(categories) != len(masks):
        raise DataError(f"{where} has {len(categories)} categories and {len(masks)} segmentations, expected one each")
    counts = [_still_counts(mask, height, width, f"{where}, instance {i}") for i, mask in enumerate(masks)]
    ignore = _still_counts(entry.get("ignore"), height, width, f"{where}, ignore region") if "ignore" in entry else None
    return StillImage(height, width, entry.path("image_path"), categories, counts, ignore)


def _still_counts(mask: Any, height: int, width: int, where: str) -> str:
    if isinstance(mask, str) and is_decodable(mask):
        return mask
    with located(where):
        if isinstance(mask, str):
            check_rle_size(mask, height, width)
        counts = rle_from_coco(mask, height, width)
        if counts is None:
            raise DataError("the mask has no pixel; remove the instance")
        return counts


def _check_stills(images: Sequence[StillImage], where: str) -> None:
    masks = [(mask, image) for image in images for mask in (*image.segmentations, *filter(None, [image.ignore]))]
    if are_whole([mask for mask, _ in masks], [image.height * image.width for _, image in masks]):
        return
    for image in images:
        named = {f"instance {i}": mask for i, mask in enumerate(image.segmentations)}
        for name, mask in (named | ({"ignore region": image.ignore} if image.ignore else {})).items():
            with located(f"{where}: image '{image.image_path}', {name}"):
                check_rle_size(mask, image.height, image.width)
