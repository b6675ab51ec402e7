"""From a configuration to its training set."""

from __future__ import annotations

from collections.abc import Mapping

from stemseg.config import Config
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter
from stemseg.data.catalog import OpenedStills, OpenedVideos, open_training_set
from stemseg.data.categories import CategorySpace, build_category_space
from stemseg.data.clip_dataset import ClipDataset, ClipSource
from stemseg.data.mixing import MixSchedule
from stemseg.data.preprocessing import build_preprocessor
from stemseg.data.sampling import FrameGap, frames_with_instances, split_at_empty_stretches
from stemseg.data.still_clips import StillClips
from stemseg.data.video_clips import VideoChanges, VideoClips

_STILL_RANGES = {
    "coco": AugmentationRange(perspective=0.08, translation=0.1, rotation=12),
    "mapillary": AugmentationRange(perspective=0.08, translation=0.1, rotation=10, blur_probability=0.0),
}
_OTHER_STILL_RANGE = AugmentationRange(perspective=0.08, translation=0.1, rotation=10)
_VIDEO_RANGE = AugmentationRange(perspective=0.02, translation=0.02, rotation=2, brightness=20, blur_kernels=(5, 7))
_CONFIG_SECTIONS = {"youtube_vis_2021": "YOUTUBE_VIS"}  # of the video datasets that share another one's


def build_training_dataset(cfg: Config) -> ClipDataset:
    """The training set of a configuration: MAX_ITERATIONS * BATCH_SIZE clips, mixed as DATA.MIX says.

    Raises:
        ConfigError: where categories and configuration disagree.
        DataError: naming what is missing or damaged.
    """
    weights = {name: weight for name, weight in cfg.DATA.MIX.items() if weight > 0}
    opened = {name: open_training_set(name, cfg) for name in weights}
    custom_labels = opened["custom"].annotations.category_labels if "custom" in opened else None
    space = build_category_space(cfg, custom_labels)
    sources = [_build_source(name, data, space, cfg) for name, data in opened.items()]
    total = cfg.TRAINING.MAX_ITERATIONS * cfg.TRAINING.BATCH_SIZE
    schedule = MixSchedule([len(source) for source in sources], list(weights.values()), total, cfg.TRAINING.SEED)
    return ClipDataset(sources=sources, schedule=schedule, preprocessor=build_preprocessor(cfg), seed=cfg.TRAINING.SEED)


def training_category_names(cfg: Config) -> Mapping[int, str]:
    """Name of each training category id, for pictures and result files; reads DATA.CUSTOM's file where it decides."""
    needs_custom = cfg.TRAINING.MODE == "custom" and cfg.INPUT.NUM_CLASSES > 2
    labels = open_training_set("custom", cfg).annotations.category_labels if needs_custom else None
    return build_category_space(cfg, labels).names


def _build_source(name: str, data: OpenedVideos | OpenedStills, space: CategorySpace, cfg: Config) -> ClipSource:
    rule = space.rule(name, data.annotations.category_labels, data.annotations.source)
    if isinstance(data, OpenedStills):
        augmenter = FrameAugmenter(_STILL_RANGES.get(name, _OTHER_STILL_RANGE))
        return StillClips(name=name, stills=data, rule=rule, num_frames=cfg.INPUT.NUM_FRAMES, augmenter=augmenter)
    section = cfg.DATA[_CONFIG_SECTIONS.get(name, name.upper())]
    return VideoClips(
        name=name,
        videos=data,
        rule=rule,
        num_frames=cfg.INPUT.NUM_FRAMES,
        gap=FrameGap(section.FRAME_GAP_LOWER, section.FRAME_GAP_UPPER),
        split=split_at_empty_stretches if name == "kitti_mots" else frames_with_instances,
        changes=VideoChanges(
            horizontal_flip=section.HORIZONTAL_FLIP,
            time_reversal=section.TIME_REVERSAL,
            single_instance_duplication=section.SINGLE_INSTANCE_DUPLICATION,
            ignore_background=section.IGNORE_BACKGROUND,
            augmenter=FrameAugmenter(_VIDEO_RANGE) if section.AUGMENT else None,
        ),
    )
