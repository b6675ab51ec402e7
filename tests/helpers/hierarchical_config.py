"""A hierarchical embedding in a network small enough for tests."""

from __future__ import annotations

from stemseg.config import Config, load_config
from tests.helpers.small_network import SMALL_NETWORK

SMALL = (
    "INPUT.NUM_FRAMES=2",
    "INPUT.NUM_CLASSES=3",
    *SMALL_NETWORK,
    "MODEL.OFFSET.N_FLOW=2",
    "MODEL.OFFSET.HIDDEN_CHANNELS=8",
    "MODEL.OFFSET.CONDITION_CHANNELS=4",
    "TRAINING.GLOW_EPOCH=2",
    "TRAINING.BATCH_SIZE=2",
    "TRAINING.MAX_ITERATIONS=4",
    "TRAINING.INITIAL_LR=0.01",
)

RELEASED = (
    "MODEL.OFFSET.DETACH=true",
    "MODEL.OFFSET.CONDITION=none",
    "MODEL.OFFSET.DEQUANTISATION=floor",
    "MODEL.OFFSET.STANDARDISE=false",
)


def small_hierarchical_config(*overrides: str) -> Config:
    """``youtube_vis_hevis`` with a tiny network and 4 iterations, of which 2 warm up the flow."""
    return load_config("youtube_vis_hevis", [*SMALL, *overrides])
