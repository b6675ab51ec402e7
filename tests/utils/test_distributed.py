"""Without torchrun or srun there is one process, and everything shared is what it is."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from stemseg.utils import distributed
from stemseg.utils.errors import ConfigError
from tests.helpers.paths import ROOT


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Nothing in the environment tells of other processes."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "MASTER_"))]:
        monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def _be_slurm_task(monkeypatch, rank, of, **more):
    for name, value in {"PROCID": rank, "NTASKS": of, "LOCALID": rank, **more}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


def test_environment_of_torchrun_is_read(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.process_from_environment() == distributed.ProcessInfo(rank=3, world_size=4, local_rank=1)
    assert not distributed.is_main()


def test_a_single_process_needs_no_group():
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


@pytest.mark.parametrize("name", ["mps", "meta", "xla"])
def test_a_device_that_pytorch_knows_but_cannot_use_here_is_refused(name, monkeypatch):
    ones = torch.ones
    monkeypatch.setattr(
        torch, "ones", lambda *size, device: ones(*size, device="meta" if device.type == "mps" else device)
    )
    with pytest.raises(ConfigError, match=f"device '{name}' can't be used here: .*cpu works"):
        distributed.choose_device(name)


def test_tasks_of_srun_are_processes_of_one_run(monkeypatch):
    _be_slurm_task(monkeypatch, 1, 4)
    assert distributed.process_from_environment() == distributed.ProcessInfo(rank=1, world_size=4, local_rank=1)
    assert distributed.in_slurm_step()
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)  # srun started torchrun, which started this
    assert distributed.process_from_environment() == distributed.ProcessInfo(0, 2, 0)


def test_a_single_task_of_srun_is_alone(monkeypatch):
    _be_slurm_task(monkeypatch, 0, 1)
    assert distributed.process_from_environment() == distributed.ProcessInfo()


@pytest.mark.parametrize(("name", "value"), [("LOCALID", "x"), ("NTASKS", ""), ("PROCID", "7")])
def test_an_environment_that_makes_no_sense_is_refused(monkeypatch, name, value):
    _be_slurm_task(monkeypatch, 0, 4)
    monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(ConfigError, match=rf"SLURM_{name} is '{value}'.*torchrun|process 7 of 4"):
        distributed.process_from_environment()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[007-009,12],login1", "gpu007"),
        ("a,b", "a"),
        ("a", "a"),
        ("n-[1,3]-ib,x", "n-1-ib"),
        ("r[1-2]n[3-4]", "r1n3"),
    ],
)
def test_the_tasks_meet_at_the_first_node(monkeypatch, nodes, first):
    _be_slurm_task(monkeypatch, 0, 2, NODELIST=nodes, JOB_ID=123456)
    assert distributed.rendezvous() == (first, 23456)
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")
    monkeypatch.setenv("MASTER_PORT", "5")
    assert distributed.rendezvous() == ("elsewhere", 5)


def test_tasks_that_know_no_node_are_told_the_command(monkeypatch):
    _be_slurm_task(monkeypatch, 0, 2)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR nor SLURM_NODELIST .* torchrun --nproc_per_node"):
        distributed.initialize(torch.device("cpu"))


def test_a_task_that_is_left_alone_says_so(monkeypatch):
    _be_slurm_task(monkeypatch, 0, 2, NODELIST="127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(_free_port()))
    monkeypatch.setattr(distributed, "_JOIN_SECONDS", 1)
    with pytest.raises(ConfigError, match=r"task 0 of 2, but not all of them met at 127.0.0.1.*srun python"):
        distributed.initialize(torch.device("cpu"))


def test_two_tasks_of_srun_find_each_other():
    code = (
        "import torch; from stemseg.utils import distributed\n"
        "process = distributed.initialize(torch.device('cpu'))\n"
        "print(process.rank, distributed.gather(process.rank)); distributed.shutdown()"
    )
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_PORT": str(_free_port()), "SLURM_NTASKS": "2"}
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**shared, "SLURM_NODELIST": "127.0.0.1", "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    assert [task.communicate()[0].strip() for task in tasks] == ["0 [0, 1]", "1 [0, 1]"]
    assert [task.returncode for task in tasks] == [0, 0]


def test_one_process_of_each_machine_says_what_all_of_them_find(monkeypatch):
    for local_rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        with pytest.raises(ConfigError) as caught, distributed.alike():
            raise ConfigError("wrong")
        assert caught.value.is_said_elsewhere == (local_rank == 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
