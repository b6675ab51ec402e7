"""The optimiser (METHOD section 7)."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Adam, Optimizer

from stemseg.config import Config
from stemseg.utils.errors import ConfigError


def build_optimizer(cfg: Config, module: nn.Module) -> Optimizer:
    """SGD or Adam over every parameter of ``module`` that is not frozen, in one group with weight decay on all.

    Raises:
        ConfigError: where every parameter is frozen.
    """
    training = cfg.TRAINING
    parameters = [p for p in module.parameters() if p.requires_grad]
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
