"""Turns renamed published weights into our backbone's state dict: folds epsilon, channel order, biases and norms in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from stemseg.config import load_config
from stemseg.modeling.backbone.build import BLOCKS_PER_STAGE, EFFICIENTNET, build_backbone
from stemseg.modeling.backbone.efficientnet import BLOCKS_PER_STAGE as EFFICIENTNET_BLOCKS
from stemseg.modeling.backbone.families import Recipe
from stemseg.modeling.backbone.resnet import FPN, Backbone
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
        tensors: under our names (:func:`stemseg.modeling.backbone.families.rename`).
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
        fpn = FPN(backbone.body.out_channels, backbone.fpn.out_channels)
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
        names = [f"{prefix}.norm.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if any(name not in state for name in names):
            raise CheckpointError(
                f"the norm behind '{prefix}' has no running mean and variance: a group norm depends on its input and "
                "cannot become part of a convolution. Take weights whose FPN has a batch norm or none"
            )
        weight, shift, mean, variance = (state.pop(name) for name in names)
        scale = weight / (variance + epsilon).sqrt()
        bias = state.get(f"{prefix}.bias", torch.zeros_like(scale))
        state[f"{prefix}.weight"] = state[f"{prefix}.weight"] * scale[:, None, None, None]
        state[f"{prefix}.bias"] = (bias - mean) * scale + shift


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
