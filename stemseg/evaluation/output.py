"""What a person gets from an evaluation: tables on the console, JSON, CSV, charts, and pictures of the worst cases."""

from __future__ import annotations

import json
from pathlib import Path

from stemseg.evaluation.runs import Evaluation
from stemseg.evaluation.tables import MetricTable, Report
from stemseg.evaluation.worst_cases import draw_worst_cases
from stemseg.utils.errors import DataError


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
    output.mkdir(parents=True, exist_ok=True)
    tables = evaluation.report.tables()
    paths = [_write(output / "metrics.json", _to_json(evaluation.report, tables))]
    paths += [_write(output / f"{table.title}.csv", table.to_csv()) for table in tables]
    for name, chart in evaluation.charts.items():
        paths.append(output / f"{name}.png")
        chart.save(paths[-1])
    if worst:
        paths += draw_worst_cases(evaluation.find_worst(worst), images, output / "worst")
    return paths


def _to_json(report: Report, tables: list[MetricTable]) -> str:
    scalars = {name: None if value != value else value for name, value in report.scalars().items()}  # NaN -> null
    return json.dumps({"summary": scalars, **{table.title: table.to_dict() for table in tables}}, indent=1)


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
