"""A run that was interrupted and resumed ends with the same weights, bit for bit, as one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from stemseg.training.interrupts import explained
from stemseg.utils.errors import DataError, OutputError, StemsegError
from tests.helpers.paths import ROOT
from tests.helpers.tiny_training import TinyDataset, TinyTrainingLoss, make_trainer, weights


class InterruptAt:
    """Requests the stop after the sample with this index was loaded, as a signal would."""

    requested = False

    def __init__(self, sample: int) -> None:
        self.sample = sample

    def __getitem__(self, index: int):
        self.requested |= index == self.sample
        return TinyDataset()[index]

    def __len__(self) -> int:
        return 1000


def _equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, optimizer):
    settings = (f"TRAINING.OPTIMIZER={optimizer}", "TRAINING.INITIAL_LR=0.01")
    assert make_trainer(tmp_path / "whole", *settings).run()
    stopper = InterruptAt(sample=9)  # within the third iteration, between two checkpoints
    assert not make_trainer(tmp_path / "cut", *settings, dataset=stopper, interrupts=stopper).run()
    assert (tmp_path / "cut" / "000003.pth").is_file()
    assert make_trainer(tmp_path / "cut", *settings).run()
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


class Failed(Exception):
    pass


class FailAt(InterruptAt):
    """Fails at the sample with this index, by default in the fourth iteration."""

    def __init__(self, error: BaseException, sample: int = 14) -> None:
        super().__init__(sample)
        self.error = error

    def __getitem__(self, index: int):
        if index == self.sample:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("error", [DataError("no frame 7"), OSError(28, "No space"), KeyboardInterrupt()], ids=repr)
def test_whatever_ends_a_run_leaves_its_last_complete_iteration(tmp_path, error, workers):
    flags = ["--save_interval", "0", "--num_cpu_workers", workers]
    with pytest.raises((StemsegError, KeyboardInterrupt)) as caught:
        make_trainer(tmp_path / "cut", dataset=FailAt(error), flags=flags).run()
    assert "Traceback" not in str(caught.value)
    assert [p.name for p in (tmp_path / "cut").glob("*.pth")] == ["000003.pth"]
    make_trainer(tmp_path / "whole").run()
    make_trainer(tmp_path / "cut").run()
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_statistics_of_an_incomplete_iteration_are_not_saved(tmp_path):
    class Normed(TinyTrainingLoss):
        def __init__(self):
            super().__init__()
            self.network.layers.insert(1, nn.BatchNorm2d(4))

    def make(directory, **parts):
        torch.manual_seed(0)
        return make_trainer(tmp_path / directory, training_loss=Normed(), flags=["--save_interval", "3"], **parts)

    with pytest.raises(Failed):
        make("cut", dataset=FailAt(Failed())).run()  # the third micro-batch of an iteration fails
    make("whole").run()
    make("cut").run()
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    with pytest.raises(Failed):
        make("first", dataset=FailAt(Failed())).run()
    assert _equal(weights(tmp_path / "first", 3), weights(tmp_path / "whole", 3))


KILLED_LOADER = """
import os, signal, sys
from pathlib import Path

from stemseg.utils.errors import TrainingError
from tests.helpers.tiny_training import TinyDataset, make_trainer


class Kill(TinyDataset):
    def __getitem__(self, index):
        if index == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


folder = Path(sys.argv[1])
trainer = make_trainer(folder, dataset=Kill(), flags=["--save_interval", "0", "--num_cpu_workers", "1"])
try:
    trainer.run()
except TrainingError as error:
    print(error)
