"""A run that was interrupted and resumed ends with the same weights, bit for bit, as one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.helpers.paths import ROOT
from tests.helpers.tiny_training import TinyDataset, make_trainer, weights


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


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
    class Killed(Exception):
        pass

    class KillAt(InterruptAt):
        def __getitem__(self, index):
            if index == self.sample:
                raise Killed
            return super().__getitem__(index)

    make_trainer(tmp_path / "whole").run()
    with pytest.raises(Killed):
        make_trainer(tmp_path / "cut", dataset=KillAt(sample=14)).run()
    assert not (tmp_path / "cut" / "000003.pth").exists()
    assert make_trainer(tmp_path / "cut").run()
    assert _equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


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
