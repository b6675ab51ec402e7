"""Opens datasets by name: finds the annotation file and the images where the registry says that they lie."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from stemseg.config import Config
from stemseg.datasets import ANNOTATIONS_VARIABLE, CUSTOM, DatasetEntry, find_dataset, still_datasets, video_datasets
from stemseg.structures.annotations import (
    StillAnnotations,
    VideoAnnotations,
    load_annotations,
    load_still_annotations,
    load_video_annotations,
)
from stemseg.utils.errors import ConfigError, DataError
from stemseg.utils.files import user_path


class OpenedVideos(NamedTuple):
    """A video dataset: its annotations and the folder that its image paths are relative to."""

    annotations: VideoAnnotations
    image_dir: Path


class OpenedStills(NamedTuple):
    """A still image dataset: its annotations and the folder that its image paths are relative to."""

    annotations: StillAnnotations
    image_dir: Path


def open_videos(name: str, split: str, cfg: Config) -> OpenedVideos:
    """Read a video dataset's annotations and find its images.

    Args:
        name: a video dataset of the registry; "custom" stands for the paths under ``DATA.CUSTOM``.
        split: "train", "val", or any other for which an annotation file ``<stem>_<split>.json`` exists.

    Raises:
        ConfigError: where the name is none of a video dataset, or DATA.CUSTOM lacks a path.
        DataError: naming the environment variable, file or folder that is missing.
    """
    entry = find_dataset(name, video_datasets())
    if entry.name == CUSTOM:
        json_path, image_dir = _custom_paths(split, cfg)
        return OpenedVideos(load_video_annotations(json_path), image_dir)
    annotations = load_video_annotations(annotations_dir() / f"{entry.json_stem}_{split}.json")
    first = annotations.sequences[0].image_paths[0] if annotations.sequences else ""
    return OpenedVideos(annotations, _find_image_dir(entry, split, first))


def open_stills(name: str, cfg: Config) -> OpenedStills:
    """Read a still image dataset's annotations and find its images; raises as :func:`open_videos` does."""
    entry = find_dataset(name, still_datasets())
    if entry.name == CUSTOM:
        json_path, image_dir = _custom_paths("train", cfg)
        return OpenedStills(load_still_annotations(json_path), image_dir)
    annotations = load_still_annotations(annotations_dir() / f"{entry.json_stem}.json")
    first = annotations.images[0].image_path if annotations.images else ""
    return OpenedStills(annotations, _find_image_dir(entry, "train", first))


def open_training_set(name: str, cfg: Config) -> OpenedVideos | OpenedStills:
    """The training data of any dataset; "custom" is videos or stills, whichever its annotation file holds."""
    entry = find_dataset(name)
    if entry.name == CUSTOM:
        json_path, image_dir = _custom_paths("train", cfg)
        annotations = load_annotations(json_path)
        if isinstance(annotations, VideoAnnotations):
            return OpenedVideos(annotations, image_dir)
        return OpenedStills(annotations, image_dir)
    return open_videos(name, "train", cfg) if entry.kind == "videos" else open_stills(name, cfg)


def annotations_dir() -> Path:
    """The folder of the standard JSON files, from ``$STEMSEG_JSON_ANNOTATIONS_DIR``."""
    return directory_from(ANNOTATIONS_VARIABLE, "the folder of the annotation files that stemseg-prepare writes")


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
    path = user_path(value)
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
    return user_path(os.path.expandvars(text))


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
        "Let the variable name the folder that stemseg-prepare tells in the end, or extract the images"
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
