"""Several processes working together, as ``torchrun`` or SLURM's ``srun`` start them; alone, everything is a no-op."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from stemseg.utils.errors import ConfigError, StemsegError
from stemseg.utils.text import first_line, shorten

_logger = logging.getLogger("stemseg")
T = TypeVar("T")
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
_FIRST_PORT, _NUM_PORTS = 20000, 10000  # of SLURM's jobs, each its own
_JOIN_SECONDS = 300  # for all processes to come


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
    """The process that ``torchrun``'s environment variables describe, or else SLURM's; a single one without any.

    Raises:
        ConfigError: where a variable is missing or no number.
    """
    if any(name in os.environ for name in _TORCHRUN):
        rank, size, local_rank = (_number(name, default) for name, default in zip(_TORCHRUN, (0, 1, 0), strict=True))
    elif in_slurm_step():
        rank, size, local_rank = (_number(name) for name in _SLURM)
    else:
        return ProcessInfo()
    if not 0 <= rank < size or local_rank < 0:
        raise ConfigError(f"the environment says that this is process {rank} of {size}, expected 0 to {size - 1}")
    return ProcessInfo(rank, size, local_rank)


def in_slurm_step() -> bool:
    """Whether ``srun`` started several tasks of this command, and no ``torchrun`` in between: they form one run."""
    is_launched = any(name in os.environ for name in _TORCHRUN)
    return not is_launched and "SLURM_PROCID" in os.environ and os.environ.get("SLURM_NTASKS", "1") != "1"


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise ConfigError(
            f"environment variable {name} is {text!r}, expected a number. Several processes are started by torchrun "
            "--nproc_per_node K stemseg/training/main.py ..., or by srun, which sets SLURM_PROCID, SLURM_NTASKS and "
            f"SLURM_LOCALID; for a single process unset {name}"
        )
    return int(text)


def first_host(node_list: str) -> str:
    """The first machine of a list as SLURM writes it.

    >>> first_host("gpu[007-009,12],login1")
    'gpu007'
    """
    first = re.match(r"[^\[,]*(\[[^\]]*\][^\[,]*)*", node_list.strip())  # a list within brackets has commas of its own
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0] if first else "")


def rendezvous() -> tuple[str, int]:
    """Address and port at which the processes meet: as MASTER_ADDR and MASTER_PORT say, or else from SLURM's list.

    Raises:
        ConfigError: where nothing tells them.
    """
    nodes = (
        os.environ.get("SLURM_STEP_NODELIST")
        or os.environ.get("SLURM_NODELIST")
        or os.environ.get("SLURM_JOB_NODELIST")
    )
    address = os.environ.get("MASTER_ADDR") or (first_host(nodes) if nodes else "")
    if not address:
        raise ConfigError(
            "several processes were started, but neither MASTER_ADDR nor SLURM_NODELIST says where they meet; start "
            "them with torchrun --nproc_per_node K stemseg/training/main.py ..., or with srun"
        )
    job = _number("SLURM_JOB_ID", 0)
    return address, _number("MASTER_PORT", _FIRST_PORT + job % _NUM_PORTS)


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
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        return _usable(device)
    index = _own_gpu() if device.index is None else device.index
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"device 'cuda:{index}' does not exist: PyTorch sees {torch.cuda.device_count()} GPUs. Choose another with "
            "--device, start fewer processes, or install a PyTorch build for your GPU's driver"
        )
    return torch.device("cuda", index)


def _own_gpu() -> int:
    """The index of this process's GPU: its local rank, or 0 where SLURM shows each task only its own GPU."""
    shows_one = in_slurm_step() and torch.cuda.device_count() == 1
    return 0 if shows_one else process_from_environment().local_rank


def _usable(device: torch.device) -> torch.device:
    """A device of another kind (mps), after a number went there and back."""
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError, AttributeError) as error:  # as PyTorch has it for each kind
        raise ConfigError(
            f"device '{device}' can't be used here: {shorten(first_line(error), 100)}. Choose another with --device "
            "(cpu works everywhere), or install a PyTorch build that supports it"
        ) from None
    return device


def initialize(device: torch.device) -> ProcessInfo:
    """Join the other processes, over NCCL on GPUs and gloo on anything else; returns which process this is.

    Raises:
        ConfigError: where not all of them come.
    """
    process = process_from_environment()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if process.world_size > 1 and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        if in_slurm_step():
            dist.init_process_group(backend, store=_meet(process), rank=process.rank, world_size=process.world_size)
        else:
            dist.init_process_group(backend)
    return process


def _meet(process: ProcessInfo) -> dist.TCPStore:
    """The store through which SLURM's tasks find each other."""
    address, port = rendezvous()
    _logger.info("waiting for the %d tasks of srun to meet at %s, port %d", process.world_size, address, port)
    try:
        wait = timedelta(seconds=_JOIN_SECONDS)
        return dist.TCPStore(address, port, process.world_size, process.is_main, timeout=wait)
    except (dist.DistError, RuntimeError) as error:
        raise ConfigError(
            f"SLURM says that this is task {process.rank} of {process.world_size}, but not all of them met at "
            f"{address}, port {port}: {first_line(error)}. Start all of them with srun python stemseg/training/main.py "
            "...; for a single process unset SLURM_NTASKS, or set another MASTER_PORT where this one is taken"
        ) from error


def shutdown() -> None:
    """Leave the group of processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return process_from_environment().is_main


@contextmanager
def alike() -> Iterator[None]:
    """Enclose work that every process does alike: of its errors, one process on each machine speaks."""
    try:
        yield
    except StemsegError as error:
        error.is_said_elsewhere = process_from_environment().local_rank > 0
        raise


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Enclose work that every process must have done before any goes on: where one fails, all of them end."""
    failure: StemsegError | None = None
    try:
        with alike():
            yield
    except StemsegError as error:
        failure = error
    if any_process(failure is not None, device):
        other = StemsegError("another process of this run failed; its message says why")
        other.is_said_elsewhere = True
        raise failure or other


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
