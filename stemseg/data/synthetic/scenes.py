"""Scenes: what is in a video, drawn at random, and the outlines that give synthetic objects their class.

Rendering is in :mod:`stemseg.data.synthetic.rendering`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stemseg.data.synthetic import motion, textures
from stemseg.data.synthetic.motion import Arena, Motion

_TEXTURE_REACH = 1.9  # an object's texture covers this many radii on each side of its center
_MIN_CONTRAST = 28.0  # CIE Lab distance of an object's mean color from the background's
_ALL_HUES = (0.0, 360.0)


@dataclass(frozen=True)
class SceneOptions:
    """Traits that the videos of a dataset share.

    Attributes:
        height, width: frame size in pixels.
        length: frames of a video.
        max_objects: a video holds 1 (hard: 2) to this many objects.
        classes: names in :data:`stemseg.data.synthetic.scenes.SHAPES`; category ids count from 1 in this order.
        hard: objects come as pairs of look-alikes that meet; see :func:`compose_scene`.
        hue_turn: range of the angle between the hues of two look-alikes, in degrees; the smaller, the more alike.
        distinct_classes: a class has its kind of texture and its hues beside its shape; else both are drawn for each
            object.
        light: change of the light from frame to frame: each frame and color channel has a gain of its own between
            exp(-light) and exp(light); 0: the light stays.
    """

    height: int
    width: int
    length: int
    max_objects: int
    classes: tuple[str, ...]
    hard: bool = False
    hue_turn: tuple[float, float] = (75.0, 180.0)
    distinct_classes: bool = False
    light: float = 0.0

    @property
    def arena(self) -> Arena:
        """The frame that things move in."""
        return Arena(self.height, self.width, self.length)


@dataclass(frozen=True)
class Actor:
    """One object of a scene.

    Attributes:
        instance_id: from 1.
        category_id: from 1.
        outline: [V, 2] pixels around the center at scale 1.
        texture: [S, S, 3] uint8, B G R.
        texture_reach: half the side of the square that the texture covers, in pixels at scale 1.
        motion: where the object is in each frame.
    """

    instance_id: int
    category_id: int
    outline: np.ndarray
    texture: np.ndarray
    texture_reach: float
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """One video before it is drawn.

    Attributes:
        arena: frame size and length.
        background: [H + 2 margin, W + 2 margin, 3] uint8, B G R.
        camera: motion of the background.
        actors: from back to front.
        noise_seed: of the sensor noise and the light.
        light: see :class:`SceneOptions`.
    """

    arena: Arena
    background: np.ndarray
    camera: Motion
    actors: Sequence[Actor]
    noise_seed: int
    light: float = 0.0


def compose_scene(rng: np.random.Generator, options: SceneOptions) -> Scene:
    """Draw a scene at random.

    Ordinarily objects have random class, texture and motion, and all but the first may leave the frame and come back.

    With ``options.hard`` they come in pairs of look-alikes: same class, size and pattern, told apart by hue only. The
    two of a pair meet, rest one upon the other, and then cross or turn back with equal chance
    (:func:`motion.encounter`), so position, velocity and shape cannot tell which is which afterwards; only appearance
    can.
    """
    arena = options.arena
    margin = round(0.35 * min(arena.height, arena.width))
    background = textures.background_texture(rng, arena.height + 2 * margin, arena.width + 2 * margin)
    surround = background.reshape(-1, 3).mean(axis=0)
    actors = _draw_pairs(rng, options, surround) if options.hard else _draw_singles(rng, options, surround)
    depth = rng.permutation(len(actors))
    camera = motion.pan(rng, arena, margin)
    return Scene(arena, background, camera, [actors[i] for i in depth], int(rng.integers(2**31)), options.light)


def _draw_singles(rng: np.random.Generator, options: SceneOptions, surround: np.ndarray) -> list[Actor]:
    count = rng.integers(1, options.max_objects + 1)
    return [_draw_single(rng, options, surround, i) for i in range(1, count + 1)]


def _draw_single(rng: np.random.Generator, options: SceneOptions, surround: np.ndarray, instance_id: int) -> Actor:
    look = _draw_look(rng, options)
    if instance_id == 1 or rng.random() < 0.45:  # the first one stays, so that no frame is empty
        path = motion.wander(rng, options.arena)
    else:
        path = motion.come_and_go(rng, options.arena, look.extent)
    hues = _class_hues(look.category_id, len(options.classes)) if options.distinct_classes else _ALL_HUES
    return look.actor(instance_id, _contrasting_palette(rng, surround, hues), path)


def _draw_pairs(rng: np.random.Generator, options: SceneOptions, surround: np.ndarray) -> list[Actor]:
    count = int(rng.integers(2, options.max_objects + 1))
    actors: list[Actor] = []
    for _ in range(count // 2):
        look = _draw_look(rng, options)
        palette = _contrasting_palette(rng, surround)
        twin = textures.turn_hue(palette, rng.uniform(*options.hue_turn))
        first, second = motion.encounter(rng, options.arena, 2.2 * look.radius)
        actors.append(look.actor(len(actors) + 1, palette, first))
        actors.append(look.actor(len(actors) + 1, twin, second))
    if count % 2:
        actors.append(_draw_single(rng, options, surround, count))
    return actors


@dataclass(frozen=True)
class _Look:
    """All of an object's appearance but its colors."""

    category_id: int
    outline: np.ndarray
    radius: float
    pattern: np.ndarray

    @property
    def extent(self) -> float:
        """Radius of a circle around the center that holds the object at its largest."""
        return float(np.linalg.norm(self.outline, axis=1).max() * motion.MAX_SCALING)

    def actor(self, instance_id: int, palette: np.ndarray, path: Motion) -> Actor:
        texture = textures.paint(self.pattern, palette)
        return Actor(instance_id, self.category_id, self.outline, texture, _TEXTURE_REACH * self.radius, path)


