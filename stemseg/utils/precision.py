"""Mixed precision: what the values of TRAINING.AMP and INFERENCE.AMP mean."""

from __future__ import annotations

import torch

AMP_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def mixed_precision(device: torch.device, amp: str) -> torch.autocast:
    """A context that computes what may be in a smaller type: ``amp`` is a key of :data:`AMP_DTYPES`."""
    dtype = AMP_DTYPES[amp]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
