"""Turns published weights into our backbone's state dict, in three steps.

:func:`rename` finds by a table of names for each family of files which tensor is which of ours; a :class:`Recipe` says
what the family expects of network and input; :func:`convert` folds epsilon, channel order, biases and FPN norms in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from stemseg.config import load_config
from stemseg.modeling.backbone.build import BLOCKS_PER_STAGE, EFFICIENTNET, FPN, Backbone, build_backbone
from stemseg.modeling.backbone.efficientnet import BLOCKS_PER_STAGE as EFFICIENTNET_BLOCKS
from stemseg.utils.errors import CheckpointError
from stemseg.utils.text import shorten_list

_FIRST_CONV = "body.stem.conv1.weight"
_EFFICIENTNET_MARK = "body.layer4.4.conv3.weight"
_NORM = re.compile(r"(body\..*(?:bn\d|downsample\.1))\.\w+")


def find_backbone_type(tensors: Mapping[str, Tensor]) -> str:
    """ "R-50-FPN", "R-101-FPN" or "EfficientNet-Lite0-FPN", from the number of blocks.

    Raises:
        CheckpointError: for any other network.
    """
    found = [
        len({name.split(".")[2] for name in tensors if name.startswith(f"body.layer{stage}.")}) for stage in range(1, 5)
    ]
    if tuple(found) == EFFICIENTNET_BLOCKS and _EFFICIENTNET_MARK in tensors:
        return EFFICIENTNET
    for name in ("R-50-FPN", "R-101-FPN"):
        if tuple(found) == BLOCKS_PER_STAGE[name] and "body.layer1.0.conv3.weight" in tensors:
            return name
    raise CheckpointError(
        f"found a network with {', '.join(map(str, found))} blocks in its stages, expected a ResNet-50 (3, 4, 6, 3) or "
        "ResNet-101 (3, 4, 23, 3) of bottlenecks (1x1, 3x3, 1x1 convolutions), or an EfficientNet-Lite0 (3, 2, 6, 5)"
    )


def convert(
    tensors: Mapping[str, Tensor], recipe: Recipe, backbone_type: str, *, fpn_seed: int, fpn_channels: int = 256
) -> tuple[dict[str, Tensor], bool]:
    """Our state dict, and whether its FPN is random because the source has none.

    Args:
        tensors: under our names (:func:`stemseg.modeling.backbone.convert.rename`).
        recipe: how they were trained.
        backbone_type: as :func:`find_backbone_type` gives it.
        fpn_seed: of a random FPN; the global random state stays as it is.
        fpn_channels: of the FPN's maps; the source's own FPN must have as many.

    Raises:
        CheckpointError: where tensors are missing, have another shape, or cannot be folded.
    """
    state = {name: value.detach().float().clone() for name, value in tensors.items() if _is_wanted(name)}
    _complete_norms(state, recipe.epsilon)
    _fold_body_biases(state)
    _fold_fpn_norms(state, recipe.epsilon)
    if recipe.is_rgb:
        state[_FIRST_CONV] = state[_FIRST_CONV].flip(1)
    overrides = [f"MODEL.BACKBONE.TYPE={backbone_type}", f"MODEL.RESNETS.BACKBONE_OUT_CHANNELS={fpn_channels}"]
    with torch.device("meta"):  # names and shapes alone
        backbone = build_backbone(load_config(overrides=overrides))
    has_fpn = any(name.startswith("fpn.") for name in state)
    if not has_fpn:
        state.update(_random_fpn(backbone, fpn_seed))
    _check(state, backbone.state_dict())
    return {name: state[name].contiguous() for name in backbone.state_dict()}, not has_fpn


def _random_fpn(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """A freshly initialized FPN, as training starts with where no weights are given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fpn = FPN(backbone.body.out_channels, backbone.fpn.fpn_inner1.out_channels)
    return {f"fpn.{name}": value for name, value in fpn.state_dict().items()}