def _draw_look(rng: np.random.Generator, options: SceneOptions) -> _Look:
    category = int(rng.integers(len(options.classes)))
    radius = min(options.height, options.width) * rng.uniform(0.14, 0.24)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    points = radius * outline(options.classes[category]) * np.array([stretch, 1 / stretch])
    kind = category if options.distinct_classes else None
    pattern = textures.object_pattern(rng, round(2 * _TEXTURE_REACH * radius), kind)
    return _Look(category + 1, points, radius, pattern)


def _class_hues(category_id: int, num_classes: int) -> tuple[float, float]:
    """A class's share of the color circle, in degrees, half as wide as the way to the next class."""
    step = 360.0 / num_classes
    return (category_id - 0.25) * step, (category_id + 0.25) * step


def _contrasting_palette(
    rng: np.random.Generator, surround: np.ndarray, hues: tuple[float, float] = _ALL_HUES, *, attempts: int = 20
) -> np.ndarray:
    """A palette whose mean color differs from the background's; the last one drawn where none of the attempts does."""
    for _ in range(attempts):
        palette = textures.object_palette(rng, hues)
        if textures.color_distance(textures.palette_bgr(palette).mean(axis=0), surround) >= _MIN_CONTRAST:
            break
    return palette


def outline(name: str) -> np.ndarray:
    """Closed outline of a class, [V, 2] float64 (x, y): centered on its area's centroid, area equal to the unit disc's.

    Equal areas keep a class from being told by its size alone.

    Raises:
        KeyError: for a name that is not in :data:`SHAPES`.
    """
    return _normalize(SHAPES[name]())


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


def _normalize(points: np.ndarray) -> np.ndarray:
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]  # the shoelace formula
    area = cross.sum() / 2
    centroid = ((points + following) * cross[:, None]).sum(axis=0) / (6 * area)
    return (points - centroid) * np.sqrt(np.pi / abs(area))
