"""A training run small enough for tests: a network of two convolutions, clips of random numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stemseg.structures.clip import Clip, ClipBatch, ClipTargets
from stemseg.training.checkpoints import CheckpointStore, TrainingState
from stemseg.training.interrupts import InterruptListener
from stemseg.training.logger import TrainingLogger
from stemseg.training.loss import LossReport
from stemseg.training.optimizer import LearningRateSchedule, exponential_factor
from stemseg.training.trainer import OptimizationStep, Trainer, TrainerSettings, build_scaler, distribute
from stemseg.utils.distributed import ProcessInfo

CPU = torch.device("cpu")


class TinyNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # dropout draws random numbers in every forward pass
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Conv2d(4, 1, 1))

    def forward(self, frames):
        return self.layers(frames.flatten(0, 1))


class TinyTrainingLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = TinyNetwork()

    def forward(self, batch: ClipBatch) -> LossReport:
        output = self.network(batch.frames)
        area = torch.stack([t.masks.float().mean() for t in batch.targets]).mean()
        total = (output.mean() - area).square() + output.square().mean()
        return LossReport(total, {"area": area}, output.detach())


class TinyDataset:
    """Sample i is a pure function of i."""

    def __init__(self, length: int = 1000) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Clip:
        generator = torch.Generator().manual_seed(index)
        frames = torch.randn(2, 3, 6, 6, generator=generator)
        masks = (torch.rand(1, 2, 6, 6, generator=generator) > 0.5).byte()
        return Clip(frames, ClipTargets(masks, torch.ones(1, dtype=torch.int64), masks[0] * 0), f"tiny {index}")


def collate(clips: list[Clip]) -> ClipBatch:
    frames = torch.stack([c.frames for c in clips])
    return ClipBatch(frames, [c.targets for c in clips], [(6, 6)] * len(clips), [c.name for c in clips])


def make_trainer(directory: Path, *, optimizer: str = "SGD", process: ProcessInfo | None = None, **options) -> Trainer:
    """A trainer over the tiny parts, restored from the newest checkpoint in ``directory`` where there is one."""
    process = process or ProcessInfo()
    torch.manual_seed(0)
    training_loss = TinyTrainingLoss()
    kinds = {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    }
    built = kinds[optimizer](training_loss.parameters())
    settings = {"max_iterations": 6, "batch_size": 4, "save_interval": 2} | options.pop("settings", {})
    amp = options.pop("amp", "none")
    state = TrainingState(
        training_loss=training_loss,
        optimizer=built,
        schedule=LearningRateSchedule(built, exponential_factor(2, 4, 0.1)),
        scaler=build_scaler(amp, CPU),
        log=TrainingLogger(options.pop("logs", None), max_iterations=6, display_interval=2, summary_interval=2),
    )
    store = CheckpointStore(directory, keep=2)
    if store.newest() is not None:
        state.restore(store.newest())
    parts = {"dataset": TinyDataset(), "interrupts": InterruptListener()} | options
    return Trainer(
        state=state,
        step=OptimizationStep(distribute(training_loss, process), built, scaler=state.scaler, device=CPU, amp=amp),
        collate=collate,
        checkpoints=store,
        settings=TrainerSettings(**settings),
        process=process,
        device=CPU,
        **parts,
    )


def weights(directory: Path, iteration: int = 6) -> dict[str, torch.Tensor]:
    """The model in a checkpoint of ``directory``."""
    return torch.load(CheckpointStore(directory, keep=0).path(iteration), weights_only=True)["model"]
