"""The videos of a run of inference, a dataset's sequences or a user's own, and the formats of its results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from stemseg.config import Config
from stemseg.data.categories import ResultClass, all_synonyms, load_category_space, match_classes
from stemseg.data.sources import open_training_set, open_videos
from stemseg.datasets import CUSTOM, find_dataset
from stemseg.inference.frame_sources import FrameSource, open_sequence
from stemseg.inference.own_videos import open_own_videos
from stemseg.inference.result_folder import ResultWriter
from stemseg.inference.writers.coco import CocoWriter
from stemseg.inference.writers.davis import MAX_TRACKS, DavisWriter
from stemseg.inference.writers.kitti_mots import KittiMotsWriter, TrackFilter
from stemseg.inference.writers.youtube_vis import YouTubeVisWriter
from stemseg.structures.frame_range import FrameRange
from stemseg.utils.errors import ConfigError, StemsegError
from stemseg.utils.files import user_path
from stemseg.utils.text import shorten_list

_logger = logging.getLogger("stemseg.inference")
_SHOWN_NAMES = 20
OWN_VIDEO_FORMATS = ("davis", "youtube_vis")


@dataclass(frozen=True)
class InputVideos:
    """The videos of a run.

    Attributes:
        sources: one for each video.
        category_names: name of each category id that results may have; empty for a class-agnostic model.
        origin: where they come from, as it stands in the run's settings.
        is_annotated: whether ``origin`` is an annotation file that has ground truth for all of them.
        classes: id in the results of each class of the model; None: the same.
        unknown_classes: the dataset's that the model does not know, by name: no result can have them.
        left_out: how many files beside the videos were left out, by input and reason.
    """

    sources: Sequence[FrameSource]
    category_names: dict[int, str]
    origin: str
    is_annotated: bool = False
    classes: Mapping[int, ResultClass] | None = None
    unknown_classes: Sequence[str] = ()
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def open_dataset(
    name: str, split: str, cfg: Config, wanted: Sequence[str] = (), model_names: Mapping[int, str] | None = None
) -> InputVideos:
    """The sequences of a dataset, all or those whose ids are ``wanted``.

    Args:
        model_names: of the model's classes, by id, as its checkpoint gives them; where it gives none they come from the
            configuration.

    Raises:
        ConfigError: where a wanted sequence does not exist, or the model's classes are others than the dataset's.
        DataError: where the dataset is not there.
    """
    annotations, image_dir = open_videos(name, split, cfg)
    sequences = annotations.sequences
    if wanted:
        ids = {str(sequence.id) for sequence in sequences}
        missing = [sequence_id for sequence_id in wanted if sequence_id not in ids]
        if missing:
            known = shorten_list(sorted(ids), _SHOWN_NAMES)
            raise ConfigError(f"--seqs: {annotations.source} has no sequence {', '.join(missing)}; it has {known}")
        sequences = [sequence for sequence in sequences if str(sequence.id) in wanted]
    sources = [open_sequence(sequence, image_dir) for sequence in sequences]
    is_annotated = all(sequence.is_annotated for sequence in sequences)
    origin = str(annotations.source.resolve())
    if cfg.INPUT.NUM_CLASSES == 2:
        return InputVideos(sources, {}, origin, is_annotated)
    labels = dict(annotations.category_labels)
    classes = match_model_classes(dict(model_names or {}) or trained_names(cfg), labels, cfg, origin)
    matched = set(labels) if classes is None else {c.result_id for c in classes.values()}
    unknown = [label for i, label in labels.items() if i not in matched]
    return InputVideos(sources, labels or dict(model_names or {}), origin, is_annotated, classes, unknown)


def match_model_classes(
    names: Mapping[int, str], labels: Mapping[int, str], cfg: Config, where: str
) -> dict[int, ResultClass] | None:
    """The ids of a dataset for a model's classes; None where one of the two has no names, and ids are all there is.

    Raises:
        ConfigError: where they have no name in common, or there are no names and not as many classes.
    """
    num_classes = cfg.INPUT.NUM_CLASSES - 1
    if names and labels:
        classes = match_classes(names, labels, all_synonyms(), where)
        lacking = [c.name for c in classes.values() if c.result_id is None]
        if lacking:
            _logger.warning(
                "%s lacks classes of the model, whose tracks are left out: %s", where, shorten_list(lacking)
            )
        return classes
    if labels and len(labels) != num_classes:
        raise ConfigError(
            f"the model has {num_classes} classes without names, but {where} has {len(labels)}: "
            f"{shorten_list(labels.values(), _SHOWN_NAMES)}. Give the configuration that the model was trained with "
            "(--cfg), whose dataset names them"
        )
    _logger.warning(
        "%s has no class names, so the results have the model's own ids", where if names else "the model's checkpoint"
    )
    return None


def open_inputs(
    patterns: Sequence[str | Path], cfg: Config, category_names: Mapping[int, str], frames: FrameRange
) -> InputVideos:
    """A user's own videos, or parts of them; see :func:`stemseg.inference.own_videos.open_own_videos`.

    Args:
        category_names: that the checkpoint knows; where it knows none they come from the configuration.
    """
    origin = "; ".join(str(user_path(pattern).resolve()) for pattern in patterns)
    origin += "" if frames.is_whole else f", frames {frames}"
    names = dict(category_names) or configured_names(cfg)
    left_out: dict[str, Counter[str]] = {}
    sources = open_own_videos(patterns, frames, left_out)
    return InputVideos(sources, {} if cfg.INPUT.NUM_CLASSES == 2 else names, origin, left_out=left_out)


def configured_names(cfg: Config) -> dict[int, str]:
    """Name of each category of a configuration's training; empty where nothing at hand tells them."""
    if cfg.INPUT.NUM_CLASSES == 2:
        return {}
    names = trained_names(cfg)
    with suppress(StemsegError):  # the dataset need not be where the model is used
        names = names or dict(open_videos(CUSTOM, "val", cfg).annotations.category_labels)
    return names


