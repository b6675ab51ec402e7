"""Which tensor of a published file is which of ours: one table of names for each family of files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from stemseg.utils.errors import CheckpointError

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
# a name that only files of the family have
_FAMILIES = {
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
        f"found no ResNet of a known naming among {len(names)} tensors ({', '.join(names[:4])}, ...); expected weights "
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
    return fields
