"""Timing of functions against each other, fair on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch


def best_seconds(
    functions: Mapping[str, Callable[[], object]], *, repeats: int, device: torch.device
) -> dict[str, float]:
    """Seconds of each function's fastest run: processor time of one thread on a CPU, wall-clock time on a GPU.

    All are called once to warm up, and then in turns, so that a change in the machine's load meets all of them alike.
    """
    torch.set_num_threads(1)
    best = dict.fromkeys(functions, float("inf"))
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = _now(device)
            function()
            if turn:
                best[name] = min(best[name], _now(device) - start)
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()
