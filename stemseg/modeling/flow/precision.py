"""The precision that the flow computes in."""

from __future__ import annotations

from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is float64: likelihoods need more than half precision."""
    return x if x.element_size() >= 4 else x.float()
