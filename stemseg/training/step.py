"""One step of the optimiser: gradients accumulated over several micro-batches, in mixed precision where wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stemseg.structures.clip import ClipBatch
from stemseg.utils.distributed import ProcessInfo

_AMP_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class StepReport(NamedTuple):
    """What one step did.

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
    """Turns micro-batches into a change of the weights."""

    def __init__(
        self,
        objective: nn.Module,
        optimizer: Optimizer,
        *,
        device: torch.device,
        amp: str = "none",
        max_gradient_norm: float = 0.0,
    ) -> None:
        """
        Args:
            objective: maps a ClipBatch to a LossReport; may be wrapped in DistributedDataParallel.
            optimizer: over the objective's parameters.
            device: where batches are moved to.
            amp: "none", "bf16" or "fp16"; fp16 scales the loss so that small gradients do not vanish.
            max_gradient_norm: the gradient is scaled down to this L2 norm; 0 means never.
        """
        self._objective = objective
        self._optimizer = optimizer
        self._device = device
        self._amp_dtype = _AMP_DTYPES[amp]
        self._scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self._max_gradient_norm = max_gradient_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def __call__(self, micro_batches: Iterator[ClipBatch], seeds: Sequence[int]) -> StepReport:
        """Accumulate the mean gradient over the next ``len(seeds)`` micro-batches, then move the weights.

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
            _clip(self._parameters, norm, self._max_gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        terms = _mean_terms([{"total": r.total.detach(), **r.terms} for r in reports])
        return StepReport(terms, norm, batch, reports[-1].output)

    def scaler_state(self) -> dict[str, Any]:
        """The loss scale of fp16, for a checkpoint; empty otherwise."""
        return self._scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Go on with a checkpoint's loss scale; one of a run without fp16 has none, and the initial scale is kept."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    def _forward_backward(self, batch: ClipBatch, share: float):
        with torch.autocast(self._device.type, dtype=self._amp_dtype, enabled=self._amp_dtype is not None):
            report = self._objective(batch)
        self._scaler.scale(report.total * share).backward()
        return report

    def _gradient_exchange(self, *, last: bool) -> AbstractContextManager:
        """Processes exchange their gradients once, with the last micro-batch."""
        if last or not isinstance(self._objective, DistributedDataParallel):
            return nullcontext()
        return self._objective.no_sync()


def distribute(objective: nn.Module, process: ProcessInfo, *, may_skip_weights: bool = False) -> nn.Module:
    """Let the processes start from the main one's weights and average their gradients; alone, nothing is wrapped.

    Args:
        objective: the same in all processes.
        process: which one this is.
        may_skip_weights: some losses leave weights without a gradient (the appearance flow's warm-up does); looking for
            them in each step costs a little time.
    """
    if process.world_size == 1:
        return objective
    return DistributedDataParallel(objective, find_unused_parameters=may_skip_weights)


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """L2 norm of the gradients of ``parameters`` taken together; those without a gradient count as 0. A scalar."""
    norms = [p.grad.norm() for p in parameters if p.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def _clip(parameters: Sequence[Tensor], norm: Tensor, maximum: float) -> None:
    factor = torch.clamp(maximum / (norm + 1e-6), max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _mean_terms(reports: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([report[name] for report in reports]).mean() for name in reports[0]}
