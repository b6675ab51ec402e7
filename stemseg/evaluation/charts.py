"""Plain line and bar charts, drawn with Pillow so that no plotting package is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_SCALE = 2  # drawn this much larger, then reduced: smooth lines
_COLORS = ("#1f6fb4", "#e07b27", "#3a9a4b", "#b8383d", "#7e5fb0", "#5c6670")
_INK, _GRID, _PAPER = "#30353b", "#dfe3e8", "#ffffff"
_TEXT, _TITLE = 13, 17  # pixels
_MARGIN = 18
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class _Canvas:
    """A white picture with text and shapes in the final picture's pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * _SCALE, height * _SCALE), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 1) -> None:
        self._draw.line(_scaled(points), fill=color, width=round(width * _SCALE), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        self._draw.rectangle(_scaled([(left, top), (right, bottom)]), fill=color)

    def dot(self, x: float, y: float, radius: float, color: str) -> None:
        self._draw.ellipse(_scaled([(x - radius, y - radius), (x + radius, y + radius)]), fill=color)

    def text(self, x: float, y: float, text: str, anchor: str = "lm", *, size: int = _TEXT) -> None:
        self._draw.text((x * _SCALE, y * _SCALE), text, fill=_INK, font=_font(size), anchor=anchor)

    def finish(self) -> Image.Image:
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)


def line_chart(title: str, x_label: str, y_label: str, xs: Sequence[float], ys: Sequence[float]) -> Image.Image:
    """A line with dots: fractions ``ys`` over increasing positions ``xs``, NaN left out."""
    canvas = _Canvas(640, 400)
    left, top, right, bottom = 62, 60, 620, 344
    first, span = xs[0], (xs[-1] - xs[0]) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - first) / span * (right - left), bottom - y * (bottom - top)

    canvas.text(left, 24, title, size=_TITLE)
    for tick in _TICKS:
        y = place(first, tick)[1]
        canvas.line([(left, y), (right, y)], _GRID)
        canvas.text(left - 8, y, f"{tick:.1f}", "rm")
    for x in xs:
        canvas.text(place(x, 0)[0], bottom + 14, f"{x:g}", "mm")
    canvas.text((left + right) / 2, bottom + 38, x_label, "mm")
    canvas.text(8, top, y_label, "lm")
    points = [place(x, y) for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]
    if len(points) > 1:
        canvas.line(points, _COLORS[0], 2)
    for (x, y), value in zip(points, (value for value in ys if not math.isnan(value)), strict=True):
        canvas.dot(x, y, 3.5, _COLORS[0])
        canvas.text(x, y - 14, f"{value:.2f}", "mm", size=_TEXT - 2)
    return canvas.finish()


def bar_chart(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Image.Image:
    """Horizontal bars from 0 to 1, one per row and column, with their values; a row per sequence or class.

    Values below 0 are drawn as 0 and written as they are; NaN is "-".
    """
    thickness, gap = 13, 10
    row_height = thickness * len(columns) + gap
    label_width = 30 + int(max((_text_width(_short(name, 34)) for name in rows), default=0))
    canvas = _Canvas(label_width + 560, 84 + row_height * len(rows) + 2 * _MARGIN)
    left, right, top = label_width, label_width + 480, 84
    bottom = top + row_height * len(rows)
    canvas.text(_MARGIN, 24, title, size=_TITLE)
    _legend(canvas, columns, left)
    for tick in _TICKS:
        x = left + tick * (right - left)
        canvas.line([(x, top - 6), (x, bottom)], _GRID)
        canvas.text(x, bottom + 12, f"{tick:.1f}", "mm")
    for i, (name, values) in enumerate(rows.items()):
        y = top + i * row_height
        canvas.text(left - 8, y + thickness * len(columns) / 2, _short(name, 34), "rm")
        for j, value in enumerate(values):
            end = left + min(1.0, max(0.0, 0.0 if math.isnan(value) else value)) * (right - left)
            canvas.box(left, y + j * thickness + 1, end, y + (j + 1) * thickness - 2, _COLORS[j % len(_COLORS)])
            text = "-" if math.isnan(value) else f"{value:.3f}"
            canvas.text(end + 5, y + (j + 0.5) * thickness, text, size=_TEXT - 2)
    return canvas.finish()


def _legend(canvas: _Canvas, columns: Sequence[str], left: float) -> None:
    x = left
    for j, name in enumerate(columns):
        canvas.box(x, 53, x + 10, 63, _COLORS[j % len(_COLORS)])
        canvas.text(x + 15, 58, name)
        x += 35 + _text_width(name)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)


def _text_width(text: str) -> float:
    return _font(_TEXT).getlength(text) / _SCALE


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _scaled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * _SCALE, y * _SCALE) for x, y in points]
