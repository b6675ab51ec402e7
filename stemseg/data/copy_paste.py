"""Clips made of other clips: objects cut out by their masks and moved over the frames of other videos or stills.

A clip with one annotated object becomes a clip with several, which pass in front of each other, and the same few
objects are seen in ever new places, sizes, light and motion. Masks are exact: they hold the visible pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from stemseg.config import Config
from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, ClipSource, pack_masks
from stemseg.data.images import mask_box

_MAX_ENLARGEMENT = 2.0  # of an object's pixels: beyond, it is a blur
_MIN_SHARE = 0.002  # of the donor's image: smaller objects are not cut out
_TRIES = 4  # donors looked at for one object
_OPAQUE = 128  # alpha from which on a pixel belongs to the object


@dataclass(frozen=True, kw_only=True)
class CopyPasteRange:
    """Limits of the random choices.

    Attributes:
        height, width: of the clips, in pixels.
        max_objects: pasted into a clip at most; their number is uniform from 0 on.
        object_size: smallest and largest size of a pasted object: the square root of its share of the image's area.
        zoom: smallest and largest enlargement of the scene, small ones more often; 1: the largest part of it in the
            clip's proportions.
        motion: standard deviation of the way that an object goes in the clip, as a share of the image's sides.
        pair_probability: of a pasted object to be two that touch and move as one, like rider and horse: one instance.
        behind_probability: of an object to pass behind what the scene's own masks show, not in front.
        light: largest change of brightness, in pixel values; contrast and saturation change along with it.
        blur_probability: of a blurred object, and of a blurred clip.
    """

    height: int
    width: int
    max_objects: int = 3
    object_size: tuple[float, float] = (0.12, 0.6)
    zoom: tuple[float, float] = (1.0, 1.7)
    motion: float = 0.2
    pair_probability: float = 0.0
    behind_probability: float = 0.25
    light: float = 30.0
    blur_probability: float = 0.25


class Cutout(NamedTuple):
    """One object without its surroundings.

    Attributes:
        images: T crops [h, w, 3] uint8, B G R.
        alphas: T crops [h, w] uint8, 255 inside of the object.
        center: (x, y) of the object in the crops, mean over the frames.
        area: pixels of the object in a frame, median over the frames that show it.
        category_id: in the training category space.
        name: where it comes from.
    """

    images: list[np.ndarray]
    alphas: list[np.ndarray]
    center: np.ndarray
    area: float
    category_id: int
    name: str


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
            usable = [i for i in range(len(donor.category_ids)) if _is_usable(donor, i)]
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


def cut_out(clip: AnnotatedClip, instance: int) -> Cutout:
    """One instance of a clip, cropped to the rectangle that holds it in all frames."""
    masks = [frame.ids.mask(instance) for frame in clip.frames]
    boxes = [box for box in map(mask_box, masks) if box is not None]
    crop = tuple(slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in (0, 1))
    centers = [[(box[i].start + box[i].stop) / 2 - crop[i].start for i in (1, 0)] for box in boxes]
    areas = [int(mask.sum()) for mask in masks]
    return Cutout(
        images=[frame.image[crop] for frame in clip.frames],
        alphas=[mask[crop] * np.uint8(255) for mask in masks],
        center=np.mean(centers, axis=0),
        area=float(np.median([area for area in areas if area])),
        category_id=clip.category_ids[instance],
        name=clip.name,
    )


def resized(cutout: Cutout, ranges: CopyPasteRange, rng: np.random.Generator) -> Cutout:
    """The object in a random one of the sizes that it may have."""
    size = np.exp(rng.uniform(*np.log(ranges.object_size)))
    scale = min(size * np.sqrt(ranges.height * ranges.width / cutout.area), _MAX_ENLARGEMENT)
    height, width = cutout.alphas[0].shape
    new_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cutout._replace(
        images=[cv2.resize(image, new_size, interpolation=how) for image in cutout.images],
        alphas=[cv2.resize(alpha, new_size, interpolation=how) for alpha in cutout.alphas],
        center=cutout.center * scale,
        area=cutout.area * scale**2,
    )


def relight(cutout: Cutout, clip: AnnotatedClip, ranges: CopyPasteRange, rng: np.random.Generator) -> Cutout:
    """The object in other light, often nearer to that of the clip it will be pasted into, and sometimes blurred."""
    own = cv2.mean(cutout.images[0], cutout.alphas[0])[:3]
    scene = cv2.mean(clip.frames[0].image)[:3]
    adaption = rng.uniform(-0.2, 0.6)
    shift = adaption * np.subtract(scene, own) + rng.uniform(-ranges.light, ranges.light) / 2
    tables = _tables(rng.uniform(0.8, 1.2), shift, np.asarray(own))
    sigma = rng.uniform(0.4, 1.5) if rng.random() < ranges.blur_probability else 0.0
    return cutout._replace(images=[_blurred(cv2.LUT(image, tables), sigma) for image in cutout.images])


def object_paths(cutout: Cutout, num_frames: int, ranges: CopyPasteRange, rng: np.random.Generator) -> list[np.ndarray]:
    """Matrices [2, 3] that take the object from its crop to its place in each frame: smooth motion, size and angle."""
    growth, angle, turn = rng.normal(0, 0.12), rng.normal(0, 7), rng.normal(0, 5)
    sides = np.array([ranges.width, ranges.height])
    middle = rng.uniform(0.1, 0.9, 2) * sides
    velocity = rng.normal(0, ranges.motion, 2) * sides
    acceleration = rng.normal(0, ranges.motion, 2) * sides
    matrices = []
    for time in np.linspace(-0.5, 0.5, num_frames):
        place = middle + velocity * time + acceleration * time**2
        matrix: np.ndarray = cv2.getRotationMatrix2D(tuple(cutout.center), angle + turn * time, np.exp(growth * time))
        matrix[:, 2] += place - cutout.center
        matrices.append(matrix)
    return matrices


def rider_paths(
    rider: Cutout, mount: Cutout, matrices: Sequence[np.ndarray], rng: np.random.Generator
) -> list[np.ndarray]:
    """Matrices [2, 3] that keep an object on another, mostly on top of it, in all frames.

    What touches and moves as one is one object, whatever its parts look like: so are a rider and a horse annotated in
    videos.

    Args:
        rider: gets a third to all of the mount's area.
        matrices: the mount's own, from its crop to its place in each frame.
    """
    share = np.exp(rng.uniform(np.log(0.3), 0))
    scale = min(np.sqrt(share * mount.area / rider.area), _MAX_ENLARGEMENT)
    angle = rng.normal(-np.pi / 2, 0.8)
    reach = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.6, 0.95)  # below 1 their rectangles overlap
    low, high = _seen_corners(mount.alphas)
    own_low, own_high = (scale * corner for corner in _seen_corners(rider.alphas))
    shifts = (low + high - own_low - own_high) / 2 + reach * (high - low + own_high - own_low) / 2
    to_mount = np.array([[[scale, 0, x], [0, scale, y], [0, 0, 1]] for x, y in shifts])
    return list(np.stack(matrices) @ to_mount)


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
    tables = _tables(rng.uniform(0.75, 1.25), shift, np.full(3, 128.0))
    saturation = 0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.4)
    sigma = rng.uniform(0.3, 1.2) if rng.random() < ranges.blur_probability else 0.0
    frames = [
        replace(frame, image=_blurred(_saturated(cv2.LUT(frame.image, tables), saturation), sigma))
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


def _is_usable(donor: AnnotatedClip, instance: int) -> bool:
    """Whether an instance is seen, and not too small, in the first, the middle and the last frame."""
    frames = [donor.frames[t] for t in (0, len(donor.frames) // 2, -1)]
    return all(frame.ids.mask(instance).mean() >= _MIN_SHARE for frame in frames)


def _seen_corners(alphas: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """First and last corner [T, 2], (x, y), of what is seen in each frame; where nothing is, as in the frame before."""
    boxes = [mask_box(alpha) for alpha in alphas]
    last = next(box for box in boxes if box is not None)
    corners = []
    for box in boxes:
        last = last if box is None else box
        corners.append([[last[1].start, last[0].start], [last[1].stop, last[0].stop]])
    low, high = np.moveaxis(np.array(corners, dtype=np.float64), 1, 0)
    return low, high


def _warp_frame(frame: AnnotatedFrame, matrix: np.ndarray, size: tuple[int, int]) -> AnnotatedFrame:
    """The frame under an affine map [2, 3] that shows nothing from outside of it; ``size`` is (width, height)."""

    def nearest(plane: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)

    # averaging before sampling: a photograph of several times the size would flicker
    smooth = _blurred(frame.image, max(0.0, 0.35 / matrix[0, 0] - 0.35))
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


def _tables(contrast: float, shift: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """A table [1, 256, 3] for ``cv2.LUT``: contrast around ``pivot``, then ``shift``; both [3], in pixel values."""
    values = np.arange(256, dtype=np.float64)[:, None]
    return np.clip(np.rint((values - pivot) * contrast + pivot + shift), 0, 255).astype(np.uint8)[None]


def _saturated(image: np.ndarray, factor: float) -> np.ndarray:
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return cv2.addWeighted(image, factor, gray, 1 - factor, 0)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image
