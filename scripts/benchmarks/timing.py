"""Timing of functions against each other, fair on a machine that others use too, and the limit of a machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch.nn.functional import conv2d


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
    """The most floating-point operations per second that a product or a convolution alone reaches, with all threads.

    The best of several: which library is fast depends on the processor, and short ones are disturbed less by others.
    """
    on_gpu = device.type == "cuda"
    rates = [_product_rate(size, device, dtype) for size in ((4096, 8192) if on_gpu else (384, 1024))]
    return max(*rates, _convolution_rate(128 if on_gpu else 32, device, dtype))


def _product_rate(size: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a product of two square matrices."""
    a, b = (torch.rand((size, size), device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / _shortest_seconds(lambda: a @ b, device)


@torch.inference_mode()
def _convolution_rate(size: int, device: torch.device, dtype: torch.dtype, *, channels: int = 256) -> float:
    """Operations per second of a convolution by 3 x 3 pixels, on a square image."""
    image = torch.rand((1, channels, size, size), device=device).to(dtype)
    weight = torch.rand((channels, channels, 3, 3), device=device).to(dtype)
    operations = 2 * 9 * channels**2 * size**2
    return operations / _shortest_seconds(lambda: conv2d(image, weight, padding=1), device)


def _shortest_seconds(call: Callable[[], object], device: torch.device, *, repeats: int = 10) -> float:
    """The fastest of several runs; of one thread on a CPU by its processor time."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    best = float("inf")
    for turn in range(repeats + 1):
        synchronize(device)
        start = clock()
        call()
        synchronize(device)
        if turn:
            best = min(best, clock() - start)
    return best


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()
