"""The registry of datasets: one entry says everything that the package knows about a dataset by name.

Wherever a dataset is named (``DATA.MIX``, ``TRAINING.MODE``, ``--dataset``, ``stemseg-prepare``) its id or one of its
aliases is understood, without regard to case and with "-" as "_". A dataset of your own takes an entry in
:data:`DATASETS`, a map in ``data/category_maps/`` and a converter in ``data/prepare/``; for a single run
``DATA.CUSTOM`` needs no code. Plain data: nothing is read or imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stemseg.utils.errors import ConfigError
from stemseg.utils.text import shown

ANNOTATIONS_VARIABLE = "STEMSEG_JSON_ANNOTATIONS_DIR"
CUSTOM = "custom"
COPY_PASTE = "copy_paste"  # in DATA.MIX, beside the datasets: clips made of their scenes and objects


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """Everything about one dataset.

    Attributes:
        name: its id, as configurations, folders and files have it.
        title: its name in texts for people.
        aliases: other published spellings of the id.
        kind: what it holds; where it may be both, its annotation file decides.
        json_stem: annotation files are ``<json_stem>_<split>.json`` for videos, ``<json_stem>.json`` for stills; empty
            for "custom", whose files DATA.CUSTOM names.
        variable: environment variable of the base folder of its images; empty for "custom".
        image_dirs: folders below the base that may hold the images, for each split; "" is the base itself, and the
            splits not named use those of "train".
        converter: module that turns the official download into annotation files, a data.prepare.plan.Converter; None
            where there is none.
        section: its section of DATA; empty for stills, as are all fields below but ``augmentation``.
        config: configuration of a checkpoint that has no config.yaml beside it; None where there is no published one.
        category_map: name of the file in data/category_maps/ that holds its categories as a TRAINING.MODE; None for
            "custom", whose annotation file holds them.
        formats: formats that results are written in, and measured in by inference's ``--evaluate``.
        evaluator: official measures that its results are judged by, a key of evaluation.evaluate.EVALUATORS.
        best_measure: figure of that evaluator that the best checkpoint is chosen by.
        split_at_empty_stretches: no training clip spans a long stretch of frames without instances.
        augmentation: values of data.augmentation.AugmentationRange that differ from those of all stills or videos.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    kind: Literal["videos", "stills", "videos or stills"] = "videos"
    json_stem: str = ""
    variable: str = ""
    image_dirs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    converter: str | None = None
    section: str = ""
    config: str | None = None
    category_map: str | None = None
    formats: tuple[str, ...] = ()
    evaluator: str = ""
    best_measure: str = "AP"
    split_at_empty_stretches: bool = False
    augmentation: Mapping[str, Any] = field(default_factory=dict)


_SPLIT_DIRS = {
    "train": ("train", "train/JPEGImages", ""),
    "val": ("valid", "val", "valid/JPEGImages", "val/JPEGImages", ""),
    "test": ("test", "test/JPEGImages", ""),
}

