"""Captions of masks that never cover each other or a small object, and stay where they are from frame to frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GRID_ROWS = 128  # places are searched on masks of at most this height
_SMALL = 5.0  # an object of less than this many times a caption's area is small: no caption may cover it
_OTHERS, _AWAY, _DRIFT = 2.0, 0.05, 0.5  # price of covering others, of a cell off the mask, of leaving the anchor


class Caption(NamedTuple):
    """A caption that found room.

    Attributes:
        text: what it says.
        left, top, width, height: its box in pixels.
        target: (x, y) of its mask's pixel that a line leads to; None where the box touches the mask.
    """

    text: str
    left: int
    top: int
    width: int
    height: int
    target: tuple[int, int] | None


class CaptionPlacer:
    """Finds a place for each caption of a frame. One for all frames of a video lets captions move with their objects.

    The places are searched on a coarse grid: inside the image, off all other captions and off every small object, the
    one that lies most on its own mask, least on others, and nearest to where it was relative to the mask's center.
    """

    def __init__(self) -> None:
        self._offsets: dict[int, np.ndarray] = {}  # (x, y) of a caption's center from its mask's, in cells

    def place(
        self, masks: Mapping[int, np.ndarray], texts: Mapping[int, Sequence[str]], font_size: int
    ) -> dict[int, Caption]:
        """The captions that find room, by id.

        Args:
            masks: masks [H, W] uint8 (0 or 1) of all objects by id, none of them empty.
            texts: for some of the ids, the texts to try, best first.
            font_size: in pixels.
        """
        if not masks:
            return {}
        cell = max(1.0, next(iter(masks.values())).shape[0] / _GRID_ROWS)
        grids = {i: _to_grid(mask, cell) for i, mask in masks.items()}
        taken = np.zeros_like(next(iter(grids.values())))
        captions = {}
        for i in sorted(texts.keys() & grids.keys(), key=lambda i: (cv2.countNonZero(grids[i]), i)):  # least room first
            for text in texts[i]:
                box = _Box(*(int(np.ceil(length / cell)) for length in text_size(text, font_size)))
                corner = self._search(i, grids, taken, box)
                if corner is not None:
                    x, y = corner
                    taken[y : y + box.height, x : x + box.width] = 1
                    captions[i] = _to_pixels(text, text_size(text, font_size), corner, box, grids[i], cell)
                    break
        return captions

    def _search(
        self, number: int, grids: Mapping[int, np.ndarray], taken: np.ndarray, box: _Box
    ) -> tuple[int, int] | None:
        """Cell (x, y) of the best place's top left corner, or None."""
        mask, area = grids[number], box.width * box.height
        if box.height > mask.shape[0] or box.width > mask.shape[1]:
            return None
        small = [grid for grid in grids.values() if cv2.countNonZero(grid) < _SMALL * area]
        others = [grid for i, grid in grids.items() if i != number]
        center = _center(mask)
        anchor = center + self._offsets.get(number, 0)
        xs, ys = (
            np.arange(m - b + 1) + (b - 1) / 2 for m, b in zip(mask.shape[::-1], box, strict=True)
        )  # of its middle
        drift = np.hypot(xs[None] - anchor[0], ys[:, None] - anchor[1], dtype=np.float32)  # [y, x]
        cost = (
            _OTHERS * _sums(_union(others, mask), box) / area
            - _sums(mask, box) / area
            + _AWAY * _distances(mask, box)
            + (_DRIFT / np.sqrt(max(cv2.countNonZero(mask), area))) * drift
        )
        cost[_sums(_union([taken, *small], mask), box) > 0] = np.inf
        y, x = np.unravel_index(int(cost.argmin()), cost.shape)
        if not np.isfinite(cost[y, x]):
            return None
        self._offsets[number] = np.array([xs[x], ys[y]]) - center
        return int(x), int(y)


class _Box(NamedTuple):
    width: int
    height: int


