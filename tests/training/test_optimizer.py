"""Learning rates equal the published ones at every recorded iteration."""

import json

import pytest
import torch

from stemseg.config import load_config
from stemseg.training.optimizer import build_schedule, constant_factor, with_warmup
from tests.helpers.paths import GOLDEN_DIR

GOLDEN = json.loads((GOLDEN_DIR / "lr_schedules.json").read_text())
RUNS = [name for name, entry in GOLDEN.items() if isinstance(entry, dict)]


def _overrides(params):
    return [f"TRAINING.{key}={value}" for key, value in params.items()]


@pytest.mark.parametrize("name", RUNS)
def test_rates_equal_the_published_ones(name):
    golden = GOLDEN[name]
    cfg = load_config(None, _overrides(golden["params"]))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=cfg.TRAINING.INITIAL_LR)
    schedule = build_schedule(cfg, optimizer)
    rates = []
    for iteration in golden["iteration"]:
        schedule.set_iteration(iteration)
        rates.append(schedule.rate)
    assert rates == pytest.approx(golden["lr_used_at_iteration(0-based)"], rel=1e-11)


def test_warmup_rises_linearly_to_the_schedule():
    factor = with_warmup(constant_factor, 4)
    assert [factor(i) for i in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert with_warmup(constant_factor, 0)(0) == 1.0
