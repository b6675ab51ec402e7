"""Random textures: patterns (a number in [0, 1] per pixel) and the colors they are painted with."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def fractal_noise(rng: np.random.Generator, height: int, width: int, cell: float, *, octaves: int = 4) -> np.ndarray:
    """Multi-octave value noise, [H, W] float32 stretched to [0, 1].

    Args:
        cell: size of the coarsest octave's cells in pixels; each octave halves it, at 0.6 of the amplitude.
    """
    noise = np.zeros((height, width), dtype=np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = rng.random((int(height / step) + 3, int(width / step) + 3), dtype=np.float32)
        scaled = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        noise += scaled[:height, :width] * 0.6**octave
    return cv2.normalize(noise, noise, 0.0, 1.0, cv2.NORM_MINMAX)


def object_pattern(rng: np.random.Generator, size: int, kind: int | None = None) -> np.ndarray:
    """Pattern of an object, [size, size] float32 in [0, 1], scaled and turned at random.

    Args:
        kind: number of the pattern, counted round: stripes, checks, marble, blobs, rings; None draws one of the first
            four.
    """
    if kind is None:
        kind = int(rng.integers(_NUM_DRAWN))
    return _PATTERNS[kind % len(_PATTERNS)](rng, size)


def background_texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Muted texture of a background, [H, W, 3] uint8, B G R: colored noise, on half of them with a faint pattern."""
    cell = min(height, width) * rng.uniform(0.2, 0.45)
    pattern = fractal_noise(rng, height, width, cell, octaves=6)
    if rng.random() < 0.5:
        size = max(height, width)
        pattern = 0.7 * pattern + 0.3 * object_pattern(rng, size)[:height, :width]
    return paint(pattern, background_palette(rng))


def background_palette(rng: np.random.Generator) -> np.ndarray:
    """Three muted colors of rising brightness, [3, 3] float32, hue in degrees, saturation and value in [0, 1]."""
    hues = rng.uniform(0, 360) + rng.uniform(-50, 50, 3)
    values = np.sort(rng.uniform(0.2, 0.85, 3))
    return np.stack([hues % 360, rng.uniform(0.08, 0.45, 3), values], axis=1).astype(np.float32)


def object_palette(rng: np.random.Generator, hues: tuple[float, float] = (0.0, 360.0)) -> np.ndarray:
    """Two contrasting saturated colors, [2, 3] float32, hue in degrees, saturation and value in [0, 1].

    Args:
        hues: range of the lighter color's hue in degrees; the darker one's is at most 60 degrees from it, or a quarter
            of the range where that is less.
    """
    hue = rng.uniform(*hues)
    spread = min(60.0, (hues[1] - hues[0]) / 4)
    dark = (hue + rng.uniform(-spread, spread), rng.uniform(0.55, 0.95), rng.uniform(0.3, 0.55))
    light = (hue, rng.uniform(0.45, 0.95), rng.uniform(0.8, 1.0))
    return np.array([dark, light], dtype=np.float32) % np.array([360, 1.001, 1.001], dtype=np.float32)


def turn_hue(palette: np.ndarray, degrees: float) -> np.ndarray:
    """The palette with every hue turned; saturation and value stay."""
    return (palette + np.array([degrees, 0, 0], dtype=np.float32)) % np.array([360, 2, 2], dtype=np.float32)


def paint(pattern: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Color a pattern [H, W] along the gradient through the palette's colors [K, 3]; [H, W, 3] uint8, B G R."""
    colors = palette_bgr(palette)
    stops = np.linspace(0, 1, len(colors))
    channels = [np.interp(pattern.ravel(), stops, colors[:, c]).reshape(pattern.shape) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def palette_bgr(palette: np.ndarray) -> np.ndarray:
    """A palette's colors as B G R values, [K, 3] float32 in [0, 255]."""
    return 255 * cv2.cvtColor(palette[None].astype(np.float32), cv2.COLOR_HSV2BGR)[0]


def color_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Perceived distance (CIE Lab, 1976) of two B G R colors with values in [0, 255]."""
    pair = np.stack([first, second])[None].astype(np.float32) / 255
    lab = cv2.cvtColor(pair, cv2.COLOR_BGR2Lab)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    along, _ = _turned_grid(rng, size)
    return _soft_step(np.sin(2 * np.pi * (rng.uniform(3.5, 7) * along + rng.random())))


def _checks(rng: np.random.Generator, size: int) -> np.ndarray:
    along, across = _turned_grid(rng, size)
    cycles = np.pi * rng.uniform(4.5, 8)
    return _soft_step(3 * np.sin(cycles * along + rng.random()) * np.sin(cycles * across + rng.random()))


def _marble(rng: np.random.Generator, size: int) -> np.ndarray:
    return _soft_step(4 * (fractal_noise(rng, size, size, size / rng.uniform(3, 5), octaves=5) - 0.5))


def _blobs(rng: np.random.Generator, size: int) -> np.ndarray:
    canvas = np.zeros((size, size), dtype=np.float32)
    for _ in range(rng.integers(16, 28)):
        x, y = rng.integers(0, size, 2)
        radius = int(size * rng.uniform(0.05, 0.1))
        cv2.circle(canvas, (int(x), int(y)), radius, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(canvas, (0, 0), size / 80)


def _rings(rng: np.random.Generator, size: int) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    wave = np.sin(2 * np.pi * rng.uniform(7, 11) * np.hypot(x, y) + rng.uniform(0, 2 * np.pi))
    return (np.clip(2.5 * wave, -1, 1) + 1) / 2


_PATTERNS: tuple[Callable[[np.random.Generator, int], np.ndarray], ...] = (_stripes, _checks, _marble, _blobs, _rings)
_NUM_DRAWN = 4  # a pattern added for classes leaves the videos of other datasets as they were


def _turned_grid(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _soft_step(wave: np.ndarray) -> np.ndarray:
    return (0.5 + 0.5 * np.tanh(2 * wave)).astype(np.float32)
