"""The ablation's table: mean and spread over seeds of every figure and variant, as text, Markdown and JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from scripts.experiments.appearance_flow.measure import RunFigures


class Column(NamedTuple):
    """A column of the table: its head, the figure, a factor (100: per cent), and decimals."""

    head: str
    figure: str
    factor: float = 100.0
    decimals: int = 1


COLUMNS = (
    Column("AP", "ap"),
    Column("AP50", "ap50"),
    Column("AP classes", "ap_classes"),
    Column("track IoU", "track_iou"),
    Column("mask IoU", "mask_iou"),
    Column("kept", "kept"),
    Column("switched", "switched"),
    Column("re-id accuracy", "reid_accuracy"),
    Column("by A", "reid_accuracy_by_appearance"),
    Column("mask alignment", "mask_alignment", 1, 3),
    Column("flow alignment", "flow_alignment", 1, 3),
    Column("mask loss", "lovasz", 1, 3),
    Column("bits/dim", "bits_per_dimension", 1, 2),
    Column("A between", "appearance_between", 1, 3),
    Column("A within", "appearance_within", 1, 3),
)

COMPARED = tuple(
    column for column in COLUMNS if column.figure in ("ap", "track_iou", "kept", "reid_accuracy", "lovasz")
)

Results = Mapping[str, Mapping[int, RunFigures]]  # of each variant and seed


class MeanAndSpread(NamedTuple):
    """Mean and sample standard deviation of the values that are defined; both NaN where none is, the spread for one."""

    mean: float
    spread: float
    count: int

    def text(self, column: Column, *, signed: bool = False) -> str:
        """ "71.2 ± 0.8" in the column's units, without the spread of a single value; "-" where nothing is defined."""
        if not self.count:
            return "-"
        mean = f"{self.mean * column.factor:{'+' if signed else ''}.{column.decimals}f}"
        return mean if self.count == 1 else f"{mean} ± {self.spread * column.factor:.{column.decimals}f}"


def summarize(values: Sequence[float]) -> MeanAndSpread:
    """Mean and spread over seeds; undefined values are left out."""
    defined = [value for value in values if not math.isnan(value)]
    mean = statistics.fmean(defined) if defined else math.nan
    spread = statistics.stdev(defined) if len(defined) > 1 else math.nan
    return MeanAndSpread(mean, spread, len(defined))


def table_rows(results: Results) -> list[list[str]]:
    """The table as texts, its head first; a column that no variant defines is left out."""
    summaries = {
        name: {column: summarize([getattr(f, column.figure) for f in figures.values()]) for column in COLUMNS}
        for name, figures in results.items()
    }
    shown = [column for column in COLUMNS if any(row[column].count for row in summaries.values())]
    head = ["variant", "seeds", *(column.head for column in shown)]
    body = [
        [name, str(len(results[name])), *(row[column].text(column) for column in shown)]
        for name, row in summaries.items()
    ]
    return [head, *body]


def difference_rows(results: Results, baseline: str) -> list[list[str]]:
    """The lead of each variant over the baseline with the same seed: mean ± standard error of the mean, as texts.

    The same seed draws the same clips and initial weights, so a difference varies less than its parts. Variants without
    a seed in common with the baseline are left out.
    """
    rows = [["variant", "pairs", *(column.head for column in COMPARED)]]
    base = results.get(baseline, {})
    for name, figures in results.items():
        seeds = sorted(figures.keys() & base.keys())
        if name == baseline or not seeds:
            continue
        gains = {c: [vars(figures[s])[c.figure] - vars(base[s])[c.figure] for s in seeds] for c in COMPARED}
        summaries = {column: summarize(values) for column, values in gains.items()}
        errors = {c: s._replace(spread=s.spread / math.sqrt(max(1, s.count))) for c, s in summaries.items()}
        rows.append([name, str(len(seeds)), *(errors[column].text(column, signed=True) for column in COMPARED)])
    return rows


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left."""
    return _lay_out(rows, join="  ".join, rule=lambda widths: "-" * (sum(widths) + 2 * len(widths) - 2))


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown, aligned in its source too."""
    return _lay_out(
        rows,
        join=lambda cells: f"| {' | '.join(cells)} |",
        rule=lambda widths: (
            f"|{'|'.join('-' * (w + 2) if i == 0 else '-' * (w + 1) + ':' for i, w in enumerate(widths))}|"
        ),
    )


def to_json(results: Results) -> dict[str, object]:
    """Every run's figures, and mean and spread of each variant's; None where undefined."""
    content: dict[str, object] = {}
    for name, figures in results.items():
        runs = {str(seed): {k: _plain(v) for k, v in vars(f).items()} for seed, f in figures.items()}
        summaries = {k: summarize([vars(f)[k] for f in figures.values()]) for k in RunFigures.__dataclass_fields__}
        content[name] = {
            "runs": runs,
            "mean": {k: _plain(s.mean) for k, s in summaries.items()},
            "spread": {k: _plain(s.spread) for k, s in summaries.items()},
        }
    return content


def _lay_out(
    rows: Sequence[Sequence[str]], *, join: Callable[[list[str]], str], rule: Callable[[list[int]], str]
) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0], rule(widths), *lines[1:]])


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