def trained_names(cfg: Config) -> dict[int, str]:
    """Name of each category that a configuration trains; empty where the dataset that tells them is not at hand."""
    if cfg.TRAINING.MODE != CUSTOM:
        return dict(load_category_space(cfg.TRAINING.MODE).names)
    with suppress(StemsegError):
        return dict(open_training_set(CUSTOM, cfg).annotations.category_labels)
    return {}


def data_section(dataset: str | None, cfg: Config) -> str:
    """The section of DATA that holds the rules for a dataset, or for a user's own video (None)."""
    return find_dataset(cfg.TRAINING.MODE if dataset is None else dataset).section


def build_exporters(exports: Sequence[str], videos: InputVideos, output_dir: Path) -> list[ResultWriter]:
    """A writer for each format of :data:`stemseg.inference.writers.EXPORTS` that is asked for."""
    sources = {source.sequence_id: source for source in videos.sources}
    makers = {
        "coco": lambda: CocoWriter(output_dir, videos.category_names, lambda i, name: sources[i].file_name(name)),
    }
    unknown = [name for name in exports if name not in makers]
    if unknown:
        raise ConfigError(
            f"there is no export {shorten_list(unknown)}, expected some of {', '.join(makers)}, in a list"
        )
    return [makers[name]() for name in exports]


def build_writers(cfg: Config, dataset: str | None, output_dir: Path) -> list[ResultWriter]:
    """A writer for each format of a dataset's results, or of a user's own videos (None).

    Raises:
        ConfigError: where a format can't hold as many tracks as the configuration keeps.
    """
    formats = OWN_VIDEO_FORMATS if dataset is None else find_dataset(dataset).formats
    section = data_section(dataset, cfg)
    if "davis" in formats and cfg.DATA[section].MAX_INFERENCE_TRACKS > MAX_TRACKS:
        raise ConfigError(
            f"'DATA.{section}.MAX_INFERENCE_TRACKS' is {cfg.DATA[section].MAX_INFERENCE_TRACKS}, but the palette PNGs "
            f"of these results hold at most {MAX_TRACKS} tracks; give --max_tracks {MAX_TRACKS}"
        )
    makers: dict[str, Callable[[], ResultWriter]] = {
        "davis": lambda: DavisWriter(output_dir),
        "youtube_vis": lambda: YouTubeVisWriter(output_dir),
        "kitti_mots": lambda: KittiMotsWriter(output_dir, build_track_filters(cfg)),
    }
    return [makers[name]() for name in formats]


def build_track_filters(cfg: Config) -> dict[int, TrackFilter]:
    """The filters of KITTI-MOTS results by class: car 1, pedestrian 2; none where they are switched off."""
    rules = cfg.DATA.KITTI_MOTS
    if not rules.FILTER_RESULTS:
        return {}
    values = (
        rules.FILTER_MIN_AREA, rules.FILTER_MIN_BOX_FILL, rules.FILTER_MIN_TRACK_LENGTH, rules.FILTER_MAX_GAP_RATIO,
    )  # fmt: skip
    return {
        category: TrackFilter(min_area=area, min_box_fill=fill, min_length=length, max_gap_ratio=gap)
        for category, (area, fill, length, gap) in enumerate(zip(*values, strict=True), start=1)
    }
