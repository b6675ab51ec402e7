"""What is compared: variants of one configuration, each a few overrides of its keys."""

from __future__ import annotations

from typing import NamedTuple

_APPEARANCE = ("MODEL.USE_OFFSET_HEAD=true",)


class Variant(NamedTuple):
    """One row of the table: what it is called there, what it is, and what it changes in the configuration."""

    name: str
    description: str
    overrides: tuple[str, ...]


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "stemseg-xyt",
            "STEm-Seg on coordinates alone",
            (
                "MODEL.EMBEDDING_DIM_MODE=xyt",
                "MODEL.EMBEDDINGS.EMBEDDING_SIZE=3",
                "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[]",
            ),
        ),
        Variant(
            "stemseg",
            "STEm-Seg with the same six dimensions, no appearance decoder",
            (),
        ),
        Variant(
            "released",
            "appearance as in the released code: nothing trains it",
            (
                *_APPEARANCE,
                "MODEL.OFFSET.DETACH=true",
                "MODEL.OFFSET.CONDITION=none",
                "MODEL.OFFSET.DEQUANTISATION=floor",
                "MODEL.OFFSET.STANDARDISE=false",
            ),
        ),
        Variant(
            "appearance",
            "appearance trained by the mask loss alone, no flow loss",
            (*_APPEARANCE, "TRAINING.LOSSES.WEIGHT_OFFSET=0", "TRAINING.GLOW_EPOCH=0"),
        ),
        Variant(
            "flow",
            "appearance, mask loss and unconditional flow",
            (*_APPEARANCE, "MODEL.OFFSET.CONDITION=none"),
        ),
        Variant(
            "conditional",
            "appearance, mask loss and conditional flow: the papers'",
            _APPEARANCE,
        ),
        Variant(
            "appearance-trunk",
            "appearance from the decoder's trunk, no flow loss",
            (
                *_APPEARANCE,
                "MODEL.OFFSET.FEATURES=trunk",
                "TRAINING.LOSSES.WEIGHT_OFFSET=0",
                "TRAINING.GLOW_EPOCH=0",
            ),
        ),
        Variant(
            "flow-trunk",
            "appearance from the decoder's trunk, unconditional flow",
            (*_APPEARANCE, "MODEL.OFFSET.FEATURES=trunk", "MODEL.OFFSET.CONDITION=none"),
        ),
        Variant(
            "conditional-trunk",
            "appearance from the decoder's trunk, conditional flow",
            (*_APPEARANCE, "MODEL.OFFSET.FEATURES=trunk"),
        ),
    )
}
"""Every variant by name, the baselines first."""


def schedule_overrides(iterations: int) -> list[str]:
    """A run of ``iterations`` optimiser steps with the proportions of configs/ablation.yaml's schedule."""
    half = max(1, iterations // 2)
    warm_up = max(1, iterations // 40)
    return [
        f"TRAINING.MAX_ITERATIONS={iterations}",
        f"TRAINING.LR_EXP_DECAY_START={half}",
        f"TRAINING.LR_EXP_DECAY_STEPS={half}",
        f"TRAINING.LR_WARMUP_ITERATIONS={warm_up}",
        f"TRAINING.GLOW_EPOCH={warm_up}",
    ]
