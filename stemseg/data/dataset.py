"""The training set that the data loader reads: its sources, and the mix of them that makes a run (method.md §10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from torch.utils.data import Dataset

from stemseg.config import Config
from stemseg.data.annotated_frame import AnnotatedClip, ClipSource
from stemseg.data.augmentation import AugmentationRange, FrameAugmenter
from stemseg.data.categories import CategorySpace, build_category_space
from stemseg.data.copy_paste import CopyPasteClips, build_copy_paste
from stemseg.data.frame_sampling import FrameGap, frames_with_instances, split_at_empty_stretches
from stemseg.data.preprocessing import ImagePreprocessor, PackedClip, build_preprocessor, prepare_clip
from stemseg.data.sources import OpenedStills, OpenedVideos, open_training_set
from stemseg.data.still_clips import StillClips
from stemseg.data.video_clips import VideoChanges, VideoClips
from stemseg.datasets import COPY_PASTE, CUSTOM, find_dataset

_SAMPLE, _ORDER, _EPOCH = 0, 1, 2  # keep the generators of samples, of their order and of epochs apart


class ClipDataset(Dataset):
    """All samples of a training run, in order.

    Sample i is a pure function of the seed and i: a resumed run, and any number of workers, see the same clips.

    Args:
        sources: the datasets of the mix.
        schedule: which source each sample comes from.
        preprocessor: of the images.
        seed: of all random choices.
    """

    def __init__(
        self, *, sources: Sequence[ClipSource], schedule: MixSchedule, preprocessor: ImagePreprocessor, seed: int
    ) -> None:
        self.sources = list(sources)
        self._schedule = schedule
        self._preprocessor = preprocessor
        self._seed = seed

    def __len__(self) -> int:
        return len(self._schedule)

    def __getitem__(self, index: int) -> PackedClip:
        """Training sample ``index`` (0 to len - 1).

        Raises:
            IndexError: beyond the run.
            DataError: naming the file that is missing or damaged.
        """
        return prepare_clip(self.draw_raw(index), self._preprocessor)

    def draw_raw(self, index: int) -> AnnotatedClip:
        """Sample ``index`` before preprocessing."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a run of {len(self)}")
        source, position = self._schedule[index]
        return self.sources[source].draw(position, np.random.default_rng([self._seed, _SAMPLE, index]))


class MixSchedule:
    """The plan of a run: sample i is element ``position`` of dataset ``dataset``.

    Every dataset is drawn exactly in its share of the run (rounded by largest remainder), in an order shuffled by the
    seed. A dataset passes through all its elements in a new random order again and again, so that each can be drawn
    even if the run needs fewer than it has.

    Args:
        lengths: number of elements of each dataset.
        weights: share of each dataset; need not add up to 1.
        total: samples of the whole run.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], weights: Sequence[float], total: int, seed: int) -> None:
        self._lengths = tuple(lengths)
        self._seed = seed
        counts = share_out(total, weights)
        order = np.random.default_rng([seed, _ORDER])
        self._dataset = order.permutation(np.repeat(np.arange(len(counts), dtype=np.int16), counts))
        self._turn = np.empty(total, dtype=np.int64)  # the how-manieth sample of its dataset each sample is
        for dataset, count in enumerate(counts):
            self._turn[self._dataset == dataset] = np.arange(count)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(dataset, position) of sample ``index``."""
        dataset, turn = int(self._dataset[index]), int(self._turn[index])
        epoch, offset = divmod(turn, self._lengths[dataset])
        return dataset, int(_epoch_order(self._lengths[dataset], self._seed, dataset, epoch)[offset])


def share_out(total: int, weights: Sequence[float]) -> np.ndarray:
    """Split ``total`` into whole numbers in proportion to ``weights``; they add up to ``total`` exactly."""
    exact = total * np.asarray(weights, dtype=np.float64) / np.sum(weights)
    counts = np.floor(exact).astype(np.int64)
    largest_remainders = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest_remainders] += 1
    return counts


@lru_cache(maxsize=16)
def _epoch_order(length: int, seed: int, dataset: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, _EPOCH, dataset, epoch]).permutation(length)


# where the registry does not say otherwise
_STILL_RANGE = AugmentationRange(perspective=0.08, translation=0.1, rotation=10)
_VIDEO_RANGE = AugmentationRange(perspective=0.02, translation=0.02, rotation=2, brightness=20, blur_kernels=(5, 7))
_CALM_RANGE = AugmentationRange(
    perspective=0.02, translation=0.015, rotation=3, brightness=5, hue=0, saturation=0, blur_probability=0.0
)


TrainingSets = Mapping[str, OpenedVideos | OpenedStills]