def _is_wanted(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


def _complete_norms(state: dict[str, Tensor], epsilon: float) -> None:
    """Statistics where the source has only scale and shift (Caffe2), and epsilon added to every variance."""
    prefixes = {match[1] for match in map(_NORM.fullmatch, list(state)) if match}
    for prefix in prefixes:
        weight = state.get(f"{prefix}.weight")
        if weight is None:
            raise CheckpointError(f"the source has no scale for '{prefix}'; is the file complete?")
        state.setdefault(f"{prefix}.running_mean", torch.zeros_like(weight))
        state.setdefault(f"{prefix}.running_var", torch.ones_like(weight))
        variance = state[f"{prefix}.running_var"] + epsilon
        if not (variance > 0).all():
            raise CheckpointError(
                f"'{prefix}.running_var' is not positive; with which epsilon were the weights trained?"
            )
        state[f"{prefix}.running_var"] = variance


def _fold_body_biases(state: dict[str, Tensor]) -> None:
    """A convolution's bias shifts what its norm takes the mean from: s (Wx + b - mean) = s (Wx - (mean - b))."""
    biases = [n for n in state if n.startswith("body.") and re.search(r"(conv\d|downsample\.0)\.bias$", n)]
    for name in biases:
        norm = name.replace("conv", "bn").replace("downsample.0", "downsample.1").removesuffix(".bias")
        state[f"{norm}.running_mean"] -= state.pop(name)


def _fold_fpn_norms(state: dict[str, Tensor], epsilon: float) -> None:
    """Batch norms behind the FPN's convolutions become part of their weight and bias; ours has none."""
    for prefix in sorted({name.split(".norm.")[0] for name in state if name.startswith("fpn.") and ".norm." in name}):
        norm = {
            part: state.pop(f"{prefix}.norm.{part}", None) for part in ("weight", "bias", "running_mean", "running_var")
        }
        if any(value is None for value in norm.values()):
            raise CheckpointError(
                f"the norm behind '{prefix}' has no running mean and variance: a group norm depends on its input and "
                "cannot become part of a convolution. Take weights whose FPN has a batch norm or none"
            )
        scale = norm["weight"] / (norm["running_var"] + epsilon).sqrt()
        bias = state.get(f"{prefix}.bias", torch.zeros_like(scale))
        state[f"{prefix}.weight"] = state[f"{prefix}.weight"] * scale[:, None, None, None]
        state[f"{prefix}.bias"] = (bias - norm["running_mean"]) * scale + norm["bias"]


def _check(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    shapes = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    for kind, names in (("lacks", missing), ("has unknown tensors:", unknown), ("has other shapes:", shapes)):
        if names:
            raise CheckpointError(
                f"the source {kind} {shorten_list(names)}; is it a plain network of its kind, and complete?"
            )


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
_DETECTRON2_RGB = Recipe(
    epsilon=_BATCH_NORM_EPSILON,
    is_rgb=True,
    stride_in_1x1=False,
    mean=(103.53, 116.28, 123.675),
    std=(57.375, 57.12, 58.395),
    unit_scale=False,
)
# TensorFlow's networks: pixel values from -1 to 1
_EFFICIENTNET = Recipe(
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
        family: one of :data:`stemseg.modeling.backbone.convert.FAMILIES`.
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
        recipe = _DETECTRON2_RGB if from_torchvision else _DETECTRON2_RECIPE
    elif family == "efficientnet":
        recipe = _EFFICIENTNET
    else:
        recipe = _CAFFE2_RECIPE
    given = {"epsilon": epsilon, "is_rgb": is_rgb, "stride_in_1x1": stride_in_1x1}
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
    renamed = {_our_name(name, rules): value for name, value in tensors.items()}
    renamed.pop(None, None)
    return renamed


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
    for stage, num_blocks in enumerate(EFFICIENTNET_BLOCKS, start=1):
        if number < num_blocks:
            return f"layer{stage}.{number}"
        number -= num_blocks
    return f"layer{len(EFFICIENTNET_BLOCKS) + 1}.{number}"  # of a larger network, which the check of names refuses
