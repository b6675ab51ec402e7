"""The step that moves the weights: gradients accumulated over micro-batches, in any precision (method.md §7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stemseg.structures.clip import ClipBatch
from stemseg.training.loss import LossReport
from stemseg.training.optimizer import gradient_norm, shrink_gradient
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.precision import mixed_precision


class StepReport(NamedTuple):
    """The outcome of one step.

    Attributes:
        terms: mean of each loss term over this process's micro-batches, "total" among them; scalars on the device.
        gradient_norm: L2 norm of the whole gradient before clipping; a scalar on the device.
        last_batch, last_output: the last micro-batch and the network's output for it, for pictures.
    """

    terms: dict[str, Tensor]
    gradient_norm: Tensor
    last_batch: ClipBatch
    last_output: Any


class OptimizationStep:
    """Turns micro-batches into a change of the weights.

    Args:
        training_loss: maps a ClipBatch to a LossReport; may be wrapped in DistributedDataParallel.
        optimizer: over its parameters.
        scaler: of the loss, enabled for fp16 (:func:`build_scaler`).
        device: where batches are moved to.
        amp: "none", "bf16" or "fp16"; fp16 scales the loss so that small gradients do not vanish.
        max_gradient_norm: the gradient is scaled down to this L2 norm; 0 means never.
    """

    def __init__(
        self,
        training_loss: nn.Module,
        optimizer: Optimizer,
        *,
        scaler: torch.amp.GradScaler,
        device: torch.device,
        amp: str = "none",
        max_gradient_norm: float = 0.0,
    ) -> None:
        self._training_loss = training_loss
        self._optimizer = optimizer
        self._device = device
        self._amp = amp
        self._scaler = scaler
        self._max_gradient_norm = max_gradient_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def accumulate(self, micro_batches: Iterator[ClipBatch], seeds: Sequence[int]) -> StepReport:
        """Compute the mean gradient over the next ``len(seeds)`` micro-batches; the weights stay as they are.

        Before each micro-batch PyTorch's random numbers are seeded with its seed.
        """
        self._optimizer.zero_grad(set_to_none=True)
        reports = []
        for i, seed in enumerate(seeds):
            batch = next(micro_batches).to(self._device, non_blocking=True)
            torch.manual_seed(seed)
            with self._gradient_exchange(last=i == len(seeds) - 1):
                reports.append(self._forward_backward(batch, share=1.0 / len(seeds)))
        self._scaler.unscale_(self._optimizer)
        norm = gradient_norm(self._parameters)
        if self._max_gradient_norm > 0:
            shrink_gradient(self._parameters, norm, self._max_gradient_norm)
        terms = _mean_terms([{"total": r.total.detach(), **r.terms} for r in reports])
        return StepReport(terms, norm, batch, reports[-1].output)

    def move(self) -> None:
        """Change the weights by what was accumulated; in fp16 a gradient that overflowed changes the scale alone."""
        self._scaler.step(self._optimizer)
        self._scaler.update()

    @property
    def skips_overflow(self) -> bool:
        """Whether a gradient that is not finite leaves the weights as they are (fp16)."""
        return self._scaler.is_enabled()

    def _forward_backward(self, batch: ClipBatch, share: float) -> LossReport:
        with mixed_precision(self._device, self._amp):
            report = self._training_loss(batch)
        self._scaler.scale(report.total * share).backward()
        return report

    def _gradient_exchange(self, *, last: bool) -> AbstractContextManager:
        """Processes exchange their gradients once, with the last micro-batch."""
        if last or not isinstance(self._training_loss, DistributedDataParallel):
            return nullcontext()
        return self._training_loss.no_sync()


def build_scaler(amp: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss in fp16, so that small gradients do not vanish; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")


def distribute(training_loss: nn.Module, process: ProcessInfo, *, may_skip_weights: bool = False) -> nn.Module:
    """Let the processes start from the main one's weights and average their gradients; alone, nothing is wrapped.

    Args:
        training_loss: the same in all processes.
        process: which one this is.
        may_skip_weights: some losses leave weights without a gradient (the appearance flow's warm-up does); looking for
            them in each step costs a little time.
    """
    if process.world_size == 1:
        return training_loss
    return DistributedDataParallel(training_loss, find_unused_parameters=may_skip_weights)


def _mean_terms(reports: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([report[name] for report in reports]).mean() for name in reports[0]}
