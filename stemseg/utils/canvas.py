"""A drawing surface for figures and charts: antialiased boxes, lines, arrows, text and pictures, on Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Point = tuple[float, float]
Color = str | tuple[int, int, int]

INK = "#26303a"
GRAY = "#6b7780"


class Canvas:
    """Draws in units of the final picture's pixels; everything is drawn larger and reduced in the end."""

    def __init__(self, width: int, height: int, *, supersampling: int = 3) -> None:
        self._factor = supersampling
        self._size = width, height
        self._image = Image.new("RGB", (width * supersampling, height * supersampling), "white")
        self._draw = ImageDraw.Draw(self._image)

    @staticmethod
    def text_width(text: str, size: float, *, supersampling: int = 3) -> float:
        """Pixels that a line of text takes."""
        return ImageFont.load_default(size * supersampling).getlength(text) / supersampling

    def line(self, points: Sequence[Point], *, color: Color = INK, line: float = 2) -> None:
        """A polyline with rounded corners."""
        self._draw.line(self._scaled(points), fill=color, width=round(line * self._factor), joint="curve")

    def box(
        self,
        corner: Point,
        size: Point,
        *,
        fill: Color | None,
        outline: Color | None = None,
        radius: float = 10,
        line: float = 2,
    ) -> None:
        """A rounded rectangle with its upper left corner at (x, y)."""
        x, y = corner
        bounds = self._scaled([(x, y), (x + size[0], y + size[1])])
        width = round(line * self._factor) if outline else 0
        self._draw.rounded_rectangle(bounds, radius * self._factor, fill=fill, outline=outline, width=width)

    def dashed_box(self, corner: Point, size: Point, *, color: Color, line: float = 2) -> None:
        """A rectangle of dashes."""
        (x, y), (w, h) = corner, size
        corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
        for start, end in pairwise(corners):
            self._dashes(start, end, color, line)

    def polygon(self, points: Sequence[Point], *, fill: Color, outline: Color | None = None, line: float = 2) -> None:
        """A filled polygon."""
        scaled = self._scaled(points)
        self._draw.polygon(scaled, fill=fill)
        if outline:
            closed = [*scaled, scaled[0], scaled[1]]
            self._draw.line(closed, fill=outline, width=round(line * self._factor), joint="curve")

    def circle(
        self, center: Point, radius: float, *, fill: Color, outline: Color | None = None, line: float = 2
    ) -> None:
        """A disc with an outline."""
        width = round(line * self._factor) if outline else 0
        scaled = self._scaled([center])[0]
        self._draw.circle(scaled, radius * self._factor, fill=fill, outline=outline, width=width)

    def ellipse(
        self, center: Point, radii: Point, degrees: float, *, color: Color, line: float = 2, dashed: bool = False
    ) -> None:
        """The outline of an ellipse turned clockwise."""
        turn = math.radians(degrees)
        cos, sin = math.cos(turn), math.sin(turn)
        angles = np.linspace(0, 2 * np.pi, 120)
        a, b = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
        points = list(zip(center[0] + a * cos - b * sin, center[1] + a * sin + b * cos, strict=True))
        for i, (start, end) in enumerate(pairwise(points)):
            if not dashed or i % 4 < 2:
                self._stroke(start, end, color, line)

    def text(
        self,
        position: Point,
        text: str,
        *,
        size: float = 22,
        color: Color = INK,
        anchor: str = "mm",
        bold: bool = False,
    ) -> None:
        """One or more lines of text; ``anchor`` is Pillow's: "mm" is the middle, "lm" the left middle."""
        font = ImageFont.load_default(size=size * self._factor)
        align = {"l": "left", "m": "center", "r": "right"}[anchor[0]]
        weight = round(size * self._factor / 48) if bold else 0  # the font has no bold face
        self._draw.text(
            self._scaled([position])[0], text, fill=color, font=font, anchor=anchor, align=align, spacing=0.35 * size,
            stroke_width=weight, stroke_fill=color,
        )  # fmt: skip

    def arrow(self, points: Sequence[Point], *, color: Color = INK, line: float = 3, dashed: bool = False) -> None:
        """A polyline that ends in an arrowhead."""
        *_, before, tip = points
        length = math.dist(before, tip)
        direction = np.subtract(tip, before) / length
        head = 4.6 * line
        neck = tuple(np.subtract(tip, direction * head * 0.8))
        segments = list(zip(points[:-1], [*points[1:-1], neck], strict=True))
        for start, end in segments:
            self._dashes(start, end, color, line) if dashed else self._stroke(start, end, color, line)
        side = np.array([-direction[1], direction[0]]) * head * 0.5
        base = np.subtract(tip, direction * head)
        self._draw.polygon(self._scaled([tip, tuple(base + side), tuple(base - side)]), fill=color)

    def picture(self, corner: Point, size: Point, image: np.ndarray, *, border: Color = INK, line: float = 1.5) -> None:
        """A picture, [H, W, 3] uint8 in B G R order, resized into the box and framed."""
        (left, top), (right, bottom) = self._scaled([corner, (corner[0] + size[0], corner[1] + size[1])])
        box = round(left), round(top), round(right), round(bottom)
        picture = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
        self._image.paste(picture.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BICUBIC), box[:2])
        self._draw.rectangle(box, outline=border, width=round(line * self._factor))

    def finish(self) -> Image.Image:
        """The picture at its final size."""
        return self._image.resize(self._size, Image.Resampling.LANCZOS)

    def _scaled(self, points: Sequence[Point]) -> list[Point]:
        return [(float(x) * self._factor, float(y) * self._factor) for x, y in points]

    def _stroke(self, start: Point, end: Point, color: Color, line: float) -> None:
        width = round(line * self._factor)
        ends = self._scaled([start, end])
        self._draw.line(ends, fill=color, width=width)
        for point in ends:  # round ends close the corners of a polyline
            self._draw.circle(point, width / 2, fill=color)

    def _dashes(self, start: Point, end: Point, color: Color, line: float, *, dash: float = 9, gap: float = 6) -> None:
        length = math.dist(start, end)
        direction = np.subtract(end, start) / max(length, 1e-6)
        for begin in np.arange(0, length, dash + gap):
            stop = min(begin + dash, length)
            self._stroke(tuple(start + direction * begin), tuple(start + direction * stop), color, line)
