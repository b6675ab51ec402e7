"""The table of mixed precision."""

import pytest
import torch

from stemseg.config import load_config
from stemseg.utils.errors import ConfigError
from stemseg.utils.precision import AMP_DTYPES, mixed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("amp", AMP_DTYPES)
def test_products_are_computed_in_the_type_of_the_mode(amp):
    x = torch.ones(2, 2)
    with mixed_precision(CPU, amp):
        assert (x @ x).dtype == (AMP_DTYPES[amp] or torch.float32)
    assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("key", ["TRAINING.AMP", "INFERENCE.AMP"])
def test_the_configuration_allows_exactly_these_modes(key):
    for amp in AMP_DTYPES:
        load_config(None, [f"{key}={amp}"])
    with pytest.raises(ConfigError, match="none, bf16, fp16"):
        load_config(None, [f"{key}=fp8"])
