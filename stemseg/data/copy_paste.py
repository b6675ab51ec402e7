"""Clips made of other clips: objects cut out by their masks and moved over the frames of other videos or stills.

A clip with one annotated object becomes a clip with several, which pass in front of each other, and the same few
objects are seen in ever new places, sizes, light and motion. Masks are exact: they hold the visible pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from stemseg.config import Config
from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, ClipSource, pack_masks
from stemseg.data.cutouts import (
    CopyPasteRange,
    Cutout,
    blurred,
    cut_out,
    is_usable,
    object_paths,
    relight,
    resized,
    rider_paths,
    tone_tables,
)
from stemseg.data.images import mask_box

_TRIES = 4  # donors looked at for one object
_OPAQUE = 128  # alpha from which on a pixel belongs to the object


class CopyPasteClips:
    """Draws scenes and objects from other sources and puts them together.

    Args:
        sources: of scenes and objects alike; their own flips and time reversals are kept.
        weights: share of each source.
        ranges: of the random choices.
    """

    name = "copy_paste"

    def __init__(self, *, sources: Sequence[ClipSource], weights: Sequence[float], ranges: CopyPasteRange) -> None:
        self._sources = list(sources)
        self._shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
        self._ranges = ranges

    def __len__(self) -> int:
        """Number of usable frames and images in all sources."""
        return sum(len(source) for source in self._sources)

    def draw(self, position: int, rng: np.random.Generator) -> AnnotatedClip:
        """A random clip, decided by ``rng`` alone, whatever ``position`` says."""
        clip = film(self._draw_clip(rng), self._ranges, rng)
        for _ in range(int(rng.integers(self._ranges.max_objects + 1))):
            cutout = self._draw_object(rng)
            if cutout is not None:
                clip = self._pasted(clip, resized(cutout, self._ranges, rng), rng)
        return replace(change_colors(clip, self._ranges, rng), name=f"{self.name}/{clip.name}")

    def _pasted(self, clip: AnnotatedClip, cutout: Cutout, rng: np.random.Generator) -> AnnotatedClip:
        """The clip with the object in it, or with the object and another on it as one instance."""
        ranges = self._ranges
        cutout = relight(cutout, clip, ranges, rng)
        paths = object_paths(cutout, len(clip.frames), ranges, rng)
        in_front = rng.random() >= ranges.behind_probability
        pasted = paste(clip, cutout, paths, in_front=in_front)
        if ranges.pair_probability > 0 and rng.random() < ranges.pair_probability:  # 0 leaves the draws as they were
            rider = self._draw_object(rng)
            if rider is not None:
                paths = rider_paths(rider, cutout, paths, rng)
                pasted = paste(pasted, relight(rider, clip, ranges, rng), paths, in_front=in_front, as_part=True)
        return pasted

    def _draw_clip(self, rng: np.random.Generator) -> AnnotatedClip:
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        return source.draw(int(rng.integers(len(source))), rng)

    def _draw_object(self, rng: np.random.Generator) -> Cutout | None:
        """A random object; None where none of a few donors has one that is large enough."""
        for _ in range(_TRIES):
            donor = self._draw_clip(rng)
            usable = [i for i in range(len(donor.category_ids)) if is_usable(donor, i)]
            if usable:
                return cut_out(donor, int(rng.choice(usable)))
        return None


def film(clip: AnnotatedClip, ranges: CopyPasteRange, rng: np.random.Generator) -> AnnotatedClip:
    """The clip through a camera that shows a part of it, which slowly moves and changes its size."""
    height, width = clip.frames[0].image.shape[:2]
    largest = max(ranges.width / width, ranges.height / height)
    lowest, highest = np.log(ranges.zoom)
    zoom = np.exp(lowest + rng.random(2) * 0.15 + rng.random() ** 2 * (highest - lowest))
    start = rng.random(2)
    end = np.clip(start + rng.normal(0, 0.15, 2), 0, 1)
    frames = []
    for frame, step in zip(clip.frames, np.linspace(0, 1, len(clip.frames)), strict=True):
        scale = largest * (zoom[0] + (zoom[1] - zoom[0]) * step)
        corner = (start + (end - start) * step) * (np.array([width, height]) * scale - (ranges.width, ranges.height))
        matrix = np.array([[scale, 0, -corner[0]], [0, scale, -corner[1]]])
        frames.append(_warp_frame(frame, matrix, (ranges.width, ranges.height)))
    return replace(clip, frames=frames)


def paste(
    clip: AnnotatedClip, cutout: Cutout, matrices: Sequence[np.ndarray], *, in_front: bool, as_part: bool = False
) -> AnnotatedClip:
    """The clip with the object in it, as its last instance.

    Args:
        matrices: from the crop to the frame, one a frame.
        in_front: whether it covers the clip's instances; else they cover it.
        as_part: it becomes a part of what is the last instance already, of that one's class.
    """
    number = len(clip.category_ids) - as_part
    layers = zip(clip.frames, cutout.images, cutout.alphas, matrices, strict=True)
    frames = [_paste_frame(*layer, number=number, in_front=in_front) for layer in layers]
    return replace(
        clip, frames=frames, category_ids=clip.category_ids if as_part else (*clip.category_ids, cutout.category_id)
    )


def change_colors(clip: AnnotatedClip, ranges: CopyPasteRange, rng: np.random.Generator) -> AnnotatedClip:
    """The whole clip brighter or darker, in another contrast, tint and saturation, sometimes blurred or gray."""
    shift = rng.uniform(-ranges.light, ranges.light) + rng.normal(0, ranges.light / 5, 3)
    tables = tone_tables(rng.uniform(0.75, 1.25), shift, np.full(3, 128.0))
    saturation = 0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.4)
    sigma = rng.uniform(0.3, 1.2) if rng.random() < ranges.blur_probability else 0.0
    frames = [
        replace(frame, image=blurred(_saturated(cv2.LUT(frame.image, tables), saturation), sigma))
        for frame in clip.frames
    ]
    return replace(clip, frames=frames)


def build_copy_paste(cfg: Config, sources: Sequence[ClipSource]) -> CopyPasteClips:
    """The source that ``DATA.COPY_PASTE`` describes; ``sources`` in the order of its SOURCES."""
    section = cfg.DATA.COPY_PASTE
    ranges = CopyPasteRange(
        height=section.HEIGHT,
        width=section.WIDTH,
        max_objects=section.MAX_OBJECTS,
        object_size=tuple(section.OBJECT_SIZE),
        zoom=tuple(section.ZOOM),
        motion=section.MOTION,
        pair_probability=section.PAIR_PROBABILITY,
        behind_probability=section.BEHIND_PROBABILITY,
        light=section.LIGHT,
        blur_probability=section.BLUR_PROBABILITY,
    )
    weights = [weight for weight in section.SOURCES.values() if weight > 0]
    return CopyPasteClips(sources=sources, weights=weights, ranges=ranges)


def _warp_frame(frame: AnnotatedFrame, matrix: np.ndarray, size: tuple[int, int]) -> AnnotatedFrame:
    """The frame under an affine map [2, 3] that shows nothing from outside of it; ``size`` is (width, height)."""

    def nearest(plane: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)

    # averaging before sampling: a photograph of several times the size would flicker
    smooth = blurred(frame.image, max(0.0, 0.35 / matrix[0, 0] - 0.35))
    return AnnotatedFrame(
        image=cv2.warpAffine(smooth, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        ids=replace(frame.ids.transformed(nearest), height=size[1], width=size[0]),
        ignore=None if frame.ignore is None else nearest(frame.ignore),
        valid=None if frame.valid is None else nearest(frame.valid),
    )


def _paste_frame(
    frame: AnnotatedFrame, image: np.ndarray, alpha: np.ndarray, matrix: np.ndarray, *, number: int, in_front: bool
) -> AnnotatedFrame:
    """One frame with the object as instance ``number``; unchanged where the object is out of sight."""
    height, width = frame.image.shape[:2]
    alpha = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR)
    if not in_front:
        alpha[frame.ids.foreground()] = 0
    box = mask_box(alpha)
    if box is None:
        return frame
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = alpha[box].astype(np.float32)[..., None] / 255
    mixed = frame.image.copy()
    mixed[box] = np.rint(moved[box] * share + mixed[box] * (1 - share))
    visible = (alpha >= _OPAQUE).view(np.uint8)
    masks: dict[int, np.ndarray] = {i: frame.ids.mask(i) & ~visible & 1 for i in frame.ids.places}
    masks[number] = masks.get(number, 0) | visible
    return replace(
        frame,
        image=mixed,
        ids=pack_masks(list(masks.items()), height, width),
        ignore=None if frame.ignore is None else frame.ignore & ~visible & 1,
        valid=None if frame.valid is None else frame.valid | visible,
    )


def _saturated(image: np.ndarray, factor: float) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, gray, 1 - factor, 0)
