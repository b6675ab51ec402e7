"""The loop's intervals, hooks and failures; accumulation, clipping and processes: the gradients of one big batch."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from stemseg.training.checkpoints import CheckpointStore
from stemseg.training.loader import random_seed
from stemseg.training.logger import TrainingLogger
from stemseg.training.optimizer import gradient_norm
from stemseg.training.run import build_state, build_step
from stemseg.training.validation import best_measure
from stemseg.utils import devices
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import DataError, TrainingError
from tests.helpers.paths import ROOT
from tests.helpers.tiny_training import CPU, TinyDataset, TinyTrainingLoss, collate, make_trainer, tiny_config, weights


def _events(directory):
    """(tag, step) of every value in TensorBoard's files."""
    found = []
    for path in directory.glob("events*"):
        data, position = path.read_bytes(), 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 8], "little")
            event = Event.FromString(data[position + 12 : position + 12 + length])
            found += [(value.tag, event.step) for value in event.summary.value]
            position += length + 16
    return found


def test_checkpoints_are_written_at_intervals_and_at_the_end(tmp_path):
    make_trainer(tmp_path, "TRAINING.MAX_ITERATIONS=5").run()
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["000004.pth", "000005.pth"]


def test_workers_start_after_opencv_used_its_threads(tmp_path):
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((500, 500, 3), np.float32), (3000, 3000))
    assert make_trainer(
        tmp_path, flags=["--num_cpu_workers", "1"]
    ).run()  # a forked pool without its threads would hang


def test_a_complete_run_has_nothing_left_to_do(tmp_path):
    make_trainer(tmp_path).run()
    before = (tmp_path / "000006.pth").stat().st_mtime_ns
    assert make_trainer(tmp_path).run()
    assert (tmp_path / "000006.pth").stat().st_mtime_ns == before


def test_scalars_and_pictures_reach_tensorboard(tmp_path):
    def paint(batch, output):
        assert batch.frames.shape[0] == 1 and not output.requires_grad
        return {"clip": np.zeros((4, 5, 3), np.uint8)}

    make_trainer(tmp_path, logs=tmp_path / "logs", paint=paint, flags=["--picture_interval", "3"]).run()
    events = _events(tmp_path / "logs")
    for name in ("loss/total", "loss/area", "optimization/learning_rate", "optimization/gradient_norm"):
        assert [step for tag, step in events if tag == name] == [2, 4, 6]
    assert ("time/data_wait_seconds", 2) in events and ("time/iteration_seconds", 2) in events
    assert [step for tag, step in events if tag == "clip"] == [3, 6]


