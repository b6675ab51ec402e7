"""What a family of weights expects of its network and its input, and the configuration that says so to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

_BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Recipe:
    """How weights were trained.

    Attributes:
        epsilon: added to the variance by their norm; ours adds none, so it is folded into the variance.
        is_rgb: whether the first convolution takes R, G, B; ours takes B, G, R.
        stride_in_1x1: whether a bottleneck's stride is in its first 1x1 convolution or in its 3x3.
        mean, std: of the input, in B, G, R order.
        unit_scale: whether mean and std are for pixel values from 0 to 1.
    """

    epsilon: float
    is_rgb: bool
    stride_in_1x1: bool
    mean: Sequence[float]
    std: Sequence[float]
    unit_scale: bool


_CAFFE2 = Recipe(
    epsilon=0.0,
    is_rgb=False,
    stride_in_1x1=True,
    mean=(102.9801, 115.9465, 122.7717),
    std=(1.0, 1.0, 1.0),
    unit_scale=False,
)
_TORCHVISION = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(0.406, 0.456, 0.485),
    std=(0.225, 0.224, 0.229),
    unit_scale=True,
)
_DETECTRON2 = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=False,
    stride_in_1x1=True,
    mean=(103.53, 116.28, 123.675),
    std=(1.0, 1.0, 1.0),
    unit_scale=False,
)
# detectron2 trained from torchvision's ImageNet weights
_DETECTRON2_RGB = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    unit_scale=False,
)


def choose_recipe(
    family: str,
    names: Sequence[str],
    *,
    author: str = "",
    epsilon: float | None = None,
    is_rgb: bool | None = None,
    stride_in_1x1: bool | None = None,
) -> Recipe:
    """The recipe of a file, from its family and what its content tells; given values win over that.

    Args:
        family: one of :data:`scripts.backbones.names.FAMILIES`.
        names: names of the file's tensors.
        author: detectron2's ``__author__``, which tells weights that come from torchvision.
        epsilon, is_rgb, stride_in_1x1: as :class:`Recipe` has them; None: as the file lets suppose.
    """
    if family == "torchvision":
        recipe = _TORCHVISION
        # its Mask R-CNN COCO_V1 has a frozen norm, which keeps no count of batches, and adds no epsilon
        if any(".fpn." in name for name in names) and not any("num_batches_tracked" in name for name in names):
            epsilon = 0.0 if epsilon is None else epsilon
    elif family == "detectron2":
        from_torchvision = "torchvision" in author.lower() if is_rgb is None else is_rgb
        recipe = _DETECTRON2_RGB if from_torchvision else _DETECTRON2
    else:
        recipe = _CAFFE2
    given = {"epsilon": epsilon, "is_rgb": is_rgb, "stride_in_1x1": stride_in_1x1}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def config_values(recipe: Recipe, backbone_type: str, weights: str) -> Mapping[str, Mapping]:
    """The part of a run's configuration that must go with converted weights."""
    return {
        "INPUT": {
            "BGR_INPUT": True,
            "IMAGE_MEAN": list(recipe.mean),
            "IMAGE_STD": list(recipe.std),
            "NORMALIZE_TO_UNIT_SCALE": recipe.unit_scale,
        },
        "MODEL": {
            "BACKBONE": {"TYPE": backbone_type, "PRETRAINED_WEIGHTS": weights, "NORM": "frozen"},
            "RESNETS": {"STRIDE_IN_1X1": recipe.stride_in_1x1},
        },
    }
