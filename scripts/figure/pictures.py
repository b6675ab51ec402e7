"""The pictures in the framework figure, made from one synthetic clip.

The maps illustrate what each output means; they are drawn from the clip's exact masks, not predicted.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from stemseg.data.synthetic.rendering import render_frame
from stemseg.data.synthetic.scenes import SceneOptions, compose_scene

NUM_FRAMES = 4
INSTANCE_COLORS = np.array([[255, 255, 255], [60, 90, 235], [235, 140, 40], [60, 190, 90], [200, 70, 190]])  # B G R
_CLASS_COLORS = np.array(
    [[52, 46, 42], [98, 175, 250], [220, 130, 95], [150, 200, 120], [200, 150, 210], [90, 220, 230]]
)
_OPTIONS = SceneOptions(240, 384, 12, 3, ("disc", "square", "triangle", "star", "cross"))
_SEED = 2


class ClipPictures(NamedTuple):
    """Pictures of a clip; each a list of T pictures, [H, W, 3] uint8, B G R."""

    frames: list[np.ndarray]
    masks: list[np.ndarray]
    semantic: list[np.ndarray]
    seediness: list[np.ndarray]
    coordinates: list[np.ndarray]
    offsets: list[np.ndarray]
    appearance: list[np.ndarray]
    mixed: list[np.ndarray]
    tracks: list[np.ndarray]


def make_pictures() -> ClipPictures:
    """Render the figure's clip and the illustrations of its maps; the same on every call."""
    scene = compose_scene(np.random.default_rng(_SEED), _OPTIONS)
    rendered = [render_frame(scene, t) for t in (6, 7, 8, 9)]
    # without the sensor noise, which makes the figure's file large
    images = [cv2.GaussianBlur(frame.image, (0, 0), 1.0) for frame in rendered]
    ids = [frame.ids for frame in rendered]
    classes = np.zeros(256, dtype=int)
    for actor in scene.actors:
        classes[actor.instance_id] = actor.category_id
    grids = [_coordinates(i.shape, t) for t, i in enumerate(ids)]
    offsets = [_offsets(i, grid) for i, grid in zip(ids, grids, strict=True)]
    appearances = [_appearance(image, i) for image, i in zip(images, ids, strict=True)]
    return ClipPictures(
        frames=images,
        masks=[_paint_masks(i) for i in ids],
        semantic=[_CLASS_COLORS[classes[i]].astype(np.uint8) for i in ids],
        seediness=[_seediness(i) for i in ids],
        coordinates=[_as_color(grid) for grid in grids],
        offsets=[_as_color(0.5 + 3 * offset) for offset in offsets],
        appearance=appearances,
        mixed=[_mix(*parts) for parts in zip(grids, offsets, appearances, ids, strict=True)],
        tracks=[_overlay(image, i) for image, i in zip(images, ids, strict=True)],
    )


def _paint_masks(ids: np.ndarray) -> np.ndarray:
    painted = INSTANCE_COLORS[ids].astype(np.uint8)
    painted[ids == 0] = 28
    return painted


def _overlay(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    overlay = np.where(ids[..., None] > 0, 0.25 * image + 0.75 * INSTANCE_COLORS[ids], 0.75 * image).astype(np.uint8)
    for i in np.unique(ids[ids > 0]):
        outlines, _ = cv2.findContours(np.uint8(ids == i), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(overlay, outlines, -1, (255, 255, 255), 3, cv2.LINE_AA)
    return overlay


def _seediness(ids: np.ndarray) -> np.ndarray:
    """High where a pixel is near its instance's center, as a heat map."""
    y, x = np.mgrid[0 : ids.shape[0], 0 : ids.shape[1]]
    seediness = np.zeros(ids.shape, dtype=np.float32)
    for i in np.unique(ids[ids > 0]):
        inside = ids == i
        squared = (y - y[inside].mean()) ** 2 + (x - x[inside].mean()) ** 2
        seediness[inside] = np.exp(-2.2 * squared[inside] / squared[inside].max())
    smooth = cv2.GaussianBlur(seediness, (0, 0), 3)
    return cv2.applyColorMap(np.uint8(25 + 225 * smooth), cv2.COLORMAP_INFERNO)


def _coordinates(size: tuple[int, int], t: int) -> np.ndarray:
    """x, y and t of each pixel, [H, W, 3] in [0, 1]."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] / np.array(size)[:, None, None]
    return np.stack([x, y, np.full(size, (t + 1) / (NUM_FRAMES + 1))], axis=-1)


def _offsets(ids: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Offsets that move each pixel of an instance nearly to the instance's center, [H, W, 3]."""
    offsets = np.zeros(grid.shape)
    for i in np.unique(ids[ids > 0]):
        inside = ids == i
        offsets[inside] = 0.85 * (grid[inside].mean(axis=0) - grid[inside])
    return offsets


def _appearance(image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The mean color of each instance with a little of its texture; a dim blur elsewhere."""
    blurred = cv2.GaussianBlur(image, (0, 0), 14)
    appearance = 0.3 * blurred
    for i in np.unique(ids[ids > 0]):
        inside = ids == i
        appearance[inside] = 0.75 * image[inside].mean(axis=0) + 0.25 * blurred[inside]
    return cv2.GaussianBlur(appearance.astype(np.uint8), (0, 0), 2.5)


def _mix(grid: np.ndarray, offsets: np.ndarray, appearance: np.ndarray, ids: np.ndarray) -> np.ndarray:
    located = _as_color(grid + offsets)
    mixed = 0.5 * located + 0.75 * appearance
    return np.clip(np.where(ids[..., None] > 0, mixed, 0.35 * located), 0, 255).astype(np.uint8)


def _as_color(values: np.ndarray) -> np.ndarray:
    return np.uint8(255 * np.clip(values, 0, 1))
