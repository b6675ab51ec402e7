"""The optimizer, its gradient's norm and scale, and learning rates as pure functions of the iteration (method.md §7).

What is a function of the iteration alone needs no history in a checkpoint.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from stemseg.config import Config
from stemseg.utils.errors import ConfigError

Factor = Callable[[int], float]


def build_optimizer(cfg: Config, module: nn.Module) -> Optimizer:
    """SGD or Adam over every parameter of ``module`` that is not frozen, with weight decay on all.

    In one group, or with a ``BACKBONE_LR_FACTOR`` other than 1 in two: the backbone's body, and everything else.

    Raises:
        ConfigError: where every parameter is frozen.
    """
    training = cfg.TRAINING
    parameters = _parameter_groups(module, training.INITIAL_LR, training.BACKBONE_LR_FACTOR)
    if not parameters:
        raise ConfigError("every parameter of the network is frozen; lower 'MODEL.BACKBONE.FREEZE_AT_STAGE'")
    if training.OPTIMIZER == "Adam":
        return Adam(parameters, lr=training.INITIAL_LR, weight_decay=training.WEIGHT_DECAY)
    return SGD(
        parameters,
        lr=training.INITIAL_LR,
        momentum=training.MOMENTUM,
        nesterov=training.NESTEROV,
        weight_decay=training.WEIGHT_DECAY,
    )


def _parameter_groups(module: nn.Module, rate: float, backbone_factor: float) -> list[dict[str, Any]]:
    """Weights that are trained, in groups of one learning rate; none where everything is frozen."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if backbone_factor == 1:
        return [{"params": [p for _, p in named]}] if named else []
    body = [p for name, p in named if "backbone.body." in name]
    rest = [p for name, p in named if "backbone.body." not in name]
    groups = ({"params": rest}, {"params": body, "lr": rate * backbone_factor})
    return [group for group in groups if group["params"]]


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """L2 norm of the gradients of ``parameters`` taken together; those without a gradient count as 0. A scalar."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros(())


def shrink_gradient(parameters: Sequence[Tensor], norm: Tensor, maximum: float) -> None:
    """Scale the gradients, whose norm is ``norm``, so that it is at most ``maximum``."""
    factor = torch.clamp(maximum / (norm + 1e-6), max=1.0)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, factor)


def build_scaler(amp: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss in fp16, so that small gradients do not vanish; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


def constant_factor(iteration: int) -> float:
    """1 at every iteration."""
    return 1.0


def step_factor(steps: Sequence[int], factor: float) -> Factor:
    """Multiplied by ``factor`` from each iteration in ``steps`` on."""
    ordered = sorted(steps)
    return lambda iteration: factor ** bisect_right(ordered, iteration)


def exponential_factor(start: int, steps: int, factor: float) -> Factor:
    """Constant before iteration ``start``, from there on shrinking by ``factor`` over every ``steps`` iterations.

    Iteration ``start`` itself is the first to be smaller, as in the published runs; there is no floor.
    """
    return lambda iteration: factor ** (max(0, iteration - start + 1) / steps)


def with_warmup(factor: Factor, iterations: int) -> Factor:
    """Rise linearly to ``factor`` over the first ``iterations``; the first one already moves the weights a little."""
    return lambda iteration: factor(iteration) * min(1.0, (iteration + 1) / max(1, iterations))


class LearningRateSchedule:
    """Sets the optimizer's learning rate for an iteration: its initial rate times a factor."""

    def __init__(self, optimizer: Optimizer, factor: Factor) -> None:
        self._optimizer = optimizer
        self._factor = factor
        self._initial_rates = [group["lr"] for group in optimizer.param_groups]

    def set_iteration(self, iteration: int) -> None:
        """Use the rate of ``iteration``, counted from 0, in the optimizer's next step."""
        for group, initial in zip(self._optimizer.param_groups, self._initial_rates, strict=True):
            group["lr"] = initial * self._factor(iteration)

    @property
    def rate(self) -> float:
        """The first parameter group's rate, for the log."""
        return self._optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, Any]:
        """The current rates, for whoever reads the checkpoint; a resumed run computes them from its iteration."""
        return {"rates": [group["lr"] for group in self._optimizer.param_groups]}


def build_schedule(cfg: Config, optimizer: Optimizer) -> LearningRateSchedule:
    """The schedule of ``TRAINING.LR_*`` over an optimizer that was built with ``TRAINING.INITIAL_LR``."""
    training = cfg.TRAINING
    factor: Factor = constant_factor
    if training.LR_DECAY_TYPE == "step":
        factor = step_factor(training.LR_DECAY_STEPS, training.LR_DECAY_FACTOR)
    elif training.LR_DECAY_TYPE == "exponential":
        factor = exponential_factor(
            training.LR_EXP_DECAY_START, training.LR_EXP_DECAY_STEPS, training.LR_EXP_DECAY_FACTOR
        )
    return LearningRateSchedule(optimizer, with_warmup(factor, training.LR_WARMUP_ITERATIONS))
