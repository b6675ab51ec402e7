"""Number types by device, and one copy to the host for many tensors."""

import pytest
import torch

from stemseg.config import load_config
from stemseg.utils import devices
from stemseg.utils.devices import (
    AMP_DTYPES,
    check_compiler,
    choose_precision,
    copy_to_host,
    has_fast_bf16,
    mixed_precision,
)
from stemseg.utils.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize("amp", AMP_DTYPES)
def test_products_are_computed_in_the_type_of_the_mode(amp):
    x = torch.ones(2, 2)
    with mixed_precision(CPU, amp):
        assert (x @ x).dtype == (AMP_DTYPES[amp] or torch.float32)
    assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("key", ["TRAINING.AMP", "INFERENCE.AMP"])
def test_the_configuration_allows_exactly_these_modes(key):
    for amp in (*AMP_DTYPES, "auto"):
        load_config(None, [f"{key}={amp}"])
    with pytest.raises(ConfigError, match="none, auto, bf16, fp16"):
        load_config(None, [f"{key}=fp8"])


@pytest.mark.parametrize(("capability", "amp"), [((7, 5), "none"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_means_bf16_on_gpus_from_ampere_on(monkeypatch, capability, amp):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision(torch.device("cuda"), "auto") == amp
    assert choose_precision(torch.device("cuda"), "fp16") == "fp16"


@pytest.mark.parametrize("answers", [(False, False), (True, False), (False, True)])
def test_auto_asks_the_cpu_for_its_instructions(monkeypatch, answers):
    for question, answer in zip(("_is_avx512_bf16_supported", "_is_amx_tile_supported"), answers, strict=True):
        monkeypatch.setattr(torch.cpu, question, lambda answer=answer: answer, raising=False)
    assert has_fast_bf16(CPU) == (any(answers) and torch.backends.mkldnn.is_available())
    assert not has_fast_bf16(torch.device("mps"))


def test_one_copy_brings_tensors_of_all_types_and_shapes(monkeypatch):
    tensors = [torch.arange(3, dtype=torch.int16), torch.rand(2, 5, dtype=torch.float64).T, torch.zeros(0, 4),
               torch.tensor(7), torch.rand(3, 1), torch.arange(5, dtype=torch.uint8)]  # fmt: skip
    assert all(a is b for a, b in zip(copy_to_host(tensors)(), tensors, strict=True))
    monkeypatch.setattr(devices, "is_host", lambda device: False)
    for found, expected in zip(copy_to_host(tensors)(), tensors, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_missing_compiler_is_said_before_anything_is_run(monkeypatch):
    def fail(function, backend):
        raise RuntimeError("no C++ compiler\nand more")

    check_compiler(CPU, backend="eager")
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(ConfigError, match=r"--compile: PyTorch .* cpu here \(RuntimeError: no C\+\+ compiler\)"):
        check_compiler(CPU)