def open_training_sets(cfg: Config) -> TrainingSets:
    """The datasets that a configuration trains on, by id.

    Raises:
        DataError: naming what is missing or damaged.
    """
    return {name: open_training_set(name, cfg) for name in _dataset_names(cfg)}


def build_training_dataset(cfg: Config, opened: TrainingSets | None = None) -> ClipDataset:
    """The training set of a configuration: :func:`total_iterations` * BATCH_SIZE clips, mixed as DATA.MIX says.

    Args:
        opened: what :func:`open_training_sets` gave; None opens it here.

    Raises:
        ConfigError: where categories and configuration disagree.
        DataError: naming what is missing or damaged.
    """
    weights = {name: weight for name, weight in cfg.DATA.MIX.items() if weight > 0}
    opened = open_training_sets(cfg) if opened is None else opened
    custom_labels = opened[CUSTOM].annotations.category_labels if CUSTOM in opened else None
    space = build_category_space(cfg, custom_labels)
    sources = [
        _build_copy_paste(opened, space, cfg) if name == COPY_PASTE else _build_source(name, opened[name], space, cfg)
        for name in weights
    ]
    total = total_iterations(cfg) * cfg.TRAINING.BATCH_SIZE
    schedule = MixSchedule([len(source) for source in sources], list(weights.values()), total, cfg.TRAINING.SEED)
    return ClipDataset(sources=sources, schedule=schedule, preprocessor=build_preprocessor(cfg), seed=cfg.TRAINING.SEED)


def total_iterations(cfg: Config) -> int:
    """Optimizer steps of a run: MAX_ITERATIONS, and before them the flow's own where GLOW_EPOCH_COUNTS is off."""
    training = cfg.TRAINING
    before = cfg.MODEL.USE_OFFSET_HEAD and not training.GLOW_EPOCH_COUNTS
    return training.MAX_ITERATIONS + (training.GLOW_EPOCH if before else 0)


def training_category_names(cfg: Config) -> Mapping[int, str]:
    """Name of each training category id, for pictures and result files; reads DATA.CUSTOM's file where it decides."""
    needs_custom = cfg.TRAINING.MODE == CUSTOM and cfg.INPUT.NUM_CLASSES > 2
    labels = open_training_set(CUSTOM, cfg).annotations.category_labels if needs_custom else None
    return build_category_space(cfg, labels).names


def _dataset_names(cfg: Config) -> list[str]:
    """The datasets that a run reads: those of DATA.MIX, and those that copy-paste takes its scenes and objects from."""
    names = [name for name, weight in cfg.DATA.MIX.items() if weight > 0]
    if COPY_PASTE in names:
        names += [name for name, weight in cfg.DATA.COPY_PASTE.SOURCES.items() if weight > 0]
    return [name for name in dict.fromkeys(names) if name != COPY_PASTE]


def _build_copy_paste(
    opened: Mapping[str, OpenedVideos | OpenedStills], space: CategorySpace, cfg: Config
) -> CopyPasteClips:
    names = [name for name, weight in cfg.DATA.COPY_PASTE.SOURCES.items() if weight > 0]
    sources = [_build_source(name, opened[name], space, cfg, for_pasting=True) for name in names]
    return build_copy_paste(cfg, sources)


def _build_source(
    name: str, data: OpenedVideos | OpenedStills, space: CategorySpace, cfg: Config, *, for_pasting: bool = False
) -> ClipSource:
    """A dataset as a source of clips; ``for_pasting``: less moved, not duplicated."""
    entry = find_dataset(name)
    rule = space.rule(name, data.annotations.category_labels, data.annotations.source)
    if isinstance(data, OpenedStills):
        augmenter = FrameAugmenter(_CALM_RANGE if for_pasting else replace(_STILL_RANGE, **entry.augmentation))
        return StillClips(name=name, stills=data, rule=rule, num_frames=cfg.INPUT.NUM_FRAMES, augmenter=augmenter)
    section = cfg.DATA[entry.section]
    moves = section.AUGMENT and not for_pasting
    return VideoClips(
        name=name,
        videos=data,
        rule=rule,
        num_frames=cfg.INPUT.NUM_FRAMES,
        gap=FrameGap(section.FRAME_GAP_LOWER, section.FRAME_GAP_UPPER),
        split=split_at_empty_stretches if entry.split_at_empty_stretches else frames_with_instances,
        changes=VideoChanges(
            horizontal_flip=section.HORIZONTAL_FLIP,
            time_reversal=section.TIME_REVERSAL,
            single_instance_duplication=section.SINGLE_INSTANCE_DUPLICATION and not for_pasting,
            ignore_background=section.IGNORE_BACKGROUND,
            augmenter=FrameAugmenter(replace(_VIDEO_RANGE, **entry.augmentation)) if moves else None,
        ),
    )
