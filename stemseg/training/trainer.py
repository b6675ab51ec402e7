"""Training: the step that moves the weights, and the loop of steps around it (method.md §7).

:meth:`Trainer.run` sets the learning rate of each iteration, lets :class:`OptimizationStep` move the weights, writes
the log, and paints, validates and saves when it is time to. ``training/run.py`` builds what they need.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stemseg.structures.clip import Clip, ClipBatch
from stemseg.training.checkpoints import CheckpointStore, TrainingState
from stemseg.training.interrupts import InterruptListener
from stemseg.training.loader import MicroBatchSampler, SampleSource, WaitMeter, build_loader, random_seed
from stemseg.training.logger import IterationRecord
from stemseg.training.loss import LossReport
from stemseg.training.optimizer import gradient_norm, shrink_gradient
from stemseg.utils import distributed
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import TrainingError
from stemseg.utils.precision import mixed_precision

_logger = logging.getLogger(__name__)

Evaluate = Callable[[nn.Module, int], Mapping[str, float]]
Paint = Callable[[ClipBatch, Any], Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Plain values of the loop.

    Attributes:
        max_iterations: steps of the optimizer of the whole run.
        batch_size: clips of one step, over all processes.
        micro_batch_size: clips of one forward pass.
        warm_up_clips: the appearance flow is trained alone for this many clips (method.md §5).
        seed: of PyTorch's random numbers during training.
        num_workers: data-loading processes of each training process; 0 loads in the training process itself.
        save_interval, picture_interval, evaluation_interval: iterations between checkpoints, pictures in TensorBoard
            and evaluations; 0: never (a last checkpoint is always written).
        best_measure: figure of an evaluation by which ``best.pth`` is chosen, higher is better; "": keep no best.
    """

    max_iterations: int
    batch_size: int
    micro_batch_size: int = 1
    warm_up_clips: int = 0
    seed: int = 0
    num_workers: int = 0
    save_interval: int = 10000
    picture_interval: int = 0
    evaluation_interval: int = 0
    best_measure: str = ""


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
            shrink_gradient(self._parameters, norm, self._max_gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        terms = _mean_terms([{"total": r.total.detach(), **r.terms} for r in reports])
        return StepReport(terms, norm, batch, reports[-1].output)

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


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Runs iterations until the last one or until the user interrupts, and saves checkpoints.

    Attributes:
        state: what is trained, new or restored.
        step: changes its weights.
        dataset: sample i of the run; has at least max_iterations * batch_size of them.
        collate: makes a batch of several clips.
        checkpoints: where the main process saves.
        settings: plain values.
        process: which of the cooperating processes this is.
        device: of the network.
        interrupts: tells when to stop early.
        paint: makes pictures, by name, of a batch and the network's output for it.
        evaluate: measures the network, of which it makes a copy, after the given number of iterations. Called in every
            process, so that they can share the work; the main one logs the result.
    """

    state: TrainingState
    step: OptimizationStep
    dataset: SampleSource
    collate: Callable[[Sequence[Clip]], ClipBatch]
    checkpoints: CheckpointStore
    settings: TrainerSettings
    process: ProcessInfo
    device: torch.device
    interrupts: InterruptListener
    paint: Paint | None = None
    evaluate: Evaluate | None = None

    def run(self) -> bool:
        """Train from where the state is; True when the run is complete, False when it was interrupted (and saved).

        Raises:
            TrainingError: where the loss stops being finite.
        """
        settings, progress = self.settings, self.state.progress
        sampler = MicroBatchSampler(
            first_iteration=progress.iterations,
            last_iteration=settings.max_iterations,
            batch_size=settings.batch_size,
            micro_batch_size=settings.micro_batch_size,
            process=self.process,
        )
        loader = build_loader(
            self.dataset,
            sampler,
            self.collate,
            num_workers=settings.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        self.state.training_loss.train()
        try:
            return self._loop(WaitMeter(iter(loader)), sampler)
        finally:
            self.state.log.close()

    def _loop(self, batches: WaitMeter, sampler: MicroBatchSampler) -> bool:
        progress, last = self.state.progress, self.settings.max_iterations
        while progress.iterations < last:
            first_samples = sampler.first_samples(progress.iterations)
            self._iterate(batches, [random_seed(self.settings.seed, sample) for sample in first_samples])
            interrupted = distributed.any_process(self.interrupts.requested, self.device)
            if interrupted or progress.iterations == last or self._is_due(self.settings.save_interval):
                self._save()
            if interrupted:
                return progress.iterations == last
        return True

    def _iterate(self, batches: WaitMeter, seeds: Sequence[int]) -> None:
        """One iteration: set the rate, move the weights, count, log, and what else is due."""
        state = self.state
        start = time.perf_counter()
        state.schedule.set_iteration(state.progress.iterations)
        state.training_loss.warming_up = state.progress.glow_iterations < self.settings.warm_up_clips
        report = self.step(batches, seeds)
        names = list(report.terms)
        values = torch.stack([*report.terms.values(), report.gradient_norm.to(self.device)])
        *losses, norm = distributed.average(values).tolist()
        state.progress.iterations += 1
        if state.training_loss.warming_up:
            state.progress.glow_iterations += self.settings.batch_size
        record = IterationRecord(
            losses=dict(zip(names, losses, strict=True)),
            learning_rate=state.schedule.rate,
            gradient_norm=norm,
            seconds=time.perf_counter() - start,
            data_wait=batches.take_seconds(),
        )
        self._check_finite(record, report)
        state.log.add(state.progress.iterations, record)
        self._illustrate(report)
        self._measure()

    def _check_finite(self, record: IterationRecord, report: StepReport) -> None:
        if math.isfinite(record.losses["total"]):
            return
        terms = ", ".join(f"{name} {value:.4g}" for name, value in record.losses.items())
        newest = self.checkpoints.newest()
        raise TrainingError(
            f"the loss is not finite after iteration {self.state.progress.iterations} ({terms}); the last clips were "
            f"{'; '.join(report.last_batch.names)}. Lower TRAINING.INITIAL_LR, set TRAINING.GRAD_CLIP_NORM (1.0, say) "
            f"or try TRAINING.AMP=none, and go on from the last checkpoint ({newest or 'there is none yet'})"
        )

    def _illustrate(self, report: StepReport) -> None:
        if self.paint is not None and self.process.is_main and self._is_due(self.settings.picture_interval):
            pictures = self.paint(report.last_batch, report.last_output)
            self.state.log.add_images(self.state.progress.iterations, pictures)

    def _measure(self) -> None:
        if self.evaluate is None or not self._is_due(self.settings.evaluation_interval):
            return
        iterations = self.state.progress.iterations
        with torch.no_grad():
            values = self.evaluate(self.state.training_loss.network, iterations)
        self.state.log.add_scalars(iterations, values)
        self._keep_if_best(values.get(self.settings.best_measure))

    def _keep_if_best(self, value: float | None) -> None:
        if value is None or not self.process.is_main:
            return
        if self.checkpoints.save_best(self.state.capture(), self.state.progress.iterations, value):
            _logger.info("the best so far: %s %.4f", self.settings.best_measure, value)

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self.state.progress.iterations % interval == 0

    def _save(self) -> None:
        if self.process.is_main:
            path = self.checkpoints.save(self.state.capture(), self.state.progress.iterations)
            _logger.info("saved %s", path)
        distributed.barrier()


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
