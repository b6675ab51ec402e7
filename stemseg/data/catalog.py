"""Every dataset by name: its annotation file, its images, the environment variable that says where they lie.

The one place to add a dataset of one's own for good; for a single run ``DATA.CUSTOM`` needs no code.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stemseg.config import Config
from stemseg.structures.annotations import (
    StillAnnotations,
    VideoAnnotations,
    load_annotations,
    load_still_annotations,
    load_video_annotations,
)
from stemseg.utils.errors import ConfigError, DataError

ANNOTATIONS_VARIABLE = "STEMSEG_JSON_ANNOTATIONS_DIR"


class OpenedVideos(NamedTuple):
    """A video dataset: its annotations and the folder that its image paths are relative to."""

    annotations: VideoAnnotations
    image_dir: Path


class OpenedStills(NamedTuple):
    """A still image dataset: its annotations and the folder that its image paths are relative to."""

    annotations: StillAnnotations
    image_dir: Path


@dataclass(frozen=True)
class DatasetEntry:
    """Where a dataset lies.

    Attributes:
        json_stem: annotation files are ``<json_stem>_<split>.json`` for videos, ``<json_stem>.json`` for stills.
        variable: environment variable of the base folder of its images.
        is_video: whether it holds videos; else stills.
        image_dirs: folders below the base that may hold the images, for each split; "" is the base itself, and the
            splits not named use those of "train".
    """

    json_stem: str
    variable: str
    is_video: bool
    image_dirs: dict[str, tuple[str, ...]] = field(default_factory=dict)


_TRAIN_DIRS = ("train", "train/JPEGImages", "")
_VALID_DIRS = ("valid", "val", "valid/JPEGImages", "val/JPEGImages", "")
_TEST_DIRS = ("test", "test/JPEGImages", "")
_SPLIT_DIRS = {"train": _TRAIN_DIRS, "val": _VALID_DIRS, "test": _TEST_DIRS}

CATALOG: dict[str, DatasetEntry] = {
    "davis": DatasetEntry("davis", "DAVIS_BASE_DIR", True, {"train": ("JPEGImages/480p", "")}),
    "youtube_vis": DatasetEntry("youtube_vis", "YOUTUBE_VIS_BASE_DIR", True, _SPLIT_DIRS),
    "youtube_vis_2021": DatasetEntry("youtube_vis_2021", "YOUTUBE_VIS_2021_BASE_DIR", True, _SPLIT_DIRS),
    "ovis": DatasetEntry("ovis", "OVIS_BASE_DIR", True, _SPLIT_DIRS),
    "kitti_mots": DatasetEntry(
        "kittimots",
        "KITTIMOTS_BASE_DIR",
        True,
        {"train": ("", "training/image_02", "train/images", "train/image_02", "images")},
    ),
    "coco": DatasetEntry("coco", "COCO_TRAIN_IMAGES_DIR", False),
    "pascal_voc": DatasetEntry("pascal_voc", "PASCAL_VOC_IMAGES_DIR", False),
    "mapillary": DatasetEntry("mapillary", "MAPILLARY_IMAGES_DIR", False),
}


def open_videos(name: str, split: str, cfg: Config) -> OpenedVideos:
    """Read a video dataset's annotations and find its images.

    Args:
        name: a video dataset of :data:`CATALOG`, or "custom" for the paths under ``DATA.CUSTOM``.
        split: "train", "val", or any other for which an annotation file ``<stem>_<split>.json`` exists.

    Raises:
        ConfigError: where the name is none of a video dataset, or DATA.CUSTOM lacks a path.
        DataError: naming the environment variable, file or folder that is missing.
    """
    if name == "custom":
        json_path, image_dir = _custom_paths(split, cfg)
        return OpenedVideos(load_video_annotations(json_path), image_dir)
    entry = _entry(name)
    if not entry.is_video:
        raise ConfigError(f"dataset '{name}' holds still images, expected one of videos: {_names(videos=True)}")
    annotations = load_video_annotations(annotations_dir() / f"{entry.json_stem}_{split}.json")
    first = annotations.sequences[0].image_paths[0] if annotations.sequences else ""
    return OpenedVideos(annotations, _find_image_dir(entry, split, first))


def open_stills(name: str, cfg: Config) -> OpenedStills:
    """Read a still image dataset's annotations and find its images; raises as :func:`open_videos` does."""
    if name == "custom":
        json_path, image_dir = _custom_paths("train", cfg)
        return OpenedStills(load_still_annotations(json_path), image_dir)
    entry = _entry(name)
    if entry.is_video:
        raise ConfigError(f"dataset '{name}' holds videos, expected one of stills: {_names(videos=False)}")
    annotations = load_still_annotations(annotations_dir() / f"{entry.json_stem}.json")
    first = annotations.images[0].image_path if annotations.images else ""
    return OpenedStills(annotations, _find_image_dir(entry, "train", first))


