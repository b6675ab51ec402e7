"""The place of everything in the framework figure. Coordinates are pixels of the final picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scripts.figure.pictures import INSTANCE_COLORS, ClipPictures, make_pictures
from stemseg.utils.canvas import GRAY, INK, Canvas, Point

_SIZE = 2000, 1020


class _Theme(NamedTuple):
    """Line and fill color of one part of the method."""

    line: str
    fill: str


_BACKBONE = _Theme("#4d5d6c", "#e9edf1")
_SEMANTIC = _Theme("#3a8d62", "#e4f3ea")
_SEEDINESS = _Theme("#c97f1d", "#fcf0dd")
_POSITION = _Theme("#2f6db3", "#e3eefa")
_APPEARANCE = _Theme("#7d4fb3", "#f0e8f9")
_CLUSTER = _Theme("#33404c", "#ffffff")

_THUMB = 176, 110
_ROWS = {"semantic": 130, "seediness": 300, "position": 470, "appearance": 650}  # middle of each decoder's row


def draw_framework() -> Canvas:
    """The whole figure: clip, backbone, decoders, hierarchical embedding, clustering, tracks, and the flow below."""
    canvas, pictures = Canvas(*_SIZE), make_pictures()
    _draw_clip(canvas, pictures)
    _draw_backbone(canvas)
    _draw_decoders(canvas)
    _draw_outputs(canvas, pictures)
    _draw_mixing(canvas, pictures)
    _draw_clustering(canvas)
    _draw_tracks(canvas, pictures)
    _draw_flow(canvas, pictures)
    _draw_losses(canvas)
    return canvas


def _draw_clip(canvas: Canvas, pictures: ClipPictures) -> None:
    canvas.text((160, 252), "Clip", size=28, bold=True)
    _stack(canvas, (34, 330), (200, 125), pictures.frames, (18, -18))
    canvas.text((160, 484), "T frames of a video", size=20, color=GRAY)
    canvas.arrow([(300, 385), (346, 385)])


def _draw_backbone(canvas: Canvas) -> None:
    canvas.box((350, 196), (210, 378), fill=_BACKBONE.fill, outline=_BACKBONE.line, radius=14)
    canvas.text((455, 228), "ResNet-FPN", size=26, bold=True, color=_BACKBONE.line)
    for level, (stride, y) in enumerate(((32, 284), (16, 336), (8, 400), (4, 478))):
        half, rise = 38 + 14 * level, 14 + 6 * level
        slab = [
            (455 - half, y + rise),
            (455 - half + 20, y - rise),
            (455 + half, y - rise),
            (455 + half - 20, y + rise),
        ]
        canvas.polygon(slab, fill="#c5d0da", outline=_BACKBONE.line)
        canvas.text((455, y), f"1/{stride}", size=18, color=INK)
    canvas.text((455, 545), "every frame once", size=19, color=GRAY)


def _draw_decoders(canvas: Canvas) -> None:
    trunk = 600
    titles = {
        "semantic": ("Semantic decoder", "class, foreground", _SEMANTIC),
        "seediness": ("Seediness decoder", '"spike"', _SEEDINESS),
        "position": ("Embedding decoder", '"position"', _POSITION),
        "appearance": ("Appearance decoder", "per frame", _APPEARANCE),
    }
    for row, (title, subtitle, theme) in titles.items():
        middle = _ROWS[row]
        canvas.arrow([(562, 385), (trunk, 385), (trunk, middle), (638, middle)])
        canvas.box((640, middle - 62), (252, 124), fill=theme.fill, outline=theme.line, radius=14)
        canvas.text((766, middle - 36), title, size=23, bold=True, color=theme.line)
        canvas.text((766, middle - 8), subtitle, size=19, color=GRAY)
        _draw_trunk_glyph(canvas, (766, middle + 32), theme, expand_only=row == "appearance")
    canvas.text((766, 38), "Squeeze-expand\n3D decoders", size=24, bold=True)


def _draw_trunk_glyph(canvas: Canvas, center: Point, theme: _Theme, *, expand_only: bool) -> None:
    """Feature maps of a decoder: time shrinks while space stays small, then both grow."""
    heights = (14, 30) if expand_only else (30, 22, 14, 22, 30)
    widths = (12, 12) if expand_only else (26, 18, 10, 18, 26)
    x = center[0] - (sum(widths) + 12 * (len(widths) - 1)) / 2
    for i, (width, height) in enumerate(zip(widths, heights, strict=True)):
        canvas.box((x, center[1] - height / 2), (width, height), fill=theme.line, radius=3)
        if i + 1 < len(widths):
            canvas.arrow([(x + width, center[1]), (x + width + 12, center[1])], color=theme.line, line=1.2)
        x += width + 12


def _draw_outputs(canvas: Canvas, pictures: ClipPictures) -> None:
    rows = (
        ("semantic", pictures.semantic, "class logits", _SEMANTIC),
        ("seediness", pictures.seediness, "seediness", _SEEDINESS),
        ("position", pictures.offsets, "offsets, bandwidths", _POSITION),
        ("appearance", pictures.appearance, "appearance A", _APPEARANCE),
    )
    for row, images, caption, theme in rows:
        middle = _ROWS[row]
        canvas.arrow([(894, middle), (936, middle)], color=theme.line)
        _stack(canvas, (940, middle - 49), _THUMB, images[:3], (8, -8), border=theme.line)
        canvas.text((1036, middle + 78), caption, size=20, color=theme.line)


def _draw_mixing(canvas: Canvas, pictures: ClipPictures) -> None:
    """H = offset + [t, y, x, A]: the coarse Gaussian from position alone, the fine one after A is mixed in."""
    middle, plus = _ROWS["position"], (1194, _ROWS["position"])
    canvas.arrow([(1134, middle), (plus[0] - 19, middle)], color=_POSITION.line)
    _stack(canvas, (1236, 566), (120, 75), pictures.coordinates[:3], (7, -7), border=_POSITION.line)
    canvas.text((1303, 660), "coordinates t, y, x", size=19, color=_POSITION.line)
    canvas.arrow([(1234, 603), (plus[0] + 10, 603), (plus[0] + 10, middle + 16)], color=_POSITION.line)
    canvas.arrow(
        [(1134, _ROWS["appearance"]), (plus[0] - 10, _ROWS["appearance"]), (plus[0] - 10, middle + 16)],
        color=_APPEARANCE.line,
    )
    canvas.circle(plus, 18, fill="white", outline=INK, line=2.5)
    canvas.text(plus, "+", size=30, bold=True)
    canvas.arrow([(plus[0] + 19, middle), (1264, middle)])
    _stack(canvas, (1268, middle - 49), _THUMB, pictures.mixed[:3], (8, -8))
    canvas.text((1364, middle - 96), "hierarchical embedding H", size=20)
    canvas.arrow([(1464, middle), (1506, middle)])


def _draw_clustering(canvas: Canvas) -> None:
    """Points of three instances in the embedding space, each with its coarse and its fine Gaussian."""
    left, top, size = 1510, 362, 224
    canvas.arrow([(1134, _ROWS["seediness"]), (1622, _ROWS["seediness"]), (1622, top - 3)], color=_SEEDINESS.line)
    canvas.text((1500, _ROWS["seediness"] - 18), "centers", size=19, color=_SEEDINESS.line)
    canvas.box((left, top), (size, size), fill=_CLUSTER.fill, outline=_CLUSTER.line, radius=14)
    rng = np.random.default_rng(0)
    for i, (center, radii, turn) in enumerate(
        (((1575, 440), (35, 15), 32), ((1650, 432), (15, 36), 24), ((1620, 535), (40, 17), -10))
    ):
        color = tuple(int(c) for c in INSTANCE_COLORS[i + 1][::-1])
        spread = rng.normal(size=(46, 2)) * np.array(radii) / 2.3
        angle = np.radians(turn)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for point in spread @ rotation + center:
            canvas.circle(tuple(point), 2.6, fill=color)
        canvas.ellipse(center, radii, turn, color=color, line=2.5)
        canvas.ellipse(center, (1.7 * radii[0], 1.7 * radii[1]), turn, color=color, line=1.5, dashed=True)
        canvas.circle(center, 5.5, fill="white", outline=color, line=2.5)
    canvas.text((1622, 616), "Clustering, chaining", size=24, bold=True)
    canvas.text((1622, 655), "dashed: position alone (coarse),\nsolid: with appearance (fine)", size=18, color=GRAY)


def _draw_tracks(canvas: Canvas, pictures: ClipPictures) -> None:
    canvas.arrow([(1736, 474), (1766, 474)])
    _stack(canvas, (1770, 424), (168, 105), pictures.tracks, (15, -15))
    canvas.text((1868, 616), "Tracks", size=28, bold=True)
    canvas.text((1868, 644), "masks, ids, classes", size=19, color=GRAY)
    middle = _ROWS["semantic"]
    canvas.arrow([(1134, middle), (1868, middle), (1868, 372)], color=_SEMANTIC.line)
    canvas.text((1500, middle - 18), "foreground, classes", size=19, color=_SEMANTIC.line)


def _draw_flow(canvas: Canvas, pictures: ClipPictures) -> None:
    """The appearance flow and its condition on the masks, of which only training makes use."""
    theme, middle = _APPEARANCE, 852
    canvas.box((905, 762), (1061, 240), fill="#faf7fd", radius=4)
    canvas.dashed_box((905, 762), (1061, 240), color=theme.line)
    title = "Conditional appearance flow, training only"
    canvas.text((1168, 785), title, size=23, bold=True, color=theme.line, anchor="lm")
    canvas.arrow([(1036, 746), (1036, middle - 38)], color=theme.line)
    _label(canvas, (1036, middle), (170, 72), "pool, squash,\ndequantize", theme)
    canvas.arrow([(1123, middle), (1166, middle)], color=theme.line)
    canvas.box((1168, middle - 46), (560, 92), fill=theme.fill, outline=theme.line, radius=12)
    steps = ("ActNorm", "1x1 conv", "injection g1", "coupling g2")
    for step, x in zip(steps, (1241, 1373, 1509, 1649), strict=True):
        _label(canvas, (x, middle), (112 if x < 1450 else 124, 52), step, theme, fill="white")
    for start, end in ((1298, 1316), (1430, 1446), (1572, 1586)):
        canvas.arrow([(start, middle), (end, middle)], color=theme.line, line=2)
    canvas.text((1722, 787), "K steps", size=19, anchor="rm", color=theme.line)
    canvas.arrow([(1730, middle), (1790, middle)], color=theme.line)
    _label(canvas, (1868, middle), (152, 72), "z with a\nGaussian prior", theme)
    _draw_condition(canvas, pictures, theme)


def _draw_condition(canvas: Canvas, pictures: ClipPictures, theme: _Theme) -> None:
    middle = 951
    _stack(canvas, (1052, middle - 27), (96, 60), pictures.masks[:3], (7, -7), border=theme.line)
    canvas.text((1038, middle + 2), "ground-truth\nmasks", size=19, color=GRAY, anchor="rm")
    canvas.arrow([(1166, middle), (1196, middle)], color=theme.line, dashed=True)
    _label(canvas, (1290, middle), (184, 46), "condition encoder", theme, fill="white")
    for x in (1509, 1649):
        canvas.arrow([(1384, middle), (x, middle), (x, 880)], color=theme.line, dashed=True)
    canvas.arrow([(1868, 890), (1868, 930)], color=theme.line)
    canvas.text((1868, middle), "bits per dimension", size=20, color=theme.line)


def _label(canvas: Canvas, center: Point, size: Point, text: str, theme: _Theme, *, fill: str | None = None) -> None:
    corner = center[0] - size[0] / 2, center[1] - size[1] / 2
    canvas.box(corner, size, fill=fill or theme.fill, outline=theme.line, radius=9)
    canvas.text(center, text, size=19)


def _stack(
    canvas: Canvas, corner: Point, size: Point, images: Sequence[np.ndarray], step: Point, *, border: str = INK
) -> None:
    """Pictures behind each other, the first one in front with its corner at (x, y)."""
    for i in reversed(range(len(images))):
        canvas.picture((corner[0] + i * step[0], corner[1] + i * step[1]), size, images[i], border=border)


def _draw_losses(canvas: Canvas) -> None:
    """The losses, beside the parts that they train."""
    left, top = 34, 716
    canvas.text((left, top), "Training losses", size=24, bold=True, anchor="lm")
    losses = (
        (_SEMANTIC, "cross-entropy of classes and foreground"),
        (_SEEDINESS, "squared error to the Gaussian's probability"),
        (_POSITION, "Lovasz hinge on the Gaussian's probability,\nsmoothness of bandwidths"),
        (_APPEARANCE, "the same, through H = offset + [t, y, x, A];\nbits per dimension of A given the masks"),
    )
    y = top + 44
    for theme, text in losses:
        canvas.box((left, y - 11), (22, 22), fill=theme.line, radius=5)
        canvas.text((left + 36, y - 12), text, size=20, anchor="la")
        y += 66 if "\n" in text else 40
