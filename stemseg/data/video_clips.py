"""Clips from annotated videos, and the clip's only instance shown twice in them (method.md §10).

Clips of a single object teach nothing about separating instances; with a copy of the object in front of it they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.augmentation import FrameAugmenter
from stemseg.data.categories import CategoryRule
from stemseg.data.frame_sampling import FrameGap, Segment, SegmentSampler, sample_frames
from stemseg.data.images import decode_mask, mask_box, read_image
from stemseg.data.sources import OpenedVideos
from stemseg.structures.annotations import VideoSequence
from stemseg.structures.rle import rle_area
from stemseg.utils.errors import DataError

# of the copy's shift
_SIDEWAYS = (0.75, 1.0)  # of the instance's width
_VERTICAL = 0.25  # of its height, up or down
_LARGEST = 0.3  # of the image's side


@dataclass(frozen=True)
class VideoChanges:
    """Changes of a clip after loading; each of the first three happens to half of the clips it can happen to."""

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
        self._instances = [_instances_of(s, rule, f"{source}: sequence '{s.id}'") for s in videos.annotations]
        segments = [
            Segment(index, run)
            for index, sequence in enumerate(videos.annotations)
            for run in split(_occupied(sequence, self._instances[index]))
        ]
        self._sampler = SegmentSampler(segments, gap, where=str(source))

    def __len__(self) -> int:
        """Number of usable frames."""
        return len(self._sampler)

    def draw(self, position: int, rng: np.random.Generator) -> AnnotatedClip:
        """A random clip; videos are drawn in proportion to their length, whatever ``position`` says."""
        segment = self._sampler.draw(rng)
        picked = sample_frames(len(segment.frames), self._num_frames, self._gap, rng)
        return self._change(self.load(segment.sequence, [segment.frames[i] for i in picked]), rng)

    def load(self, sequence_index: int, frame_indices: Sequence[int]) -> AnnotatedClip:
        """The given frames of a sequence as they are. Instances are numbered by ascending instance id.

        Raises:
            DataError: naming sequence, frame and file of a damaged image or mask.
        """
        sequence, instances = self._videos.annotations.sequences[sequence_index], self._instances[sequence_index]
        visible = sorted({i for t in frame_indices for i in instances.segmentations[t] if i in instances.targets})
        numbers = {instance: number for number, instance in enumerate(visible)}
        frames = {t: self._load_frame(sequence_index, t, numbers) for t in dict.fromkeys(frame_indices)}
        name = f"{self.name}/{sequence.id} {','.join(map(str, frame_indices))}"
        return AnnotatedClip([frames[t] for t in frame_indices], tuple(instances.targets[i] for i in visible), name)

    def _load_frame(self, sequence_index: int, t: int, numbers: dict[int, int]) -> AnnotatedFrame:
        sequence, instances = self._videos.annotations.sequences[sequence_index], self._instances[sequence_index]
        where = f"{self._videos.annotations.source}: sequence '{sequence.id}', frame {t}"
        size = (sequence.height, sequence.width)
        path = self._videos.image_dir / sequence.image_paths[t]
        image = read_image(path, where, expected_size=size)
        segmentations = instances.segmentations[t]

        def mask(instance: int) -> np.ndarray:
            return decode_mask(segmentations[instance], size, f"{where}, instance {instance}")

        ids = pack_masks(((numbers[i], mask(i)) for i in segmentations if i in numbers), *size)
        ignored = [mask(i) for i in segmentations if i in instances.ignored]
        return AnnotatedFrame(image, ids, np.bitwise_or.reduce(ignored) if ignored else None)

    def _change(self, clip: AnnotatedClip, rng: np.random.Generator) -> AnnotatedClip:
        changes = self._changes
        duplicate, flip, reverse = rng.random(3) < 0.5
        if changes.single_instance_duplication and duplicate and len(clip.category_ids) == 1:
            clip = duplicate_instance(clip, rng)
        if changes.augmenter is not None:
            clip = AnnotatedClip([changes.augmenter(f, rng) for f in clip.frames], clip.category_ids, clip.name)
        if changes.ignore_background:
            clip = clip.with_ignored_background()
        if changes.horizontal_flip and flip:
            clip = clip.flipped()
        if changes.time_reversal and reverse:
            clip = clip.reordered(range(len(clip.frames))[::-1])
        return clip


class _Instances(NamedTuple):
    """The instances of a sequence.

    Attributes:
        targets: training category of each instance id that is kept.
        ignored: instance ids that become an ignore region.
        segmentations: for each frame the RLE counts of each instance id.
    """

    targets: dict[int, int]
    ignored: set[int]
    segmentations: list[dict[int, str]]


def _instances_of(sequence: VideoSequence, rule: CategoryRule, where: str) -> _Instances:
    if sequence.categories is None or sequence.segmentations is None:
        raise DataError(f"{where} has no annotations and can't be trained on; is this a test set's file?")
    targets = {i: rule.target(c, f"{where}, instance {i}") for i, c in sequence.categories.items()}
    return _Instances(
        targets={instance: target for instance, target in targets.items() if target is not None},
        ignored={i for i, c in sequence.categories.items() if c in rule.ignored},
        segmentations=sequence.segmentations,
    )


def _occupied(sequence: VideoSequence, instances: _Instances) -> list[bool]:
    """For each frame whether it shows an instance that is trained."""
    size = (sequence.height, sequence.width)
    return [
        any(i in instances.targets and rle_area(counts, *size) > 0 for i, counts in frame.items())
        for frame in instances.segmentations
    ]


class _Extent(NamedTuple):
    """The box around the instance in all frames, and its largest size in one frame."""

    rows: slice
    columns: slice
    height: int
    width: int


class _Move(NamedTuple):
    """The way from the instance to its copy, in pixels, and whether the copy is mirrored."""

    dy: int
    dx: int
    flip: bool


def duplicate_instance(clip: AnnotatedClip, rng: np.random.Generator) -> AnnotatedClip:
    """Paste a copy of the clip's only instance beside it, in front; the same shift in all frames.

    Returns:
        the clip with a second instance; unchanged where the copy would leave the image at either side.
    """
    masks = [frame.ids.mask(0) for frame in clip.frames]
    extent = _extent(masks)
    if extent is None:
        return clip
    move = _choose_move(extent, masks[0].shape, rng)
    if move is None:
        return clip
    frames = [_paste(frame, mask, extent, move) for frame, mask in zip(clip.frames, masks, strict=True)]
    return replace(clip, frames=frames, category_ids=clip.category_ids * 2)


def _extent(masks: list[np.ndarray]) -> _Extent | None:
    boxes = [box for box in map(mask_box, masks) if box is not None]
    if not boxes:
        return None
    rows, columns = (slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in (0, 1))
    height, width = (max(b[i].stop - b[i].start for b in boxes) for i in (0, 1))
    return _Extent(rows, columns, height, width)


def _choose_move(extent: _Extent, size: tuple[int, int], rng: np.random.Generator) -> _Move | None:
    height, width = size
    sideways = min(rng.uniform(*_SIDEWAYS) * extent.width, _LARGEST * width)
    vertical = np.clip(rng.uniform(-_VERTICAL, _VERTICAL) * extent.height, -_LARGEST * height, _LARGEST * height)
    directions, flip = rng.permutation((-1, 1)), bool(rng.random() < 0.5)
    dy = int(np.clip(round(vertical), -extent.rows.start, height - extent.rows.stop))
    for dx in (round(sideways) * int(direction) for direction in directions):
        if extent.columns.start + dx >= 0 and extent.columns.stop + dx <= width:
            return _Move(dy, dx, flip)
    return None


def _paste(frame: AnnotatedFrame, mask: np.ndarray, extent: _Extent, move: _Move) -> AnnotatedFrame:
    source = (extent.rows, extent.columns)
    target = tuple(slice(s.start + d, s.stop + d) for s, d in zip(source, (move.dy, move.dx), strict=True))
    step = -1 if move.flip else 1
    shape = mask[source][:, ::step].astype(bool)
    image, copy = frame.image.copy(), np.zeros_like(mask)
    image[target][shape] = frame.image[source][:, ::step][shape]
    copy[target][shape] = 1
    ids = pack_masks([(0, mask & ~copy & 1), (1, copy)], *mask.shape)
    ignore = None if frame.ignore is None else frame.ignore & ~copy & 1
    return replace(frame, image=image, ids=ids, ignore=ignore)
