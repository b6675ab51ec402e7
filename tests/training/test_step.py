"""Accumulation, clipping, mixed precision, and several processes: the same gradients as one big batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import CPU, TinyDataset, TinyTrainingLoss, collate

from stemseg.training.loader import random_seed
from stemseg.training.trainer import OptimizationStep, build_scaler, gradient_norm

HERE = Path(__file__).resolve().parent


def _training_loss():
    torch.manual_seed(3)
    return TinyTrainingLoss()


def _step(training_loss, amp="none", **options):
    optimizer = torch.optim.SGD(training_loss.parameters(), lr=0.1)
    scaler = options.pop("scaler", None) or build_scaler(amp, CPU)
    return OptimizationStep(training_loss, optimizer, scaler=scaler, device=CPU, amp=amp, **options)


def _micro_batches(count):
    return iter([collate([TinyDataset()[i]]) for i in range(count)])


def _seeds(count):
    return [random_seed(0, i) for i in range(count)]


def test_accumulated_gradient_is_the_mean_over_micro_batches():
    training_loss = _training_loss()
    report = _step(training_loss)(_micro_batches(3), _seeds(3))
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
    report = _step(training_loss, max_gradient_norm=1e-3)(_micro_batches(1), _seeds(1))
    assert report.gradient_norm.item() > 1e-2
    assert gradient_norm(list(training_loss.parameters())).item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_same_step(amp):
    exact, mixed = _training_loss(), _training_loss()
    _step(exact)(_micro_batches(2), _seeds(2))
    report = _step(mixed, amp=amp)(_micro_batches(2), _seeds(2))
    assert report.last_output.dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    for expected, found in zip(exact.parameters(), mixed.parameters(), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.grad, expected.grad, rtol=0.1, atol=0.02)


def test_overflow_in_fp16_skips_the_step_and_lowers_the_scale():
    training_loss = _training_loss()
    before = [p.detach().clone() for p in training_loss.parameters()]
    scaler = build_scaler("fp16", CPU)
    scaler.load_state_dict({**scaler.state_dict(), "scale": 1e38})
    step = _step(training_loss, amp="fp16", scaler=scaler)
    step(_micro_batches(1), _seeds(1))
    assert all(torch.equal(a, b) for a, b in zip(before, training_loss.parameters(), strict=True))
    assert scaler.state_dict()["scale"] == pytest.approx(5e37)


WORKER = """
import sys
from pathlib import Path
from tiny_training import CPU, make_trainer
from stemseg.utils import distributed

process = distributed.initialize(CPU)
make_trainer(Path(sys.argv[1]), process=process, settings={"max_iterations": 3}).run()
distributed.shutdown()
"""


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    from tiny_training import make_trainer, weights

    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*launcher, str(script), str(tmp_path / "two")], env=environment, check=True, timeout=120)
    make_trainer(tmp_path / "one", settings={"max_iterations": 3}).run()
    one, two = weights(tmp_path / "one", 3), weights(tmp_path / "two", 3)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-6, atol=1e-7)
