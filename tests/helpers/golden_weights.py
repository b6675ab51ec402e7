"""The recipe that filled inputs and weights when the golden numbers of tests/golden were made."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.helpers.paths import GOLDEN_DIR

_KEPT = ("time_scale", "free_dim_bandwidths", "num_batches_tracked")


def det(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 numbers that depend on the name alone."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32))


def det_uniform(name: str, shape: Sequence[int]) -> Tensor:
    """Float32 numbers in [0, 1) that depend on the name alone."""
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(generator.random_sample(tuple(shape)).astype(np.float32))


def recipe_value(key: str, current: Tensor) -> Tensor:
    """The golden value of one state-dict entry; ``key`` is its full name in the network."""
    if key.endswith(_KEPT):
        return current
    noise = det(key, current.shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if key.endswith("weight"):
        return noise / math.sqrt(math.prod(current.shape[1:])) if current.ndim >= 2 else 1 + 0.1 * noise
    return 0.1 * noise  # biases and running means


def fill_state_dict(module: nn.Module, prefix: str = "") -> None:
    """Fill every entry of ``module`` by the recipe; ``prefix`` completes its keys, e.g. "backbone."."""
    with torch.no_grad():
        for key, value in module.state_dict().items():
            value.copy_(recipe_value(prefix + key, value))


def load_golden(name: str) -> dict[str, np.ndarray]:
    """Every array of ``tests/golden/<name>.npz``."""
    with np.load(GOLDEN_DIR / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def relative_difference(value: Tensor | np.ndarray, reference: Tensor | np.ndarray) -> float:
    """max |value - reference| / max |reference|; the shapes must be equal."""
    value, reference = (x.detach().numpy() if isinstance(x, Tensor) else x for x in (value, reference))
    assert value.shape == reference.shape, f"{value.shape} is not {reference.shape}"
    return float(np.abs(value.astype(np.float64) - reference).max() / max(np.abs(reference).max(), 1e-30))
