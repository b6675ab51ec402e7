"""Floating-point precision: the modes of mixed precision, and float32 islands within them."""

from __future__ import annotations

import torch

AMP_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def mixed_precision(device: torch.device, amp: str) -> torch.autocast:
    """A context in which matrix products run in a smaller type: ``amp`` is a key of :data:`AMP_DTYPES`."""
    dtype = AMP_DTYPES[amp]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def full_precision(device: torch.device) -> torch.autocast:
    """A context within mixed precision that computes in the type of its inputs, for what rounding would spoil."""
    return torch.autocast(device.type, enabled=False)
