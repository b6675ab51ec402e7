"""Objects cut out of clips by their masks: their size, light and way in the clip that they are pasted into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from stemseg.data.annotated_frame import AnnotatedClip
from stemseg.data.images import mask_box

_MAX_ENLARGEMENT = 2.0  # of an object's pixels: beyond, it is a blur
_MIN_SHARE = 0.002  # of the donor's image: smaller objects are not cut out


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


def is_usable(donor: AnnotatedClip, instance: int) -> bool:
    """Whether an instance is seen, and not too small, in the first, the middle and the last frame."""
    frames = [donor.frames[t] for t in (0, len(donor.frames) // 2, -1)]
    return all(frame.ids.mask(instance).mean() >= _MIN_SHARE for frame in frames)


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
    tables = tone_tables(rng.uniform(0.8, 1.2), shift, np.asarray(own))
    sigma = rng.uniform(0.4, 1.5) if rng.random() < ranges.blur_probability else 0.0
    return cutout._replace(images=[blurred(cv2.LUT(image, tables), sigma) for image in cutout.images])


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


def tone_tables(contrast: float, shift: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """A table [1, 256, 3] for ``cv2.LUT``: contrast around ``pivot``, then ``shift``; both [3], in pixel values."""
    values = np.arange(256, dtype=np.float64)[:, None]
    return np.clip(np.rint((values - pivot) * contrast + pivot + shift), 0, 255).astype(np.uint8)[None]


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of ``sigma`` pixels; the image itself where that is next to none."""
    return cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0.2 else image


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