done = trainer.state.progress.iterations  # fewer than 3 where the death was heard of before its batch was due
assert [p.name for p in folder.glob("*.pth")] == ([f"{done:06d}.pth"] if done else [])
os._exit(0)
"""


def test_a_killed_loading_process_is_named_and_costs_nothing(tmp_path):
    # in a process of its own: PyTorch's handler of such deaths may speak up at any later place of the process
    command = [sys.executable, "-u", "-c", KILLED_LOADER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "data-loading process was ended from outside" in result.stdout
    assert "--num_cpu_workers" in result.stdout


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_connection_that_ends_between_processes_is_a_lost_loader(error):
    # the death of a loader that had just announced a batch is met while the batch is fetched
    assert "data-loading process was ended from outside" in str(explained(error))
    assert "disk" in str(explained(OSError(28, "No space left on device")))


def test_a_failure_while_weights_move_or_are_saved_hides_nothing(tmp_path, monkeypatch, caplog):
    trainer = make_trainer(tmp_path, flags=["--save_interval", "0"], dataset=FailAt(Failed("first")))
    monkeypatch.setattr(trainer.checkpoints, "save", lambda *_: (_ for _ in ()).throw(OutputError("second")))
    monkeypatch.setattr(trainer.state.log, "close", lambda: (_ for _ in ()).throw(OSError("third")))
    with pytest.raises(Failed, match="first"):
        trainer.run()
    assert "second" in caplog.text and "third" in caplog.text

    trainer = make_trainer(tmp_path, flags=["--save_interval", "0"])
    move = trainer.step.move
    steps = iter(range(10))
    monkeypatch.setattr(trainer.step, "move", lambda: (move(), next(steps) == 3 and (_ for _ in ()).throw(Failed())))
    with pytest.raises(Failed):
        trainer.run()
    assert not list(tmp_path.glob("*.pth")), "weights that were being changed are no complete iteration"


def test_fp16_loss_scale_is_resumed(tmp_path):
    trainer = make_trainer(tmp_path, "TRAINING.AMP=fp16", "TRAINING.MAX_ITERATIONS=2")
    trainer.run()
    content = torch.load(tmp_path / "000002.pth", weights_only=True)
    assert content["scaler"]["scale"] == 65536.0
    content["scaler"]["scale"] = 16.0
    torch.save(content, tmp_path / "000002.pth")
    assert make_trainer(tmp_path, "TRAINING.AMP=fp16").state.scaler.state_dict()["scale"] == 16.0


def test_loading_workers_and_random_state_do_not_change_the_result(tmp_path):
    make_trainer(tmp_path / "alone").run()
    trainer = make_trainer(tmp_path / "workers", flags=["--num_cpu_workers", "2"])
    torch.rand(17)  # an evaluation or a picture may draw numbers in between
    trainer.run()
    assert _equal(weights(tmp_path / "alone"), weights(tmp_path / "workers"))


def test_checkpoint_has_the_documented_content(tmp_path):
    make_trainer(tmp_path).run()
    content = torch.load(tmp_path / "000006.pth", weights_only=True)
    assert set(content) >= {"model", "optimizer", "lr_scheduler", "logger", "iterations", "glow_iterations"}
    assert content["iterations"] == 6 and content["glow_iterations"] == 0


SLOW_RUN = """
import sys, time
from pathlib import Path
from stemseg.training.interrupts import InterruptListener
from tests.helpers.tiny_training import TinyDataset, make_trainer

class Slow(TinyDataset):
    def __getitem__(self, index):
        time.sleep(0.1)
        return super().__getitem__(index)

with InterruptListener() as interrupts:
    trainer = make_trainer(Path(sys.argv[1]), dataset=Slow(), interrupts=interrupts, flags=["--num_cpu_workers", "1"])
    print("started", flush=True)
    finished = trainer.run()
sys.exit(0 if finished else interrupts.exit_code)
"""


def _start(directory):
    command = [sys.executable, "-c", SLOW_RUN, str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"started\n"
    return process


def test_a_signal_to_the_whole_group_saves_and_resumes(tmp_path):
    make_trainer(tmp_path / "whole").run()
    process = _start(tmp_path / "cut")
    while not (tmp_path / "cut" / "000002.pth").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)  # as Ctrl-C and `timeout` do: the loading workers must survive it
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert not (tmp_path / "cut" / "000006.pth").exists()
    make_trainer(tmp_path / "cut").run()
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
