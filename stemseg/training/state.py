"""Everything that a run is at one moment: what a checkpoint holds, and what a resumed run goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from stemseg.training.checkpoints import read_checkpoint
from stemseg.training.run_log import RunLog
from stemseg.training.schedules import LearningRateSchedule
from stemseg.training.step import OptimizationStep
from stemseg.utils.errors import CheckpointError


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        iterations: completed steps of the optimiser; also the position among the samples and in the learning rate's
            schedule, and, with the seed, what random numbers come next.
        glow_iterations: completed sub-iterations of the appearance flow's warm-up (METHOD section 5).
    """

    iterations: int = 0
    glow_iterations: int = 0


@dataclass(kw_only=True)
class TrainingState:
    """The parts of a run that change while it runs.

    Attributes:
        objective: itself, not its distributed wrapping; has the child ``network``, whose weights are saved.
        optimizer, schedule, step, log: made for it.
        progress: how far the run has come.
    """

    objective: nn.Module
    optimizer: Optimizer
    schedule: LearningRateSchedule
    step: OptimizationStep
    log: RunLog
    progress: Progress = field(default_factory=Progress)

    def capture(self) -> dict[str, Any]:
        """The content of a checkpoint (METHOD section 7)."""
        return {
            "model": self.objective.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.schedule.state_dict(),
            "scaler": self.step.scaler_state(),
            "logger": self.log.state_dict(),
            "iterations": self.progress.iterations,
            "glow_iterations": self.progress.glow_iterations,
        }

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: where the file is missing or damaged, or was made with another network or optimiser.
        """
        content = read_checkpoint(path)
        try:
            self.objective.network.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} was made with another network or optimiser than this configuration describes: {error}\n"
                "Use the config.yaml beside it, or start a new run from its weights with --initial_ckpt"
            ) from error
        self.step.load_scaler_state(content.get("scaler", {}))
        self.log.load_state_dict(content.get("logger", {}))
        self.progress = Progress(int(content["iterations"]), int(content.get("glow_iterations", 0)))
