"""Differences between devices: number types (TRAINING.AMP, INFERENCE.AMP), and when the host has to wait for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stemseg.utils.errors import ConfigError
from stemseg.utils.text import first_line

AMP_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def mixed_precision(device: torch.device, amp: str) -> torch.autocast:
    """A context that computes what may be in a smaller type: ``amp`` is "auto" or a key of :data:`AMP_DTYPES`."""
    dtype = AMP_DTYPES[choose_precision(device, amp)]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def choose_precision(device: torch.device, amp: str) -> str:
    """The value that "auto" stands for on a device: "bf16" where that is fast, else "none"; others stay."""
    if amp != "auto":
        return amp
    return "bf16" if has_fast_bf16(device) else "none"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16: GPUs from Ampere on, CPUs with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of PyTorch to the CPU; not in old versions
    return any(getattr(torch.cpu, question, lambda: False)() for question in questions)


def check_compiler(device: torch.device, *, backend: str = "inductor") -> None:
    """Refuse a device for which PyTorch can't compile, which it says only when it is to run something.

    Raises:
        ConfigError: with the reason.
    """
    try:
        torch.compile(lambda x: x * 2 + 1, backend=backend)(torch.ones(8, device=device))
    except Exception as error:
        reason = first_line(str(error).strip())
        raise ConfigError(
            f"--compile: PyTorch {torch.__version__} can't compile for {device} here "
            f"({type(error).__name__}: {reason}). A CPU needs a C++ compiler (g++), a GPU "
            "needs Triton, which comes with PyTorch for Linux; or leave it out"
        ) from error


def is_host(device: torch.device) -> bool:
    """Whether values are at hand without a wait, so that sizes which depend on them cost nothing."""
    return device.type == "cpu"


def read(values: Tensor) -> list[Any]:
    """The values of a tensor. The host waits for the device: once per call, so ask for all at once."""
    return values.tolist()


def copy_to_host(tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
    """Begin one copy of tensors of any types to the host.

    Returns:
        a function that waits for the copy, in whatever thread, and gives the tensors.
    """
    if not tensors or is_host(tensors[0].device):
        return lambda: list(tensors)
    order = sorted(range(len(tensors)), key=lambda i: -tensors[i].element_size())  # keeps all of them aligned
    packed = torch.cat([tensors[i].contiguous().flatten().view(torch.uint8) for i in order])
    is_cuda = packed.device.type == "cuda"
    host = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=is_cuda)
    host.copy_(packed, non_blocking=is_cuda)
    event = torch.cuda.Event() if is_cuda else None
    if event is not None:
        event.record(torch.cuda.current_stream(packed.device))

    def fetch() -> list[Tensor]:
        if event is not None:
            event.synchronize()
        parts = host.split([tensors[i].numel() * tensors[i].element_size() for i in order])
        found = {i: part.view(tensors[i].dtype).view(tensors[i].shape) for i, part in zip(order, parts, strict=True)}
        return [found[i] for i in range(len(tensors))]

    return fetch
