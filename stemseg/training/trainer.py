"""Training: the loop of steps (method.md §7).

:meth:`Trainer.run` sets the learning rate of each iteration, lets the step move the weights, writes the log, and
paints, validates and saves when it is time to. ``training/run.py`` builds what it needs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stemseg.modeling.network import Network
from stemseg.structures.clip import Clip, ClipBatch
from stemseg.training.checkpoints import CheckpointStore, TrainingState
from stemseg.training.interrupts import InterruptListener, Rescue, explained
from stemseg.training.loader import MicroBatchSampler, SampleSource, WaitMeter, build_loader, random_seed
from stemseg.training.logger import IterationRecord
from stemseg.training.step import OptimizationStep, StepReport
from stemseg.utils import distributed
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import TrainingError

_logger = logging.getLogger(__name__)

Evaluate = Callable[[Network, int], Mapping[str, float]]
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
        save_minutes: minutes after which a checkpoint is written besides; 0: never.
        skip_bad_samples: samples that can't be loaded and are replaced by others, in each process, before the run ends.
        best_measure: figure of an evaluation by which ``best.pth`` is chosen, higher is better; "": keep no best.
    """

    max_iterations: int
    batch_size: int
    micro_batch_size: int = 1
    warm_up_clips: int = 0
    seed: int = 0
    num_workers: int = 0
    save_interval: int = 10000
    save_minutes: float = 0
    skip_bad_samples: int = 0
    picture_interval: int = 0
    evaluation_interval: int = 0
    best_measure: str = ""


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
        state.schedule.set_iteration(state.progress.iterations)
        state.training_loss.warming_up = state.progress.glow_iterations < self.settings.warm_up_clips
        report = self.step.accumulate(self._next_batches(batches, len(seeds)), seeds)
        names = list(report.terms)
        values = torch.stack([*report.terms.values(), report.gradient_norm.to(self.device)])
        *losses, norm = distributed.average(values).tolist()
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

    def _next_batches(self, batches: WaitMeter, number: int) -> Iterator[ClipBatch]:
        """The micro-batches of an iteration. Several processes end together where one of them can't load its own."""
        if self.process.world_size == 1:
            return batches
        ready, failure = [], None
        try:
            ready = [next(batches) for _ in range(number)]
        except Exception as error:
            failure = error
        if distributed.any_process(failure is not None, self.device):
            raise failure or TrainingError("another process of this run could not load its data; its message says why")
        return iter(ready)

    def _move(self) -> None:
        """Move the weights and count the iteration, as one."""
        progress = self.state.progress
        with self._rescue.changing():
            self.step.move()
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
