"""The standard annotation JSON: reading, writing and checking it. The one place that knows this format.

Images are not touched here; ``stemseg.data`` loads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemseg.structures.rle import check_rle_size
from stemseg.utils.errors import DataError, located
from stemseg.utils.files import replacing


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
        check_masks: also verify that every RLE covers its image (reads every mask; a second per 10,000 masks).

    Raises:
        DataError: naming file, sequence and frame of what is missing or inconsistent.
    """
    path = Path(path)
    content = _read_json(path)
    labels = {
        int(k): str(v)
        for k, v in read_key(read_key(content, "meta", str(path)), "category_labels", f"{path}: meta").items()
    }
    if "sequences" in content:
        sequences = [_parse_sequence(entry, i, path, check_masks) for i, entry in enumerate(content["sequences"])]
        return VideoAnnotations(path, labels, sequences)
    if "images" in content:
        images = [_parse_image(entry, i, path, check_masks) for i, entry in enumerate(content["images"])]
        return StillAnnotations(path, labels, images)
    raise DataError(f"{path}: found the keys {', '.join(content)}, expected 'sequences' (videos) or 'images' (stills)")


def load_video_annotations(path: str | Path, *, check_masks: bool = False) -> VideoAnnotations:
    """:func:`load_annotations` for a file that must hold videos."""
    annotations = load_annotations(path, check_masks=check_masks)
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


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"annotation file {path} does not exist; stemseg-prepare makes it from the official download"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"annotation file {path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"annotation file {path}: found a {type(content).__name__}, expected an object with 'meta'")
    return content


def read_key(entry: Any, key: str, where: str) -> Any:
    """The value of a key in an entry of a JSON file.

    Raises:
        DataError: with ``where``, in which file and entry, and the keys that are there, where it is missing.
    """
    if not isinstance(entry, Mapping) or key not in entry:
        found = ", ".join(entry) if isinstance(entry, Mapping) else f"a {type(entry).__name__}"
        raise DataError(f"{where}: key '{key}' is missing; found {found}")
    return entry[key]


def _parse_sequence(entry: Mapping[str, Any], index: int, path: Path, check_masks: bool) -> VideoSequence:
    where = f"{path}: sequence '{entry.get('id', f'number {index}')}'"
    base = {key: read_key(entry, key, where) for key in ("id", "height", "width", "image_paths")}
    if not base["image_paths"]:
        raise DataError(f"{where} has no frames; remove it from the file or list its image_paths")
    if entry.get("segmentations") is None:
        return VideoSequence(**base)
    categories = {int(k): int(v) for k, v in read_key(entry, "categories", where).items()}
    segmentations = [{int(k): v for k, v in frame.items()} for frame in entry["segmentations"]]
    if len(segmentations) != len(base["image_paths"]):
        raise DataError(
            f"{where} has {len(base['image_paths'])} image_paths and {len(segmentations)} segmentations, "
            "expected one each"
        )
    for t, frame in enumerate(segmentations):
        _check_frame(frame, categories, base, f"{where}, frame {t} ({base['image_paths'][t]})", check_masks)
    return VideoSequence(**base, categories=categories, segmentations=segmentations)


def _check_frame(
    frame: Mapping[int, str], categories: Mapping[int, int], base: Mapping[str, Any], where: str, check_masks: bool
) -> None:
    for instance_id, counts in frame.items():
        if instance_id not in categories:
            raise DataError(
                f"{where}: instance {instance_id} has a mask but no category; add it to the sequence's 'categories' "
                f"(found instances {sorted(categories)})"
            )
        if check_masks:
            _check_mask(counts, base, f"{where}, instance {instance_id}")


def _parse_image(entry: Mapping[str, Any], index: int, path: Path, check_masks: bool) -> StillImage:
    where = f"{path}: image '{entry.get('image_path', f'number {index}')}'"
    base = {
        key: read_key(entry, key, where) for key in ("height", "width", "image_path", "categories", "segmentations")
    }
    if len(base["categories"]) != len(base["segmentations"]):
        raise DataError(
            f"{where} has {len(base['categories'])} categories and {len(base['segmentations'])} segmentations, "
            "expected one each"
        )
    ignore = entry.get("ignore")
    if check_masks:
        for i, counts in enumerate(base["segmentations"]):
            _check_mask(counts, base, f"{where}, instance {i}")
        if ignore:
            _check_mask(ignore, base, f"{where}, ignore region")
    return StillImage(**base, ignore=ignore)


def _check_mask(counts: str, base: Mapping[str, Any], where: str) -> None:
    with located(where):
        check_rle_size(counts, base["height"], base["width"])
