"""The outlines that give synthetic objects their class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def outline(name: str) -> np.ndarray:
    """Closed outline of a class, [V, 2] float64 (x, y): centred on its area's centroid, area equal to the unit disc's.

    Equal areas keep a class from being told by its size alone.

    Raises:
        KeyError: for a name that is not in :data:`SHAPES`.
    """
    return _normalise(SHAPES[name]())


def _disc() -> np.ndarray:
    return _on_circle(np.linspace(0, 2 * np.pi, 64, endpoint=False))


def _square() -> np.ndarray:
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float)


def _triangle() -> np.ndarray:
    return _on_circle(-np.pi / 2 + np.arange(3) * 2 * np.pi / 3)


def _star() -> np.ndarray:
    radii = np.tile([1.0, 0.45], 5)
    return radii[:, None] * _on_circle(-np.pi / 2 + np.arange(10) * np.pi / 5)


def _cross() -> np.ndarray:
    arm = 0.36
    quarter = np.array([[arm, -1], [arm, -arm], [1, -arm]])
    turn = np.array([[0, 1], [-1, 0]])  # points are rows: a quarter turn that keeps the outline's direction
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _crescent() -> np.ndarray:
    outer = _on_circle(np.linspace(0.25 * np.pi, 1.75 * np.pi, 48))
    inner = np.array([0.55, 0.0]) + 0.72 * _on_circle(np.linspace(1.56 * np.pi, 0.44 * np.pi, 40))
    return np.concatenate([outer, inner])


def _arrow() -> np.ndarray:
    return np.array([[1, 0], [0.1, -0.85], [0.1, -0.35], [-1, -0.35], [-1, 0.35], [0.1, 0.35], [0.1, 0.85]])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1) / 16


# class names in the order of their category ids
SHAPES: dict[str, Callable[[], np.ndarray]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "crescent": _crescent,
    "arrow": _arrow,
    "heart": _heart,
}


def _on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _normalise(points: np.ndarray) -> np.ndarray:
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]  # the shoelace formula
    area = cross.sum() / 2
    centroid = ((points + following) * cross[:, None]).sum(axis=0) / (6 * area)
    return (points - centroid) * np.sqrt(np.pi / abs(area))
