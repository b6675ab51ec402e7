"""Training: the step that moves the weights, and the loop of steps (method.md §7).

:class:`OptimizationStep` accumulates the gradient over micro-batches, in any precision, and moves the weights.
:meth:`Trainer.run` sets the learning rate of each iteration, takes the step, writes the log, and paints, validates and
saves when it is time to. ``training/run.py`` builds what they need.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stemseg.data.preprocessing import PackedBatch, PackedClip
from stemseg.modeling.network import Network
from stemseg.structures.clip import ClipBatch
from stemseg.training.arguments import TrainerSettings
from stemseg.training.checkpoints import CheckpointStore, TrainingState
from stemseg.training.interrupts import InterruptListener, Rescue, explained
from stemseg.training.loader import MicroBatchSampler, SampleSource, WaitMeter, build_loader, random_seed, take_together
from stemseg.training.logger import IterationRecord
from stemseg.training.loss import LossReport
from stemseg.training.optimizer import gradient_norm, shrink_gradient
from stemseg.utils import devices, distributed
from stemseg.utils.devices import mixed_precision
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import TrainingError

_logger = logging.getLogger(__name__)

Evaluate = Callable[[Network, int], Mapping[str, float]]
Paint = Callable[[ClipBatch, Any], Mapping[str, np.ndarray]]


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
        amp: "none", "bf16", "fp16" or "auto"; fp16 scales the loss so that small gradients do not vanish.
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

    def accumulate(self, micro_batches: Iterator[PackedBatch], seeds: Sequence[int]) -> StepReport:
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
        logged = [{"total": r.total.detach(), **r.terms} for r in reports]
        terms = {name: torch.stack([each[name] for each in logged]).mean() for name in logged[0]}
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
    collate: Callable[[Sequence[PackedClip]], PackedBatch]
    checkpoints: CheckpointStore
    settings: TrainerSettings
    process: ProcessInfo
    device: torch.device
    interrupts: InterruptListener
    paint: Paint | None = None
    evaluate: Evaluate | None = None
    _rescue: Rescue = field(init=False, repr=False)

    def run(self) -> bool:
        """Train from where the state is; True when the run is complete, False when it was interrupted (and saved).

        Whatever else ends it, the last complete iteration is saved first.

        Raises:
            TrainingError: where the loss or the gradient stops being finite, or the machine fails.
            StemsegError: whatever a sample, an evaluation or a checkpoint raises.
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
            skip_bad_samples=settings.skip_bad_samples,
        )
        self.state.training_loss.train()
        self._rescue = Rescue(self.state, self.checkpoints, is_main=self.process.is_main)
        try:
            return self._loop(WaitMeter(iter(loader), skip_bad_samples=settings.skip_bad_samples), sampler)
        except BaseException as error:
            self._rescue.save()
            known = explained(error)
            if known is error:
                raise
            raise known from error
        finally:
            self._close_log()

    def _close_log(self) -> None:
        """End the log; that it can't be written any more hides no other error, and costs no trained weights."""
        try:
            self.state.log.close()
        except Exception as error:
            _logger.error("the end of the log in TensorBoard could not be written: %s", error)

    def _loop(self, batches: WaitMeter, sampler: MicroBatchSampler) -> bool:
        progress, last = self.state.progress, self.settings.max_iterations
        while progress.iterations < last:
            first_samples = sampler.first_samples(progress.iterations)
            self._iterate(batches, [random_seed(self.settings.seed, sample) for sample in first_samples])
            interrupted = distributed.any_process(self.interrupts.requested, self.device)
            if interrupted or progress.iterations == last or self._is_due(self.settings.save_interval):
                self._save()
            elif self.process.is_main and 0 < self.settings.save_minutes * 60 <= self._rescue.seconds_unsaved:
                _logger.info("saved %s", self._rescue.write())
            if interrupted:
                return progress.iterations == last
        return True

    def _iterate(self, batches: WaitMeter, seeds: Sequence[int]) -> None:
        """One iteration: set the rate, move the weights, count, log, and what else is due."""
        state = self.state
        start = time.perf_counter()
        self._rescue.begin_iteration()
        state.training_loss.warming_up = state.progress.glow_iterations < self.settings.warm_up_clips
        before = 0 if state.training_loss.warming_up else self.settings.warm_up_before_schedule
        state.schedule.set_iteration(state.progress.iterations - before)
        report = self.step.accumulate(take_together(batches, len(seeds), self.process, self.device), seeds)
        names = list(report.terms)
        values = torch.stack([*report.terms.values(), report.gradient_norm.to(self.device)])
        *losses, norm = devices.read(distributed.average(values))  # the only wait for the device in an iteration
        terms = dict(zip(names, losses, strict=True))
        self._check_finite(terms, norm, report)
        self._move()
        record = IterationRecord(
            losses=terms,
            learning_rate=state.schedule.rate,
            gradient_norm=norm,
            seconds=time.perf_counter() - start,
            data_wait=batches.take_seconds(),
        )
        state.log.add(state.progress.iterations, record)
        self._illustrate(report)
        self._measure()

    def _move(self) -> None:
        """Move the weights and count the iteration, as one."""
        progress = self.state.progress
        with self._rescue.changing():
            self.step.move()
            self.state.training_loss.finish_step()
            progress.iterations += 1
            if self.state.training_loss.warming_up:
                progress.glow_iterations += self.settings.batch_size

    def _check_finite(self, losses: Mapping[str, float], norm: float, report: StepReport) -> None:
        """Refuse a step before it changes the weights; the same in all processes."""
        if math.isfinite(losses["total"]) and (math.isfinite(norm) or self.step.skips_overflow):
            return
        terms = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        raise TrainingError(
            f"the loss or its gradient is not finite in iteration {self.state.progress.iterations + 1} ({terms}, "
            f"gradient norm {norm:.4g}), which was not applied; the last clips were "
            f"{'; '.join(report.last_batch.names)}. Lower TRAINING.INITIAL_LR, set TRAINING.GRAD_CLIP_NORM (1.0, say) "
            f"or try TRAINING.AMP=none, and give the same command again, or go on from an earlier checkpoint with "
            "--restore_session"
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
        iterations, measure = self.state.progress.iterations, self.settings.best_measure
        if self.checkpoints.save_best(self.state.capture(), iterations, value, measure=measure):
            _logger.info("the best so far: %s %.4f", measure, value)

    def _is_due(self, interval: int) -> bool:
        return interval > 0 and self.state.progress.iterations % interval == 0

    def _save(self) -> None:
        if self.process.is_main:
            _logger.info("saved %s", self._rescue.write())
        distributed.barrier()
