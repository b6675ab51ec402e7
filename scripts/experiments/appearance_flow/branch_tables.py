"""Tables of the branches: means over orders, differences from the mask loss, tests over bases and their power."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

FIGURES = {
    "reidentified": "pixels re-identified",
    "reidentified_free": "by all free dimensions",
    "joined": "pairs joined",
    "switched": "identity switches",
    "ap": "AP",
    "ap_oracle_order": "AP, oracle order",
}
"""Head of each figure's column; the first is the primary one."""

Results = Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]]  # of each variant, base and order


class Comparison(NamedTuple):
    """A variant's lead over the mask loss in one figure, over B bases.

    Attributes:
        mean: of the bases' differences.
        error: standard error of it; NaN for a single base.
        p: two-sided, of the t test over bases; NaN for a single base.
        resolved: the smallest true lead that a test at 5 % finds with a power of 80 %, given this spread.
        bases: B.
    """

    mean: float
    error: float
    p: float
    resolved: float
    bases: int


def base_means(results: Results, figure: str) -> dict[str, dict[int, float]]:
    """Mean over orders of one figure, of each variant and base that have it."""
    means: dict[str, dict[int, float]] = {}
    for name, bases in results.items():
        for base, orders in bases.items():
            values = [order[figure] for order in orders if figure in order]
            if values:
                means.setdefault(name, {})[base] = statistics.fmean(values)
    return means


def compare(means: Mapping[str, Mapping[int, float]], name: str, reference: str) -> Comparison | None:
    """The lead of a variant over another on the bases that both have; None where there is none."""
    mine, other = means.get(name, {}), means.get(reference, {})
    leads = [mine[base] - other[base] for base in sorted(mine.keys() & other.keys())]
    if not leads:
        return None
    mean, count = statistics.fmean(leads), len(leads)
    if count == 1:
        return Comparison(mean, math.nan, math.nan, math.nan, 1)
    error = statistics.stdev(leads) / math.sqrt(count)
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else math.nan
    return Comparison(mean, error, p, smallest_resolved(error, count), count)


def smallest_resolved(error: float, count: int, *, level: float = 0.05, power: float = 0.8) -> float:
    """The true difference that a two-sided paired t test over ``count`` bases finds with this power, by its error."""
    low, high = 0.0, 1000.0
    critical = stats.t.ppf(1 - level / 2, count - 1)
    for _ in range(60):
        middle = (low + high) / 2
        reached = stats.nct.sf(critical, count - 1, middle)
        low, high = (middle, high) if not reached >= power else (low, middle)
    return high * error


def mean_rows(results: Results) -> list[list[str]]:
    """Mean of each figure over bases, in per cent, as texts; the head first."""
    columns = {figure: means for figure in FIGURES if (means := base_means(results, figure))}
    rows = [["variant", "bases", "orders", *(FIGURES[figure] for figure in columns)]]
    for name, bases in results.items():
        cells = [
            f"{100 * statistics.fmean(means[name].values()):.1f}" if name in means else "-"
            for means in columns.values()
        ]
        rows.append([name, str(len(bases)), str(sum(map(len, bases.values()))), *cells])
    return rows


def lead_rows(results: Results, reference: str) -> list[list[str]]:
    """Each variant's lead in points, mean ± standard error over bases; test and power of the primary figure."""
    columns = {figure: means for figure in FIGURES if (means := base_means(results, figure))}
    rows = [["variant", "bases", *(FIGURES[figure] for figure in columns), "p", "resolved at 80 %"]]
    for name in results:
        leads = [compare(means, name, reference) for means in columns.values()]
        if name == reference or leads[0] is None:
            continue
        first = leads[0]
        p, resolved = (
            "-" if math.isnan(v) else text
            for v, text in ((first.p, f"{first.p:.3f}"), (first.p, f"{100 * first.resolved:.1f}"))
        )
        rows.append([name, str(first.bases), *map(_lead_text, leads), p, resolved])
    return rows


def _lead_text(lead: Comparison | None) -> str:
    if lead is None:
        return "-"
    mean = f"{100 * lead.mean:+.1f}"
    return mean if math.isnan(lead.error) else f"{mean} ± {100 * lead.error:.1f}"
