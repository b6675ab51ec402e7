"""Several processes working together, as ``torchrun`` starts them; with a single process everything here is a no-op."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from stemseg.utils.errors import ConfigError

T = TypeVar("T")


class ProcessInfo(NamedTuple):
    """The place of this process among those that cooperate.

    Attributes:
        rank: number of this process among all, from 0; rank 0 writes files and talks to the user.
        world_size: number of processes, over all machines.
        local_rank: number of this process on its machine; also the index of its GPU.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


def process_from_environment() -> ProcessInfo:
    """The process that ``torchrun``'s environment variables describe; a single one where they are absent."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return ProcessInfo(*(int(os.environ.get(name, default)) for name, default in zip(names, (0, 1, 0), strict=True)))


def choose_device(name: str | None = None) -> torch.device:
    """The device that this process works on.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps"; None takes a GPU where there is one. A plain "cuda" becomes the GPU
            of this process's local rank.

    Raises:
        ConfigError: where PyTorch does not know the device or cannot use it here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"device '{name}' is unknown to PyTorch; write for example cpu, cuda or cuda:1") from error
    if device.type != "cuda":
        return device
    index = process_from_environment().local_rank if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"device 'cuda:{index}' does not exist: PyTorch sees {torch.cuda.device_count()} GPUs. Choose another with "
            "--device, start fewer processes, or install a PyTorch build for your GPU's driver"
        )
    return torch.device("cuda", index)


def initialize(device: torch.device) -> ProcessInfo:
    """Join the other processes, over NCCL on GPUs and gloo on anything else; returns which process this is."""
    process = process_from_environment()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if process.world_size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return process


def shutdown() -> None:
    """Leave the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return process_from_environment().is_main


def barrier() -> None:
    """Wait until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def average(values: Tensor) -> Tensor:
    """The mean of ``values`` over all processes, in a new tensor; every process must call this together."""
    if not dist.is_initialized():
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def gather(value: T) -> list[T]:
    """The picklable ``value`` of every process, by rank; every process must call this together."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether ``flag`` is set in any process; every process must call this together and gets the same answer."""
    if not dist.is_initialized():
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())
