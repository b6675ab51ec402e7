"""Tables of figures: what every evaluation gives, and the console, JSON and CSV show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Cell = float | int


@dataclass(frozen=True)
class MetricTable:
    """Figures by row and column.

    Attributes:
        title: what the rows are, such as "class" or "sequence"; heads the first column.
        columns: name of each figure.
        rows: name of the row -> its figures; NaN where a figure is not defined.
        decimals: of the fractions on the console; whole numbers (counts) are shown as such.
    """

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    decimals: int = 3

    def __str__(self) -> str:
        """Aligned text."""
        lines = [[self.title, *self.columns]]
        lines += [[name, *(self._format(value) for value in values)] for name, values in self.rows.items()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        texts = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])

    def to_csv(self) -> str:
        """Comma-separated text with a header line, figures in full precision, undefined ones empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([self.title, *self.columns])
        writer.writerows([name, *("" if _undefined(v) else v for v in values)] for name, values in self.rows.items())
        return text.getvalue()

    def to_dict(self) -> dict[str, dict[str, Cell | None]]:
        """Row name -> column name -> figure, ready for JSON; None where undefined."""
        return {
            name: {c: None if _undefined(v) else v for c, v in zip(self.columns, values, strict=True)}
            for name, values in self.rows.items()
        }

    def _format(self, value: Cell) -> str:
        if _undefined(value):
            return "-"
        # adding 0 turns the -0.000 of a small negative figure into 0.000
        return str(value) if isinstance(value, int) else f"{round(value, self.decimals) + 0.0:.{self.decimals}f}"


class Report(Protocol):
    """What an evaluation returns."""

    def tables(self) -> list[MetricTable]:
        """The mean first, then the details."""

    def scalars(self) -> dict[str, float]:
        """The headline figures by name, for TensorBoard and one-line summaries."""


def _undefined(value: Cell) -> bool:
    return isinstance(value, float) and math.isnan(value)
