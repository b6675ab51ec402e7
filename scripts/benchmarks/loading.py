"""Training samples per second, and where the time of one goes."""

from __future__ import annotations

import math

from scripts.benchmark_data import benchmark_loading
from stemseg.evaluation.tables import MetricTable


def benchmark_data_loading(*, repeats: int) -> MetricTable:
    """Samples and, indented below, the steps of a still sample; "naive" is a warp and a resize for each mask."""
    rows: dict[str, tuple[float, float, float, float]] = {}
    for timing in benchmark_loading(repeats=repeats):
        naive = math.nan if timing.straightforward is None else timing.straightforward
        rows[timing.name] = (timing.ours, 1000 / timing.ours, naive, naive / timing.ours)
    return MetricTable("loading", ("ours ms", "per second", "naive ms", "speed-up"), rows, decimals=1)
