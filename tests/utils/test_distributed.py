"""Without torchrun there is one process, and everything shared is what it is."""

import pytest
import torch

from stemseg.utils import distributed
from stemseg.utils.errors import ConfigError


def test_environment_of_torchrun_is_read(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.process_from_environment() == distributed.ProcessInfo(rank=3, world_size=4, local_rank=1)
    assert not distributed.is_main()


def test_a_single_process_needs_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    device = torch.device("cpu")
    assert distributed.initialize(device) == distributed.ProcessInfo()
    distributed.barrier()
    assert distributed.any_process(True, device) and not distributed.any_process(False, device)
    assert distributed.average(torch.tensor([2.0])).item() == 2.0
    distributed.shutdown()


def test_an_impossible_device_is_named():
    with pytest.raises(ConfigError, match="'warp9' is unknown"):
        distributed.choose_device("warp9")
    with pytest.raises(ConfigError, match="cuda:99"):
        distributed.choose_device("cuda:99")
    assert distributed.choose_device("cpu") == torch.device("cpu")
