"""Timing of functions against each other, fair on a machine that others use too, and the limit of a machine."""

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


def arithmetic_limit(device: torch.device, dtype: torch.dtype) -> float:
    """The most floating-point operations per second that a product of two matrices reaches here, with all threads.

    The best of several sizes: small ones take so short that some are not disturbed by whoever else uses the machine.
    """
    sizes = (4096, 8192) if device.type == "cuda" else (384, 768, 1536)
    return max(_product_rate(size, device, dtype) for size in sizes)


def _product_rate(size: int, device: torch.device, dtype: torch.dtype, *, repeats: int = 10) -> float:
    a, b = (torch.rand((size, size), device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for turn in range(repeats + 1):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        if turn:
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()
