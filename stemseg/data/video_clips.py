"""Clips from annotated videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stemseg.data.augmentation import FrameAugmenter
from stemseg.data.catalog import OpenedVideos
from stemseg.data.categories import CategoryRule
from stemseg.data.duplication import duplicate_instance
from stemseg.data.id_maps import pack_masks
from stemseg.data.images import read_image
from stemseg.data.masks import decode_mask
from stemseg.data.raw_clip import Frame, RawClip
from stemseg.data.sampling import FrameGap, Segment, SegmentSampler, sample_frames
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.rle import rle_area
from stemseg.utils.errors import DataError


@dataclass(frozen=True)
class VideoChanges:
    """What is done to a clip after loading; each of the first three happens to half of the clips it can happen to."""

    horizontal_flip: bool
    time_reversal: bool
    single_instance_duplication: bool
    ignore_background: bool
    augmenter: FrameAugmenter | None = None


class VideoClips:
    """Draws training clips from a video dataset.

    Args:
        name: of the dataset, for clip names.
        videos: its annotations and image folder.
        rule: which categories are trained.
        num_frames: T.
        gap: the span of a clip.
        split: turns "does frame t show an instance" into runs of usable frames.
        changes: flips and so on.

    Raises:
        DataError: where a sequence has no annotations, a category is unknown, or no sequence is long enough.
    """

    def __init__(
        self,
        *,
        name: str,
        videos: OpenedVideos,
        rule: CategoryRule,
        num_frames: int,
        gap: FrameGap,
        split: Callable[[Sequence[bool]], list[tuple[int, ...]]],
        changes: VideoChanges,
    ) -> None:
        self.name = name
        self._videos = videos
        self._num_frames = num_frames
        self._gap = gap
        self._changes = changes
        source = videos.annotations.source
        self._targets = [
            _training_categories(s, rule, f"{source}: sequence '{s.id}'") for s in videos.annotations
        ]  # of each sequence: training category of each instance id that is kept
        self._ignored = [{i for i, c in (s.categories or {}).items() if c in rule.ignored} for s in videos.annotations]
        segments = [
            Segment(index, run)
            for index, sequence in enumerate(videos.annotations)
            for run in split(_occupied(sequence, self._targets[index]))
        ]
        self._sampler = SegmentSampler(segments, gap, where=str(source))

    def __len__(self) -> int:
        """Number of usable frames."""
        return len(self._sampler)

    def draw(self, position: int, rng: np.random.Generator) -> RawClip:
        """A random clip; videos are drawn in proportion to their length, whatever ``position`` says."""
        segment = self._sampler.draw(rng)
        picked = sample_frames(len(segment.frames), self._num_frames, self._gap, rng)
        return self._change(self.load(segment.sequence, [segment.frames[i] for i in picked]), rng)

    def load(self, sequence_index: int, frame_indices: Sequence[int]) -> RawClip:
        """The given frames of a sequence as they are. Instances are numbered by ascending instance id.

        Raises:
            DataError: naming sequence, frame and file of a damaged image or mask.
        """
        sequence, targets = self._videos.annotations.sequences[sequence_index], self._targets[sequence_index]
        visible = sorted({i for t in frame_indices for i in sequence.segmentations[t] if i in targets})
        numbers = {instance: number for number, instance in enumerate(visible)}
        frames = {t: self._load_frame(sequence_index, t, numbers) for t in dict.fromkeys(frame_indices)}
        name = f"{self.name}/{sequence.id} {','.join(map(str, frame_indices))}"
        return RawClip([frames[t] for t in frame_indices], tuple(targets[i] for i in visible), name)

    def _load_frame(self, sequence_index: int, t: int, numbers: dict[int, int]) -> Frame:
        sequence = self._videos.annotations.sequences[sequence_index]
        where = f"{self._videos.annotations.source}: sequence '{sequence.id}', frame {t}"
        size = (sequence.height, sequence.width)
        path = self._videos.image_dir / sequence.image_paths[t]
        image = read_image(path, where, expected_size=size)
        segmentations = sequence.segmentations[t]

        def mask(instance: int) -> np.ndarray:
            return decode_mask(segmentations[instance], size, f"{where}, instance {instance}")

        ids = pack_masks(((numbers[i], mask(i)) for i in segmentations if i in numbers), *size)
        ignored = [mask(i) for i in segmentations if i in self._ignored[sequence_index]]
        return Frame(image, ids, np.bitwise_or.reduce(ignored) if ignored else None)

    def _change(self, clip: RawClip, rng: np.random.Generator) -> RawClip:
        changes = self._changes
        duplicate, flip, reverse = rng.random(3) < 0.5
        if changes.single_instance_duplication and duplicate and len(clip.category_ids) == 1:
            clip = duplicate_instance(clip, rng)
        if changes.augmenter is not None:
            clip = RawClip([changes.augmenter(f, rng) for f in clip.frames], clip.category_ids, clip.name)
        if changes.ignore_background:
            clip = clip.with_ignored_background()
        if changes.horizontal_flip and flip:
            clip = clip.flipped()
        if changes.time_reversal and reverse:
            clip = clip.reordered(range(len(clip.frames))[::-1])
        return clip


def _training_categories(sequence: VideoSequence, rule: CategoryRule, where: str) -> dict[int, int]:
    if not sequence.is_annotated:
        raise DataError(f"{where} has no annotations and can't be trained on; is this a test set's file?")
    targets = {i: rule.target(c, f"{where}, instance {i}") for i, c in sequence.categories.items()}
    return {instance: target for instance, target in targets.items() if target is not None}


def _occupied(sequence: VideoSequence, targets: dict[int, int]) -> list[bool]:
    """For each frame whether it shows an instance that is trained."""
    size = (sequence.height, sequence.width)
    return [
        any(i in targets and rle_area(counts, *size) > 0 for i, counts in frame.items())
        for frame in sequence.segmentations
    ]
