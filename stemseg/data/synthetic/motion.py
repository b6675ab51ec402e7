"""Smooth motions of objects and backgrounds. Lengths are in pixels, angles in radians, time in frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator


class Motion(NamedTuple):
    """Place, angle and size of something in every frame.

    Attributes:
        centers: [T, 2] float64, (x, y) in pixels.
        angles: [T] float64, radians.
        scales: [T] float64, factors on its size.
    """

    centers: np.ndarray
    angles: np.ndarray
    scales: np.ndarray


class Arena(NamedTuple):
    """The frame that things move in: its size in pixels, and the video's length in frames."""

    height: int
    width: int
    length: int

    def inside(self, rng: np.random.Generator, margin: float = 0.1) -> np.ndarray:
        """A random point (x, y) of the frame, ``margin`` of its size away from the border."""
        return np.array([self.width, self.height]) * rng.uniform(margin, 1 - margin, 2)

    def outside(self, rng: np.random.Generator, distance: float, side: int) -> np.ndarray:
        """A random point (x, y) ``distance`` pixels beyond side 0 (left), 1 (right), 2 (top) or 3 (bottom)."""
        point = self.inside(rng)
        axis, extent = (0, self.width) if side < 2 else (1, self.height)
        point[axis] = -distance if side % 2 == 0 else extent + distance
        return point


def wander(rng: np.random.Generator, arena: Arena) -> Motion:
    """Move between random points; the center never leaves the frame."""
    knots = rng.integers(3, 5)
    return _with_turns(rng, _interpolate(arena, np.linspace(0, 1, knots), [arena.inside(rng) for _ in range(knots)]))


def come_and_go(rng: np.random.Generator, arena: Arena, radius: float) -> Motion:
    """Leave the frame wholly: most often to come back, else late on the scene, or gone before the end.

    Args:
        radius: of a circle around the center that holds the object at its largest.
    """
    side = int(rng.integers(4))
    inner = [arena.inside(rng) for _ in range(2)]
    outer = [arena.outside(rng, radius * 1.1, side) for _ in range(2)]
    # the interpolation is monotone between knots, so it stays outside between two points beyond one side
    plans = ((inner[0], *outer, inner[1]), (*outer, *inner), (*inner, *outer))
    plan = plans[rng.choice(3, p=[0.6, 0.2, 0.2])]
    times = [0, rng.uniform(0.3, 0.4), rng.uniform(0.55, 0.65), 1]
    return _with_turns(rng, _interpolate(arena, times, plan))


def encounter(rng: np.random.Generator, arena: Arena, distance: float) -> tuple[Motion, Motion]:
    """Two objects come together, rest one upon the other, and part: they cross or turn back with equal chance.

    Both halves of the motion are symmetric in the two, and both come to rest in between, so neither position nor
    velocity tells after the encounter which is which.

    Args:
        distance: greatest distance of either from the meeting point, in pixels.
    """
    middle = arena.length * rng.uniform(0.4, 0.6)
    rest = max(1.0, 0.06 * arena.length)
    time = np.arange(arena.length) - middle
    ramp = np.clip((np.abs(time) - rest) / (0.4 * arena.length - rest), 0, 1)
    reach = distance * ramp**2 * (3 - 2 * ramp)  # [T]
    before = rng.uniform(0, 2 * np.pi)
    after = before + rng.uniform(-0.4, 0.4) * np.pi + np.pi * rng.integers(2)
    angle = np.where(time < 0, before, after)
    away = reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)  # [T, 2]
    meeting = _interpolate(arena, [0, 1], [arena.inside(rng, 0.35), arena.inside(rng, 0.35)])
    first, second = _with_turns(rng, meeting + away), _with_turns(rng, meeting - away)
    return first, second._replace(scales=first.scales)  # size must not tell either


def pan(rng: np.random.Generator, arena: Arena, margin: float) -> Motion:
    """Motion of a background whose texture exceeds the frame by ``margin`` pixels on each side."""
    limit = 0.6 * margin
    points = rng.uniform(-limit, limit, (3, 2))
    centers = _interpolate(arena, [0, 0.5, 1], points) + np.array([arena.width, arena.height]) / 2
    progress = np.linspace(0, 1, arena.length)
    tilt = rng.uniform(-0.06, 0.06) + rng.uniform(-0.06, 0.06) * progress
    zoom = 1.05 + rng.uniform(0, 0.12) * progress
    return Motion(centers, tilt, zoom)


def _interpolate(
    arena: Arena, times: Sequence[float] | np.ndarray, points: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Smooth centers [T, 2] through points at relative times in [0, 1], without overshooting them."""
    return PchipInterpolator(np.asarray(times), np.asarray(points), axis=0)(np.linspace(0, 1, arena.length))


def _with_turns(rng: np.random.Generator, centers: np.ndarray) -> Motion:
    time = np.arange(len(centers))
    angles = rng.uniform(0, 2 * np.pi) + rng.uniform(-0.08, 0.08) * time
    phase = rng.uniform(0, 2 * np.pi) + 2 * np.pi * rng.uniform(0.5, 1.0) * time / len(centers)
    return Motion(centers, angles, 1 + rng.uniform(0, MAX_SCALING - 1) * np.sin(phase))


MAX_SCALING = 1.15  # objects grow and shrink by at most this factor