_ENTRIES = (
    DatasetEntry(
        name="davis",
        title="DAVIS 2017 unsupervised",
        aliases=("davis17", "davis_2017"),
        json_stem="davis",
        variable="DAVIS_BASE_DIR",
        image_dirs={"train": ("JPEGImages/480p", "")},
        converter="stemseg.data.prepare.davis",
        section="DAVIS",
        config="davis_2",
        category_map="davis",
        formats=("davis",),
        evaluator="davis",
        best_measure="J&F-Mean",
    ),
    DatasetEntry(
        name="youtube_vis",
        title="YouTube-VIS 2019",
        aliases=("ytvis", "ytvis19", "youtubevis", "youtube_vis_2019"),
        json_stem="youtube_vis",
        variable="YOUTUBE_VIS_BASE_DIR",
        image_dirs=_SPLIT_DIRS,
        converter="stemseg.data.prepare.youtube_vis",
        section="YOUTUBE_VIS",
        config="youtube_vis",
        category_map="youtube_vis",
        formats=("youtube_vis",),
        evaluator="youtube_vis",
    ),
    DatasetEntry(
        name="youtube_vis_2021",
        title="YouTube-VIS 2021",
        aliases=("ytvis21", "ytvis_2021"),
        json_stem="youtube_vis_2021",
        variable="YOUTUBE_VIS_2021_BASE_DIR",
        image_dirs=_SPLIT_DIRS,
        converter="stemseg.data.prepare.youtube_vis",
        section="YOUTUBE_VIS",
        config="youtube_vis",
        category_map="youtube_vis_2021",
        formats=("youtube_vis",),
        evaluator="youtube_vis",
    ),
    DatasetEntry(
        name="ovis",
        title="OVIS",
        json_stem="ovis",
        variable="OVIS_BASE_DIR",
        image_dirs=_SPLIT_DIRS,
        converter="stemseg.data.prepare.youtube_vis",
        section="OVIS",
        config="ovis_hevis",
        category_map="ovis",
        formats=("youtube_vis",),
        evaluator="youtube_vis",
    ),
    DatasetEntry(
        name="kitti_mots",
        title="KITTI-MOTS, with MOTSChallenge 0002 as 0050",
        aliases=("kittimots",),
        json_stem="kittimots",
        variable="KITTIMOTS_BASE_DIR",
        image_dirs={"train": ("", "training/image_02", "train/images", "train/image_02", "images")},
        converter="stemseg.data.prepare.kitti_mots",
        section="KITTI_MOTS",
        config="kitti_mots_2",
        category_map="kitti_mots",
        formats=("kitti_mots",),
        evaluator="kitti_mots",
        best_measure="mean sMOTSA",
        split_at_empty_stretches=True,
    ),
    DatasetEntry(
        name="coco",
        title="COCO 2017 instances",
        kind="stills",
        json_stem="coco",
        variable="COCO_TRAIN_IMAGES_DIR",
        converter="stemseg.data.prepare.coco",
        augmentation={"rotation": 12},
    ),
    DatasetEntry(
        name="pascal_voc",
        title="PascalVOC 2012 segmentation",
        aliases=("pascalvoc",),
        kind="stills",
        json_stem="pascal_voc",
        variable="PASCAL_VOC_IMAGES_DIR",
        converter="stemseg.data.prepare.pascal_voc",
    ),
    DatasetEntry(
        name="mapillary",
        title="Mapillary Vistas, with smaller copies of its images",
        kind="stills",
        json_stem="mapillary",
        variable="MAPILLARY_IMAGES_DIR",
        converter="stemseg.data.prepare.mapillary",
        augmentation={"blur_probability": 0.0},
    ),
    DatasetEntry(
        name=CUSTOM,
        title="a dataset of your own, at the paths of DATA.CUSTOM",
        kind="videos or stills",
        section="CUSTOM",
        formats=("davis", "youtube_vis"),
        evaluator="youtube_vis",
    ),
)
DATASETS: dict[str, DatasetEntry] = {entry.name: entry for entry in _ENTRIES}


def find_dataset(name: str, among: Iterable[str] | None = None) -> DatasetEntry:
    """The entry that an id or an alias means.

    Args:
        among: ids that are possible where the name stands; None: all.

    Raises:
        ConfigError: where it means none of them; lists their spellings.
    """
    possible = [DATASETS[known] for known in (DATASETS if among is None else among)]
    spelling = name.lower().replace("-", "_")
    for entry in possible:
        if spelling in (entry.name, *entry.aliases):
            return entry
    known = [entry for entry in DATASETS.values() if spelling in (entry.name, *entry.aliases)]
    problem = (
        f"{shown(name)} ({known[0].title}, {known[0].kind}) is not possible here"
        if known
        else f"{shown(name)} is unknown"
    )
    raise ConfigError(f"dataset {problem}; expected one of {', '.join(map(spellings, possible))}")


def video_datasets() -> tuple[str, ...]:
    """Ids of the datasets of videos: those that can be a TRAINING.MODE, be segmented and be evaluated."""
    return tuple(name for name, entry in DATASETS.items() if entry.kind != "stills")


def still_datasets() -> tuple[str, ...]:
    """Ids of the datasets of still images, which are trained on beside videos."""
    return tuple(name for name, entry in DATASETS.items() if entry.kind != "videos")


def convertible_datasets() -> tuple[str, ...]:
    """Ids of the datasets that have a converter of their official download."""
    return tuple(name for name, entry in DATASETS.items() if entry.converter is not None)


def spellings(entry: DatasetEntry) -> str:
    """The id, and its aliases in brackets, for help texts and messages."""
    return f"{entry.name} ({', '.join(entry.aliases)})" if entry.aliases else entry.name
