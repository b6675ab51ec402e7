"""The variants that are compared: one configuration, and a few overrides of its keys for each."""

from __future__ import annotations

from typing import NamedTuple

_APPEARANCE = ("MODEL.USE_OFFSET_HEAD=true",)
_NO_FLOW = (*_APPEARANCE, "TRAINING.LOSSES.WEIGHT_OFFSET=0", "TRAINING.GLOW_EPOCH=0")
_UNCONDITIONAL = (*_APPEARANCE, "MODEL.OFFSET.CONDITION=none")
_IDENTITY = (
    "MODEL.OFFSET.CONDITION=identity",
    "MODEL.OFFSET.LIKELIHOOD=instance_means",
    "MODEL.OFFSET.WHITEN=true",
    "MODEL.OFFSET.GRADIENT_SCALE=0.1",
)


def _dims(number: int) -> tuple[str, ...]:
    """Another number of free, or appearance, dimensions than three."""
    return (
        f"MODEL.EMBEDDING_DIM_MODE=xyt{number * 'f'}",
        f"TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS={number * [0.3]}",
    )


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
                "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[]",
            ),
        ),
        Variant(
            "stemseg",
            "STEm-Seg with three free dimensions (xytfff): what the others have, less the appearance",
            (),
        ),
        Variant(
            "stemseg-cold",
            "`stemseg` without the warm-up of the learning rate: a control for how much chance weighs",
            ("TRAINING.LR_WARMUP_ITERATIONS=0",),
        ),
        Variant(
            "released",
            "appearance and flow as in the released code: nothing trains the appearance",
            (
                *_APPEARANCE,
                "MODEL.OFFSET.FEATURES=stride32",
                "MODEL.OFFSET.DETACH=true",
                "MODEL.OFFSET.CONDITION=none",
                "MODEL.OFFSET.DEQUANTISATION=floor",
                "MODEL.OFFSET.STANDARDISE=false",
            ),
        ),
        Variant(
            "appearance",
            "appearance trained by the mask loss, no flow loss",
            _NO_FLOW,
        ),
        Variant(
            "flow",
            "appearance trained by the mask loss and an unconditional flow",
            _UNCONDITIONAL,
        ),
        Variant(
            "conditional",
            "appearance trained by the mask loss and the conditional flow: the papers' method, with our defaults",
            _APPEARANCE,
        ),
        Variant(
            "identity",
            "conditional on what an instance looks like in the other frames too, likelihood of the instances' means",
            (*_APPEARANCE, *_IDENTITY),
        ),
        *(
            Variant(f"{name}-dims-1", f"`{name}` with one free, or appearance, dimension", (*overrides, *_dims(1)))
            for name, overrides in {
                "stemseg": (),
                "appearance": _NO_FLOW,
                "flow": _UNCONDITIONAL,
                "conditional": _APPEARANCE,
            }.items()
        ),
        Variant("conditional-dims-6", "`conditional` with six appearance dimensions", (*_APPEARANCE, *_dims(6))),
        Variant(
            "conditional-pixels",
            "`conditional` with the likelihood of the instances' pixels, each instance alike, none of the background",
            (*_APPEARANCE, "MODEL.OFFSET.LIKELIHOOD=instance_pixels"),
        ),
        Variant(
            "conditional-full",
            "`conditional` with the flow's whole gradient to the appearance, not a hundredth of it",
            (*_APPEARANCE, "MODEL.OFFSET.GRADIENT_SCALE=1"),
        ),
        Variant(
            "conditional-tenth",
            "`conditional` with a tenth of the flow's gradient to the appearance",
            (*_APPEARANCE, "MODEL.OFFSET.GRADIENT_SCALE=0.1"),
        ),
        Variant(
            "conditional-stride32",
            "`conditional` with the appearance made from the stride-32 map alone, as published",
            (*_APPEARANCE, "MODEL.OFFSET.FEATURES=stride32"),
        ),
        Variant(
            "appearance-stride32",
            "`appearance` with the appearance made from the stride-32 map alone",
            (*_NO_FLOW, "MODEL.OFFSET.FEATURES=stride32"),
        ),
    )
}
"""Every variant by name, the baselines first."""


def schedule_overrides(iterations: int) -> list[str]:
    """A run of ``iterations`` optimizer steps with the proportions of configs/ablation.yaml's schedule."""
    half = max(1, iterations // 2)
    warm_up = max(1, iterations // 40)
    return [
        f"TRAINING.MAX_ITERATIONS={iterations}",
        f"TRAINING.LR_EXP_DECAY_START={half}",
        f"TRAINING.LR_EXP_DECAY_STEPS={half}",
        f"TRAINING.LR_WARMUP_ITERATIONS={warm_up}",
        f"TRAINING.GLOW_EPOCH={warm_up}",
    ]