def open_training_set(name: str, cfg: Config) -> OpenedVideos | OpenedStills:
    """The training data of any dataset; "custom" is videos or stills, whichever its annotation file holds."""
    if name == "custom":
        json_path, image_dir = _custom_paths("train", cfg)
        annotations = load_annotations(json_path)
        opened = OpenedVideos if isinstance(annotations, VideoAnnotations) else OpenedStills
        return opened(annotations, image_dir)
    return open_videos(name, "train", cfg) if _entry(name).is_video else open_stills(name, cfg)


def annotations_dir() -> Path:
    """The folder of the standard JSON files, from ``$STEMSEG_JSON_ANNOTATIONS_DIR``."""
    return directory_from(
        ANNOTATIONS_VARIABLE, "the folder of the annotation files that scripts/prepare_dataset.py writes"
    )


def directory_from(variable: str, meaning: str) -> Path:
    """The existing folder that an environment variable names.

    Raises:
        DataError: where the variable is not set, or no folder of that name exists.
    """
    value = os.environ.get(variable)
    if not value:
        raise DataError(
            f"environment variable {variable} is not set; let it name {meaning}: export {variable}=/path/to/it"
        )
    path = Path(value).expanduser()
    if not path.is_dir():
        raise DataError(f"environment variable {variable} is '{value}', which is not a folder; expected {meaning}")
    return path


def expand_path(text: str, where: str) -> Path:
    """A path with ``$VARIABLES`` and ``~`` replaced.

    Raises:
        DataError: naming a variable that is not set.
    """
    for variable in re.findall(r"\$\{?(\w+)\}?", text):
        if variable not in os.environ:
            raise DataError(
                f"{where} is '{text}', but environment variable {variable} is not set: export {variable}=..."
            )
    return Path(os.path.expandvars(text)).expanduser()


def _entry(name: str) -> DatasetEntry:
    if name not in CATALOG:
        raise ConfigError(f"unknown dataset '{name}'; known: {', '.join(CATALOG)}, custom")
    return CATALOG[name]


def _names(*, videos: bool) -> str:
    return ", ".join([name for name, entry in CATALOG.items() if entry.is_video == videos] + ["custom"])


def _find_image_dir(entry: DatasetEntry, split: str, first_image: str) -> Path:
    """The first of the dataset's possible folders that holds the first image."""
    base = directory_from(entry.variable, f"the base folder of the images of '{entry.json_stem}'")
    subfolders = entry.image_dirs.get(split) or entry.image_dirs.get("train") or ("",)
    candidates = [base / subfolder for subfolder in subfolders]
    for candidate in candidates:
        if (candidate / first_image).exists():
            return candidate
    tried = ", ".join(str(candidate / first_image) for candidate in candidates)
    raise DataError(
        f"{entry.variable} is '{base}', but the first image of the annotations is not there. Looked for: {tried}. "
        "Let the variable name the folder described in README.md, or extract the images"
    )


def _custom_paths(split: str, cfg: Config) -> tuple[Path, Path]:
    keys = {"train": ("TRAIN_JSON", "TRAIN_IMAGES"), "val": ("VAL_JSON", "VAL_IMAGES")}
    if split not in keys:
        raise ConfigError(f"dataset 'custom' has the splits train and val, not '{split}'")
    paths = []
    for key in keys[split]:
        text = cfg.DATA.CUSTOM[key]
        if text is None:
            kind = "annotation file" if key.endswith("JSON") else "image folder"
            raise ConfigError(
                f"'DATA.CUSTOM.{key}' is null; name the {kind} of your dataset "
                f"in the configuration, or as an override DATA.CUSTOM.{key}=/path"
            )
        paths.append(expand_path(text, f"'DATA.CUSTOM.{key}'"))
    json_path, image_dir = paths
    if not image_dir.is_dir():
        raise DataError(f"'DATA.CUSTOM.{keys[split][1]}' is '{image_dir}', which is not a folder")
    return json_path, image_dir