def test_scalars_are_lines_of_json_without_those_of_an_attempt_that_was_lost(tmp_path):
    logs = tmp_path / "logs"
    make_trainer(tmp_path, logs=logs).run()
    (tmp_path / "000006.pth").unlink()
    with (logs / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "cut off')
    make_trainer(tmp_path, logs=logs).run()
    lines = [json.loads(line) for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4, 6]
    assert all(line["loss/total"] > 0 and "optimization/learning_rate" in line for line in lines)


def test_checkpoints_are_written_after_minutes_too(tmp_path):
    trainer = make_trainer(tmp_path, "TRAINING.MAX_ITERATIONS=5", flags=["--save_interval", "0"])
    trainer.settings = replace(trainer.settings, save_minutes=1e-9)
    trainer.checkpoints = CheckpointStore(tmp_path, keep=0)
    trainer.run()
    assert trainer.checkpoints.iterations() == [1, 2, 3, 4, 5]


def test_evaluation_is_without_gradient_and_leaves_the_network_in_training(tmp_path):
    seen = []

    def evaluate(network, iteration):
        seen.append((iteration, network.training, torch.is_grad_enabled()))
        return {"validation/score": 0.5}

    trainer = make_trainer(
        tmp_path,
        "TRAINING.MAX_ITERATIONS=5",
        flags=["--eval_interval", "4"],
        logs=tmp_path / "logs",
        evaluate=evaluate,
    )
    trainer.run()
    assert seen == [(4, True, False)]
    assert ("validation/score", 4) in _events(tmp_path / "logs")
    assert trainer.state.training_loss.network.training


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(tmp_path):
    class Broken(TinyDataset):
        def __getitem__(self, index):
            clip = super().__getitem__(index)
            if index == 10:
                clip.frames.fill_(float("nan"))
            return clip

    make_trainer(tmp_path / "good", "TRAINING.MAX_ITERATIONS=2").run()
    with pytest.raises(TrainingError, match=r"in iteration 3 \(total nan.*tiny 11"):
        make_trainer(tmp_path, dataset=Broken(), flags=["--save_interval", "0"]).run()
    assert [p.name for p in tmp_path.glob("*.pth")] == ["000002.pth"]
    found, expected = weights(tmp_path, 2), weights(tmp_path / "good", 2)
    assert all(torch.equal(found[name], expected[name]) for name in expected), "the state before the bad step"


def test_a_gradient_that_is_not_finite_is_never_applied(tmp_path):
    class Steep(TinyTrainingLoss):
        steps = 0

        def forward(self, batch):
            report = super().forward(batch)
            self.steps += 1
            zero = next(self.parameters()).sum() * 0
            return report._replace(total=report.total + zero.abs().sqrt()) if self.steps == 9 else report

    loss = Steep()
    with pytest.raises(TrainingError, match=r"in iteration 3 \(total \d.*gradient norm nan"):
        make_trainer(tmp_path, training_loss=loss).run()
    assert all(p.isfinite().all() for p in loss.parameters())


def test_the_checkpoint_with_the_highest_figure_is_kept(tmp_path):
    figures = {2: 0.1, 4: 0.7, 6: 0.3}
    measure = best_measure(tiny_config())
    make_trainer(
        tmp_path,
        flags=["--eval_interval", "2"],
        evaluate=lambda network, iteration: {measure: figures[iteration], "other": iteration},
    ).run()
    assert torch.load(tmp_path / "best.pth", weights_only=True)["iterations"] == 4


def _training_loss():
    torch.manual_seed(3)
    return TinyTrainingLoss()


def _state(training_loss, cfg):
    log = TrainingLogger(None, max_iterations=1, display_interval=1, summary_interval=1)
    return build_state(cfg, training_loss, log, CPU)


def _step(training_loss, *overrides):
    cfg = tiny_config(*overrides)
    return build_step(cfg, _state(training_loss, cfg), ProcessInfo(), CPU)


def _take(step, micro_batches, seeds):
    report = step.accumulate(micro_batches, seeds)
    step.move()
    return report


def _micro_batches(count):
    return iter([collate([TinyDataset()[i]]) for i in range(count)])


def _seeds(count):
    return [random_seed(0, i) for i in range(count)]


def test_accumulated_gradient_is_the_mean_over_micro_batches():
    training_loss = _training_loss()
    report = _take(_step(training_loss), _micro_batches(3), _seeds(3))
    accumulated = [p.grad.clone() for p in training_loss.parameters()]

    naive = _training_loss()
    losses = []
    for batch, seed in zip(_micro_batches(3), _seeds(3), strict=True):
        torch.manual_seed(seed)
        losses.append(naive(batch).total)
    torch.stack(losses).mean().backward()
    for expected, found in zip(naive.parameters(), accumulated, strict=True):
        torch.testing.assert_close(found, expected.grad)
    assert report.terms["total"].item() == pytest.approx(torch.stack(losses).mean().item())
    assert report.gradient_norm.item() == pytest.approx(torch.cat([g.flatten() for g in accumulated]).norm().item())


def test_gradients_are_clipped_to_the_norm_and_the_report_has_the_norm_before():
    training_loss = _training_loss()
    report = _take(_step(training_loss, "TRAINING.GRAD_CLIP_NORM=0.001"), _micro_batches(1), _seeds(1))
    assert report.gradient_norm.item() > 1e-2
    assert gradient_norm(list(training_loss.parameters())).item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_same_step(amp):
    exact, mixed = _training_loss(), _training_loss()
    _take(_step(exact), _micro_batches(2), _seeds(2))
    report = _take(_step(mixed, f"TRAINING.AMP={amp}"), _micro_batches(2), _seeds(2))
    assert report.last_output.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    for expected, found in zip(exact.parameters(), mixed.parameters(), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.grad, expected.grad, rtol=0.1, atol=0.02)


def test_overflow_in_fp16_skips_the_step_and_lowers_the_scale():
    training_loss = _training_loss()
    before = [p.detach().clone() for p in training_loss.parameters()]
    cfg = tiny_config("TRAINING.AMP=fp16")
    state = _state(training_loss, cfg)
    scaler = state.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 1e38})
    _take(build_step(cfg, state, ProcessInfo(), CPU), _micro_batches(1), _seeds(1))
    assert all(torch.equal(a, b) for a, b in zip(before, training_loss.parameters(), strict=True))
    assert scaler.state_dict()["scale"] == pytest.approx(5e37)


WORKER = """
import sys
from pathlib import Path
from tests.helpers.tiny_training import CPU, make_trainer
from stemseg.utils import distributed

process = distributed.initialize(CPU)
make_trainer(Path(sys.argv[1]), "TRAINING.MAX_ITERATIONS=3", process=process).run()
distributed.shutdown()
"""


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*launcher, str(script), str(tmp_path / "two")], env=environment, check=True, timeout=120)
    make_trainer(tmp_path / "one", "TRAINING.MAX_ITERATIONS=3").run()
    one, two = weights(tmp_path / "one", 3), weights(tmp_path / "two", 3)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_bad_samples_are_replaced_and_named_up_to_the_number_allowed(tmp_path, caplog, workers):
    class Bad(TinyDataset):
        def __getitem__(self, index):
            if index in (5, 9):
                raise DataError(f"bear/{index}.jpg is cut off")
            return super().__getitem__(index)

    def run(name, allowed):
        flags = ["--skip_bad_samples", allowed, "--num_cpu_workers", workers]
        return make_trainer(tmp_path / name, dataset=Bad(), flags=flags).run()

    assert run("first", "2") and run("second", "2")
    assert "sample 5 of the run can't be loaded: bear/5.jpg is cut off; another one stands in (1 of 2)" in caplog.text
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(DataError, match=r"bear/9.jpg.*one more than --skip_bad_samples 1"):
        run("few", "1")
    with pytest.raises(DataError, match=r"sample 5 of the run.*bear/5.jpg.*--skip_bad_samples N"):
        run("none", "0")


def test_an_iteration_waits_for_the_device_once(tmp_path, monkeypatch):
    """For its losses and the gradient's norm together, which must be known to be finite before the weights move."""
    reads = []
    read = devices.read
    monkeypatch.setattr(devices, "read", lambda values: reads.append(len(values)) or read(values))
    trainer = make_trainer(tmp_path, "TRAINING.MAX_ITERATIONS=3", "TRAINING.GRAD_CLIP_NORM=1.0")
    assert trainer.run()
    assert reads == [3, 3, 3]  # total, area and norm
