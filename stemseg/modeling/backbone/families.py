"""Families of published backbone weights: the names of their tensors, and the recipe of each.

:func:`rename` finds by a table of names for each family which tensor is which of ours; a :class:`Recipe` says what the
family expects of network and input. Nothing heavy is imported here: the command line lists the families.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from stemseg.utils.errors import CheckpointError
from stemseg.utils.text import shorten_list

Value = TypeVar("Value")

# (pattern, our name); in our name {layer} is {res} - 1, or {index} + 1, and {conv}, {norm}, {stat} are looked up below.
# A norm behind an FPN convolution is named "<convolution>.norm.*", which our FPN does not have: it is folded later.
_TORCHVISION = (
    (r"(backbone\.body\.)?conv1\.(?P<part>weight)", "body.stem.conv1.{part}"),
    (r"(backbone\.body\.)?bn1\.(?P<part>\w+)", "body.stem.bn1.{part}"),
    (r"(backbone\.body\.)?(?P<rest>layer[1-4]\..+)", "body.{rest}"),
    (r"backbone\.fpn\.inner_blocks\.(?P<index>[0-3])(\.0)?\.(?P<part>weight|bias)", "fpn.fpn_inner{layer}.{part}"),
    (r"backbone\.fpn\.inner_blocks\.(?P<index>[0-3])\.1\.(?P<part>\w+)", "fpn.fpn_inner{layer}.norm.{part}"),
    (r"backbone\.fpn\.layer_blocks\.(?P<index>[0-3])(\.0)?\.(?P<part>weight|bias)", "fpn.fpn_layer{layer}.{part}"),
    (r"backbone\.fpn\.layer_blocks\.(?P<index>[0-3])\.1\.(?P<part>\w+)", "fpn.fpn_layer{layer}.norm.{part}"),
)
_DETECTRON2_BODY = r"(backbone\.)?(bottom_up\.)?"
_DETECTRON2 = (
    (_DETECTRON2_BODY + r"stem\.conv1\.(?P<part>weight|bias)", "body.stem.conv1.{part}"),
    (_DETECTRON2_BODY + r"stem\.conv1\.norm\.(?P<part>\w+)", "body.stem.bn1.{part}"),
    (
        _DETECTRON2_BODY + r"res(?P<res>[2-5])\.(?P<block>\d+)\.(?P<branch>conv[123]|shortcut)\.(?P<part>weight|bias)",
        "body.layer{layer}.{block}.{conv}.{part}",
    ),
    (
        _DETECTRON2_BODY + r"res(?P<res>[2-5])\.(?P<block>\d+)\.(?P<branch>conv[123]|shortcut)\.norm\.(?P<part>\w+)",
        "body.layer{layer}.{block}.{norm}.{part}",
    ),
    (r"(backbone\.)?fpn_lateral(?P<res>[2-5])\.(?P<part>.+)", "fpn.fpn_inner{layer}.{part}"),
    (r"(backbone\.)?fpn_output(?P<res>[2-5])\.(?P<part>.+)", "fpn.fpn_layer{layer}.{part}"),
)
_CAFFE2 = (
    (r"conv1_(?P<stat>w|b)", "body.stem.conv1.{stat}"),
    (r"res_conv1_bn_(?P<stat>s|b|rm|riv)", "body.stem.bn1.{stat}"),
    (
        r"res(?P<res>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2a|2b|2c)_(?P<stat>w|b)",
        "body.layer{layer}.{block}.{conv}.{stat}",
    ),
    (
        r"res(?P<res>[2-5])_(?P<block>\d+)_branch(?P<branch>1|2a|2b|2c)_bn_(?P<stat>s|b|rm|riv)",
        "body.layer{layer}.{block}.{norm}.{stat}",
    ),
    (r"fpn_inner_res(?P<res>[2-5])_\d+_sum(_lateral)?_(?P<stat>w|b)", "fpn.fpn_inner{layer}.{stat}"),
    (r"fpn_res(?P<res>[2-5])_\d+_sum_(?P<stat>w|b)", "fpn.fpn_layer{layer}.{stat}"),
)
_MASKRCNN_BENCHMARK = (
    (r"(backbone\.)?(?P<rest>body\.(stem|layer[1-4])\..+)", "{rest}"),
    (r"(backbone\.)?(?P<rest>fpn\.fpn_(inner|layer)[1-4]\..+)", "{rest}"),
)
# blocks and norms of the source are numbered through; {place} and {norm} are looked up by the number of the block
_EFFICIENTNET = (
    (r"_conv_stem\.(?P<part>weight)", "body.stem.conv1.{part}"),
    (r"_bn0\.(?P<part>\w+)", "body.stem.bn1.{part}"),
    (r"_blocks\.(?P<number>\d+)\._expand_conv\.(?P<part>weight)", "body.{place}.conv1.{part}"),
    (r"_blocks\.(?P<number>\d+)\._depthwise_conv\.(?P<part>weight)", "body.{place}.conv2.{part}"),
    (r"_blocks\.(?P<number>\d+)\._project_conv\.(?P<part>weight)", "body.{place}.conv3.{part}"),
    (r"_blocks\.(?P<number>\d+)\._bn(?P<count>[012])\.(?P<part>\w+)", "body.{place}.bn{count}.{part}"),
)
# a name that only files of the family have
_FAMILIES = {
    "efficientnet": (r"_blocks\.0\._depthwise_conv\.weight", _EFFICIENTNET),
    "maskrcnn-benchmark": (r"(backbone\.)?body\.stem\.conv1\.weight", _MASKRCNN_BENCHMARK),
    "detectron2": (_DETECTRON2_BODY + r"stem\.conv1\.weight", _DETECTRON2),
    "caffe2": (r"conv1_w", _CAFFE2),
    "torchvision": (r"(backbone\.body\.)?conv1\.weight", _TORCHVISION),
}
FAMILIES = tuple(_FAMILIES)
_CONVS = {"1": "downsample.0", "shortcut": "downsample.0", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_NORMS = {"1": "downsample.1", "shortcut": "downsample.1", "2a": "bn1", "2b": "bn2", "2c": "bn3"}
_STATS = {"w": "weight", "s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}


def find_family(names: Iterable[str]) -> str:
    """The family of files that names its tensors like this: one of :data:`FAMILIES`.

    Raises:
        CheckpointError: where it is none of them.
    """
    names = list(names)
    for family, (mark, _) in _FAMILIES.items():
        if any(re.fullmatch(mark, name) for name in names):
            return family
    raise CheckpointError(
        f"found no ResNet or EfficientNet of a known naming among {len(names)} tensors "
        f"({shorten_list(names, 4)}); expected weights "
        f"of {', '.join(FAMILIES)}"
    )


def rename(tensors: Mapping[str, Value], family: str) -> dict[str, Value]:
    """The tensors of the backbone under our names; those of heads and the like are left out."""
    rules = _FAMILIES[family][1]
    renamed = ((_our_name(name, rules), value) for name, value in tensors.items())
    return {name: value for name, value in renamed if name is not None}


def _our_name(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    for pattern, template in rules:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return template.format(**_fields(match.groupdict()))
    return None


def _fields(groups: dict[str, str]) -> dict[str, str | int]:
    fields: dict[str, str | int] = dict(groups)
    if "res" in groups:
        fields["layer"] = int(groups["res"]) - 1
    if "index" in groups:
        fields["layer"] = int(groups["index"]) + 1
    if "stat" in groups:
        fields["stat"] = _STATS[groups["stat"]]
    if "branch" in groups:
        branch = groups["branch"]
        fields["conv"] = _CONVS.get(branch, branch)
        fields["norm"] = _NORMS.get(branch, branch.replace("conv", "bn"))
    if "number" in groups:
        fields["place"] = _place(int(groups["number"]))
    if "count" in groups:
        fields["count"] = int(groups["count"]) + 1
    return fields


def _place(number: int) -> str:
    """Stage and index of a block that is counted through all stages."""
    from stemseg.modeling.backbone.efficientnet import BLOCKS_PER_STAGE  # here, because it imports torch

    for stage, num_blocks in enumerate(BLOCKS_PER_STAGE, start=1):
        if number < num_blocks:
            return f"layer{stage}.{number}"
        number -= num_blocks
    return f"layer{len(BLOCKS_PER_STAGE) + 1}.{number}"  # of a larger network, which the check of names refuses


_BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Recipe:
    """Facts of a family of weights that its network and input must fit.

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


