"""Reports of an evaluation for people: tables on the console, JSON, CSV, charts, pictures of the worst cases.

Every evaluation gives a :class:`Report`, whose :class:`MetricTable` s hold its figures, and finds its
:class:`WorstCase` s: the objects with the lowest score, drawn in their worst frame, ground truth beside results.
"""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from stemseg.utils.drawing import draw_instances, draw_text, enlarge, enlarge_mask, tile, write_image
from stemseg.utils.errors import DataError
from stemseg.utils.files import IMAGE_SUFFIXES, file_name, write_file, write_text

Cell = float | int
_HEADER = 26  # pixels above each picture of a worst case for its caption
_MIN_SIDE = 480  # pixels: smaller pictures are enlarged until they can be read


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
    """The outcome of an evaluation."""

    def tables(self) -> list[MetricTable]:
        """The mean first, then the details."""

    def scalars(self) -> dict[str, float]:
        """The headline figures by name, for TensorBoard and one-line summaries."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome of a run.

    Attributes:
        report: the figures.
        charts: pictures by name.
        find_worst: the K worst cases.
    """

    report: Report
    charts: dict[str, Image.Image]
    find_worst: Callable[[int], list[WorstCase]]


def _undefined(value: Cell) -> bool:
    return isinstance(value, float) and math.isnan(value)


@dataclass(frozen=True)
class WorstCase:
    """One object in one frame.

    Attributes:
        sequence: its video.
        image_path: of the frame, relative to the images' folder; its extension may differ.
        score: the figure by which it is among the worst, lower is worse ...
        measure: ... and what that is, such as "J&F".
        title: what is wrong, for the caption.
        truth: mask [H, W] of the object in question.
        results: masks [H, W] of the results in this frame, by id.
        captions: text for some of these ids.
    """

    sequence: str
    image_path: str
    score: float
    measure: str
    title: str
    truth: np.ndarray
    results: Mapping[int, np.ndarray]
    captions: Mapping[int, str] = field(default_factory=dict)


def draw_worst_cases(cases: Sequence[WorstCase], images: str | Path, output: str | Path) -> list[Path]:
    """Write ``<rank>_<sequence>_<frame>.png`` for each case: the object on the left, the results on the right.

    Raises:
        DataError: where a frame's image is not in ``images``, or has another size than the masks.
    """
    paths = []
    for rank, case in enumerate(cases, start=1):
        frame = Path(case.image_path).stem
        path = Path(output) / f"{rank:02d}_{file_name(case.sequence)}_{frame}.png"
        write_image(path, draw_case(case, find_image(Path(images), case.image_path)))
        paths.append(path)
    return paths


def draw_case(case: WorstCase, image: np.ndarray) -> np.ndarray:
    """The picture of one case, B G R uint8."""
    if image.shape[:2] != case.truth.shape:
        raise DataError(
            f"sequence '{case.sequence}', image {case.image_path} is {image.shape[0]} x {image.shape[1]} (height x "
            f"width), its masks are {case.truth.shape[0]} x {case.truth.shape[1]}; is --images of another resolution?"
        )
    large = enlarge(image, _MIN_SIDE)
    left = draw_instances(large, {1: enlarge_mask(case.truth, _MIN_SIDE)})
    results = {i: enlarge_mask(mask, _MIN_SIDE) for i, mask in case.results.items()}
    right = draw_instances(large, results, {i: _overlap_texts(case, i) for i in results})
    panels = []
    for panel, text in ((left, f"truth: {case.title}"), (right, f"results: {case.measure} {case.score:.3f}")):
        panels.append(cv2.copyMakeBorder(panel, _HEADER, 0, 0, 0, cv2.BORDER_CONSTANT, value=(64, 64, 64)))
        draw_text(panels[-1], text, (6, _HEADER - 9))
    return tile(panels, 2)


def _overlap_texts(case: WorstCase, number: int) -> list[str]:
    """Captions of a result from long to short: its name, and its IoU with the object in this frame."""
    truth, found = case.truth != 0, case.results[number] != 0
    iou = (truth & found).sum() / max((truth | found).sum(), 1)
    return [f"{case.captions.get(number, number)} IoU {iou:.2f}", f"IoU {iou:.2f}"]


def find_image(folder: Path, relative: str) -> np.ndarray:
    """The image of a frame, B G R uint8, whichever extension it has.

    Raises:
        DataError: where it is missing or damaged.
    """
    base = folder / relative
    for candidate in [base, *(base.with_suffix(suffix) for suffix in IMAGE_SUFFIXES)]:
        if candidate.is_file():
            image = cv2.imread(str(candidate), cv2.IMREAD_COLOR)
            if image is None:
                raise DataError(f"{candidate} is not a readable image; extract it again")
            return image
    raise DataError(
        f"image {base} does not exist (nor with {', '.join(IMAGE_SUFFIXES)}); let --images name the folder that the "
        "annotations' image paths are relative to"
    )


def console_text(report: Report) -> str:
    """All tables, aligned, with an empty line between them."""
    return "\n\n".join(str(table) for table in report.tables())


def write_evaluation(
    evaluation: Evaluation, output: str | Path, *, worst: int = 0, images: str | Path | None = None
) -> list[Path]:
    """Write ``metrics.json``, a CSV per table, the charts, and, in ``worst/``, the worst cases; returns the paths.

    Args:
        worst: number of worst cases to draw.
        images: folder of the videos' frames, needed for them.

    Raises:
        DataError: where worst cases are wanted and ``images`` is not given, or lacks an image.
    """
    if worst and images is None:
        raise DataError("the worst cases are drawn over the videos' frames: name their folder with --images")
    output = Path(output)
    tables = evaluation.report.tables()
    paths = [_write(output / "metrics.json", _to_json(evaluation.report, tables))]
    paths += [_write(output / f"{table.title}.csv", table.to_csv()) for table in tables]
    for name, chart in evaluation.charts.items():
        paths.append(output / f"{name}.png")
        write_file(paths[-1], functools.partial(chart.save, format="PNG"))
    if worst and images is not None:
        paths += draw_worst_cases(evaluation.find_worst(worst), images, output / "worst")
    return paths


def _to_json(report: Report, tables: list[MetricTable]) -> str:
    scalars = {name: None if value != value else value for name, value in report.scalars().items()}  # NaN -> null
    return json.dumps({"summary": scalars, **{table.title: table.to_dict() for table in tables}}, indent=1)


def _write(path: Path, text: str) -> Path:
    write_text(path, text)
    return path
