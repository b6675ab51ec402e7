"""Drawing a scene: an antialiased image and the id of the object that is visible at each pixel."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from stemseg.data.synthetic.scenes import Actor, Scene

SUPERSAMPLING = 3  # samples per pixel along each axis
_SUBPIXEL_BITS = 4  # OpenCV's fixed-point fraction of polygon corners
_NOISE_STD = 2.5  # of the sensor noise, in pixel values


class RenderedFrame(NamedTuple):
    """One frame of a scene.

    Attributes:
        image: [H, W, 3] uint8, B G R.
        ids: [H, W] uint8, instance id of the object that fills most of the pixel; 0 is background.
    """

    image: np.ndarray
    ids: np.ndarray


def render_frame(scene: Scene, t: int) -> RenderedFrame:
    """Draw frame ``t``.

    Every pixel is made of ``SUPERSAMPLING``^2 samples, and each sample shows exactly one object or the background: the
    image is the samples' mean, the id their majority. So masks are disjoint and are what is visible.
    """
    canvas = _draw_background(scene, t)
    sample_ids = np.zeros(canvas.shape[:2], dtype=np.uint8)
    for actor in scene.actors:
        _draw_actor(canvas, sample_ids, actor, t)
    size = (scene.arena.width, scene.arena.height)
    image = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    noise = np.random.default_rng([scene.noise_seed, t]).standard_normal(image.shape, dtype=np.float32)
    lit = image * light_gains(scene, t) if scene.light else image
    noisy = np.clip(np.rint(lit + _NOISE_STD * noise), 0, 255).astype(np.uint8)
    return RenderedFrame(noisy, _majority(sample_ids, size, len(scene.actors)))


def light_gains(scene: Scene, t: int) -> np.ndarray:
    """Factors of the color channels in frame ``t``, [3] float32, B G R, between exp(-light) and exp(light)."""
    drawn = np.random.default_rng([scene.noise_seed, t, 1]).uniform(-scene.light, scene.light, 3)
    return np.exp(drawn).astype(np.float32)


def outline_in_frame(actor: Actor, t: int) -> np.ndarray:
    """The object's outline in frame ``t``, [V, 2] pixels; pixel (i, j) covers x in [j, j + 1), y in [i, i + 1)."""
    linear, center = _placement(actor, t)
    return actor.outline @ linear.T + center


def _placement(actor: Actor, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear part [2, 2] and center [2] of the map from an object's own coordinates to the frame."""
    angle, scale = actor.motion.angles[t], actor.motion.scales[t]
    cos, sin = np.cos(angle), np.sin(angle)
    return scale * np.array([[cos, -sin], [sin, cos]]), actor.motion.centers[t]


def _draw_background(scene: Scene, t: int) -> np.ndarray:
    arena, camera = scene.arena, scene.camera
    angle, zoom = camera.angles[t], camera.scales[t]
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    texture_center = np.array(scene.background.shape[1::-1]) / 2
    to_samples = _to_samples(linear, camera.centers[t] - linear @ texture_center)
    size = (arena.width * SUPERSAMPLING, arena.height * SUPERSAMPLING)
    return cv2.warpAffine(scene.background, to_samples, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _draw_actor(canvas: np.ndarray, sample_ids: np.ndarray, actor: Actor, t: int) -> None:
    """Paint one object over what is there, in the part of the canvas around it."""
    corners = outline_in_frame(actor, t) * SUPERSAMPLING - 0.5  # sample (i, j) has its center there
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, sample_ids.shape[::-1])
    if np.any(low >= high):
        return
    mask = np.zeros(tuple(high - low)[::-1], dtype=np.uint8)
    fixed = np.rint((corners - low) * 2**_SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 1, shift=_SUBPIXEL_BITS)
    region = slice(low[1], high[1]), slice(low[0], high[0])
    painted = _sample_texture(actor, t, low, mask.shape[::-1])
    cv2.copyTo(painted, mask, canvas[region])
    sample_ids[region][mask != 0] = actor.instance_id


def _sample_texture(actor: Actor, t: int, low: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    linear, center = _placement(actor, t)
    stretch = 2 * actor.texture_reach / len(actor.texture)  # pixels of the frame per pixel of the texture
    linear = linear * stretch
    to_samples = _to_samples(linear, center - linear @ np.full(2, len(actor.texture) / 2))
    to_samples[:, 2] -= low
    return cv2.warpAffine(actor.texture, to_samples, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _to_samples(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """OpenCV's matrix [2, 3] from a texture's pixel indices to sample indices, where frame = linear @ texture + shift.

    The latter are continuous coordinates, in which pixel i covers [i, i + 1).
    """
    half = np.full(2, 0.5)
    return np.column_stack([SUPERSAMPLING * linear, SUPERSAMPLING * (linear @ half + shift) - half])


def _majority(sample_ids: np.ndarray, size: tuple[int, int], num_ids: int) -> np.ndarray:
    """The id that most samples of each pixel have, the lowest one where several do."""
    shares = [
        cv2.resize((sample_ids == i).astype(np.float32), size, interpolation=cv2.INTER_AREA) for i in range(num_ids + 1)
    ]
    return np.argmax(np.stack(shares), axis=0).astype(np.uint8)