def draw_captions(
    canvas: np.ndarray,
    masks: Mapping[int, np.ndarray],
    captions: Mapping[int, str | Sequence[str]],
    colors: Mapping[int, Sequence[int]],
    placer: CaptionPlacer,
) -> None:
    """Write captions into ``canvas`` [H, W, 3] uint8, each on a plate of its object's color (B G R).

    Args:
        masks: of all objects, see :meth:`CaptionPlacer.place`.
        captions: a text for an id, or several of which the first that finds room is taken.
        colors: of each id.
    """
    texts = {i: [text] if isinstance(text, str) else list(text) for i, text in captions.items()}
    font_size = max(13, round(min(canvas.shape[:2]) / 22))
    for i, caption in placer.place(masks, texts, font_size).items():
        if caption.target is not None:
            start = (caption.left + caption.width // 2, caption.top + caption.height // 2)
            cv2.line(canvas, start, caption.target, (20, 20, 20), 3, cv2.LINE_AA)
            cv2.line(canvas, start, caption.target, tuple(colors[i]), 1, cv2.LINE_AA)
        area = canvas[caption.top : caption.top + caption.height, caption.left : caption.left + caption.width]
        area[:] = _plate(caption.text, font_size, tuple(colors[i]))[: area.shape[0], : area.shape[1]]


def text_size(text: str, font_size: int) -> tuple[int, int]:
    """Width and height of a caption's box in pixels."""
    margin = max(2, font_size // 5)
    return round(_font(font_size).getlength(text)) + 2 * margin, round(1.2 * font_size) + margin


@lru_cache(maxsize=512)
def _plate(text: str, font_size: int, color: tuple[int, int, int]) -> np.ndarray:
    """A caption's box, [height, width, 3] uint8 B G R: black or white letters, whichever stands out more."""
    width, height = text_size(text, font_size)
    blue, green, red = color
    letters = (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else (255, 255, 255)
    image = Image.new("RGB", (width, height), (red, green, blue))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline=(20, 20, 20))
    draw.text((width / 2, height / 2), text, letters, font=_font(font_size), anchor="mm")
    return np.asarray(image)[..., ::-1]


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _to_grid(mask: np.ndarray, cell: float) -> np.ndarray:
    """The mask on the grid: every cell that it touches."""
    size = (max(1, int(mask.shape[1] / cell)), max(1, int(mask.shape[0] / cell)))
    return (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)


def _to_pixels(
    text: str, size: tuple[int, int], corner: tuple[int, int], box: _Box, grid: np.ndarray, cell: float
) -> Caption:
    x, y = corner
    target = None
    if not grid[y : y + box.height, x : x + box.width].any():
        rows, columns = np.nonzero(grid)
        distances = (columns - x - box.width / 2) ** 2 + (rows - y - box.height / 2) ** 2
        nearest = int(distances.argmin())
        target = (int((columns[nearest] + 0.5) * cell), int((rows[nearest] + 0.5) * cell))
    return Caption(text, round(x * cell), round(y * cell), *size, target)


def _center(mask: np.ndarray) -> np.ndarray:
    """Mean x and y of the set cells."""
    moments = cv2.moments(mask, binaryImage=True)
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def _union(masks: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.bitwise_or.reduce([*masks, np.zeros_like(like)])


def _sums(mask: np.ndarray, box: _Box) -> np.ndarray:
    """Set cells under the box at each place, [y, x]."""
    total = cv2.integral(mask)
    width, height = box
    return total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]


def _distances(mask: np.ndarray, box: _Box) -> np.ndarray:
    """Distance from the box to the mask at each place, in cells, [y, x]."""
    distance = cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
    least = cv2.erode(distance, np.ones((box.height, box.width), np.uint8), anchor=(0, 0))
    return least[: mask.shape[0] - box.height + 1, : mask.shape[1] - box.width + 1]