_CAFFE2_RECIPE = Recipe(
    epsilon=0.0,
    is_rgb=False,
    stride_in_1x1=True,
    mean=(102.9801, 115.9465, 122.7717),
    std=(1.0, 1.0, 1.0),
    unit_scale=False,
)
_TORCHVISION_RECIPE = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(0.406, 0.456, 0.485),
    std=(0.225, 0.224, 0.229),
    unit_scale=True,
)
_DETECTRON2_RECIPE = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=False,
    stride_in_1x1=True,
    mean=(103.53, 116.28, 123.675),
    std=(1.0, 1.0, 1.0),
    unit_scale=False,
)
# detectron2 trained from torchvision's ImageNet weights
_DETECTRON2_RGB_RECIPE = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    unit_scale=False,
)
# TensorFlow's networks: pixel values from -1 to 1
_EFFICIENTNET_RECIPE = Recipe(
    epsilon=1e-3,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
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
        family: one of :data:`FAMILIES`.
        names: names of the file's tensors.
        author: detectron2's ``__author__``, which tells weights that come from torchvision.
        epsilon, is_rgb, stride_in_1x1: as :class:`Recipe` has them; None: as the file lets suppose.
    """
    if family == "torchvision":
        recipe = _TORCHVISION_RECIPE
        # its Mask R-CNN COCO_V1 has a frozen norm, which keeps no count of batches, and adds no epsilon
        if any(".fpn." in name for name in names) and not any("num_batches_tracked" in name for name in names):
            epsilon = 0.0 if epsilon is None else epsilon
    elif family == "detectron2":
        from_torchvision = "torchvision" in author.lower() if is_rgb is None else is_rgb
        recipe = _DETECTRON2_RGB_RECIPE if from_torchvision else _DETECTRON2_RECIPE
    elif family == "efficientnet":
        recipe = _EFFICIENTNET_RECIPE
    else:
        recipe = _CAFFE2_RECIPE
    given: dict[str, Any] = {"epsilon": epsilon, "is_rgb": is_rgb, "stride_in_1x1": stride_in_1x1}
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})


def config_values(recipe: Recipe, backbone_type: str, weights: str, fpn_channels: int) -> Mapping[str, Mapping]:
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
            "RESNETS": {"STRIDE_IN_1X1": recipe.stride_in_1x1, "BACKBONE_OUT_CHANNELS": fpn_channels},
        },
    }
