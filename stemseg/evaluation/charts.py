"""Plain line and bar charts, drawn with Pillow so that no plotting package is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image

from stemseg.utils.canvas import Canvas, Point
from stemseg.utils.text import shorten

_SCALE = 2  # drawn this much larger, then reduced: smooth lines
_COLORS = ("#1f6fb4", "#e07b27", "#3a9a4b", "#b8383d", "#7e5fb0", "#5c6670")
_INK, _GRID = "#30353b", "#dfe3e8"
_TEXT, _TITLE = 13, 17  # pixels
_MARGIN = 18
_LABEL_LENGTH = 34  # characters
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class _Chart(Canvas):
    """A canvas in the charts' style."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height, supersampling=_SCALE)

    def write(self, x: float, y: float, text: str, anchor: str = "lm", *, size: int = _TEXT) -> None:
        """Text in the charts' ink."""
        self.text((x, y), text, size=size, color=_INK, anchor=anchor)

    def bar(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        """A plain filled rectangle."""
        self.box((left, top), (right - left, bottom - top), fill=color, radius=0)

    def grid_line(self, start: Point, end: Point) -> None:
        """A line behind the figures."""
        self.line([start, end], color=_GRID, line=1)


def line_chart(title: str, x_label: str, y_label: str, xs: Sequence[float], ys: Sequence[float]) -> Image.Image:
    """A line with dots: fractions ``ys`` over increasing positions ``xs``, NaN left out."""
    canvas = _Chart(640, 400)
    left, top, right, bottom = 62, 60, 620, 344
    first, span = xs[0], (xs[-1] - xs[0]) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (x - first) / span * (right - left), bottom - y * (bottom - top)

    canvas.write(left, 24, title, size=_TITLE)
    for tick in _TICKS:
        y = place(first, tick)[1]
        canvas.grid_line((left, y), (right, y))
        canvas.write(left - 8, y, f"{tick:.1f}", "rm")
    for x in xs:
        canvas.write(place(x, 0)[0], bottom + 14, f"{x:g}", "mm")
    canvas.write((left + right) / 2, bottom + 38, x_label, "mm")
    canvas.write(8, top, y_label, "lm")
    points = [place(x, y) for x, y in zip(xs, ys, strict=True) if not math.isnan(y)]
    if len(points) > 1:
        canvas.line(points, color=_COLORS[0])
    for (x, y), value in zip(points, (value for value in ys if not math.isnan(value)), strict=True):
        canvas.circle((x, y), 3.5, fill=_COLORS[0])
        canvas.write(x, y - 14, f"{value:.2f}", "mm", size=_TEXT - 2)
    return canvas.finish()


def bar_chart(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Image.Image:
    """Horizontal bars from 0 to 1, one per row and column, with their values; a row per sequence or class.

    Values below 0 are drawn as 0 and written as they are; NaN is "-".
    """
    thickness, gap = 13, 10
    row_height = thickness * len(columns) + gap
    label_width = 30 + int(max((_text_width(shorten(name, _LABEL_LENGTH)) for name in rows), default=0))
    canvas = _Chart(label_width + 560, 84 + row_height * len(rows) + 2 * _MARGIN)
    left, right, top = label_width, label_width + 480, 84
    bottom = top + row_height * len(rows)
    canvas.write(_MARGIN, 24, title, size=_TITLE)
    _legend(canvas, columns, left)
    for tick in _TICKS:
        x = left + tick * (right - left)
        canvas.grid_line((x, top - 6), (x, bottom))
        canvas.write(x, bottom + 12, f"{tick:.1f}", "mm")
    for i, (name, values) in enumerate(rows.items()):
        y = top + i * row_height
        canvas.write(left - 8, y + thickness * len(columns) / 2, shorten(name, _LABEL_LENGTH), "rm")
        for j, value in enumerate(values):
            end = left + min(1.0, max(0.0, 0.0 if math.isnan(value) else value)) * (right - left)
            canvas.bar(left, y + j * thickness + 1, end, y + (j + 1) * thickness - 2, _COLORS[j % len(_COLORS)])
            text = "-" if math.isnan(value) else f"{value:.3f}"
            canvas.write(end + 5, y + (j + 0.5) * thickness, text, size=_TEXT - 2)
    return canvas.finish()


def _legend(canvas: _Chart, columns: Sequence[str], left: float) -> None:
    x = left
    for j, name in enumerate(columns):
        canvas.bar(x, 53, x + 10, 63, _COLORS[j % len(_COLORS)])
        canvas.write(x + 15, 58, name)
        x += 35 + _text_width(name)


def _text_width(text: str) -> float:
    return Canvas.text_width(text, _TEXT, supersampling=_SCALE)
