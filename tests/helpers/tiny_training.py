"""A training run small enough for tests: a network of two convolutions, clips of random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stemseg.config import Config, load_config
from stemseg.structures.clip import Clip, ClipBatch, ClipTargets
from stemseg.training.arguments import parse_arguments
from stemseg.training.checkpoints import CheckpointStore
from stemseg.training.interrupts import InterruptListener
from stemseg.training.logger import TrainingLogger
from stemseg.training.loss import LossReport
from stemseg.training.run import build_settings, build_state, build_step
from stemseg.training.trainer import Trainer
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

    def finish_step(self) -> None:
        """Nothing is kept from step to step."""


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
    """Clips of one size that is a multiple of 32, or needs none."""
    frames = torch.stack([c.frames for c in clips])
    return ClipBatch(
        frames, [c.targets for c in clips], [tuple(c.frames.shape[-2:]) for c in clips], [c.name for c in clips]
    )


def tiny_config(*overrides: str) -> Config:
    """Six iterations of four clips with SGD, whose rate falls from the third iteration on."""
    settings = [
        "TRAINING.MAX_ITERATIONS=6",
        "TRAINING.BATCH_SIZE=4",
        "TRAINING.OPTIMIZER=SGD",
        "TRAINING.INITIAL_LR=0.05",
        "TRAINING.LR_DECAY_TYPE=exponential",
        "TRAINING.LR_EXP_DECAY_START=2",
        "TRAINING.LR_EXP_DECAY_STEPS=4",
        "TRAINING.LR_EXP_DECAY_FACTOR=0.1",
    ]
    return load_config(None, [*settings, *overrides])


def make_trainer(
    directory: Path,
    *overrides: str,
    flags: Sequence[str] = (),
    process: ProcessInfo | None = None,
    logs: Path | None = None,
    training_loss: nn.Module | None = None,
    **parts: object,
) -> Trainer:
    """A trainer over the tiny parts, built as the training command builds it.

    Args:
        directory: of the checkpoints; the state is restored from the newest where there is one.
        overrides: of :func:`tiny_config`, "KEY=value".
        flags: of the command line; a checkpoint is saved every second iteration unless they say otherwise.
        process: which of several processes this is.
        logs: folder for TensorBoard.
        training_loss: instead of the tiny one.
        parts: of the trainer, instead of the tiny ones.
    """
    cfg, process = tiny_config(*overrides), process or ProcessInfo()
    options = parse_arguments(["--model_dir", str(directory), "--save_interval", "2", "--num_cpu_workers", "0", *flags])
    torch.manual_seed(0)
    log = TrainingLogger(logs, max_iterations=cfg.TRAINING.MAX_ITERATIONS, display_interval=2, summary_interval=2)
    state = build_state(cfg, training_loss or TinyTrainingLoss(), log, CPU)
    store = CheckpointStore(directory, keep=2)
    if store.newest() is not None:
        state.restore(store.newest())
    return Trainer(
        state=state,
        step=build_step(cfg, state, process, CPU),
        collate=collate,
        checkpoints=store,
        settings=build_settings(cfg, options),
        process=process,
        device=CPU,
        **{"dataset": TinyDataset(), "interrupts": InterruptListener(), **parts},
    )


def weights(directory: Path, iteration: int = 6) -> dict[str, torch.Tensor]:
    """The model in a checkpoint of ``directory``."""
    return torch.load(CheckpointStore(directory, keep=0).path(iteration), weights_only=True)["model"]
