"""ResNet and FPN: golden numbers, stride placement, freezing, trainable norms."""

import pytest
import torch
from torch import nn

from stemseg.config import load_config
from stemseg.modeling.backbone.build import build_backbone
from stemseg.modeling.backbone.norms import FrozenBatchNorm, fold_norms
from stemseg.utils.errors import ConfigError
from tests.helpers.golden_weights import fill_state_dict, load_golden, relative_difference
from tests.helpers.small_network import SMALL_NETWORK

TINY = [*SMALL_NETWORK, "MODEL.BACKBONE.NORM=frozen", "MODEL.BACKBONE.FREEZE_AT_STAGE=2"]


def build(*overrides):
    return build_backbone(load_config(None, [*TINY, *overrides]))


@pytest.mark.parametrize("name", ["R50", "R101"])
def test_maps_equal_the_published_implementation(name):
    golden = load_golden(f"backbone_{name}_fpn")
    backbone = build_backbone(load_config(None, [f"MODEL.BACKBONE.TYPE=R-{name[1:]}-FPN"])).eval()
    fill_state_dict(backbone, "backbone.")
    images = torch.from_numpy(golden["input"])
    with torch.no_grad():
        stem, stages = backbone.body.stem(images), backbone.body(images)
        pyramid = backbone.fpn(stages)
    assert relative_difference(stem[:, ::8], golden["stem"]) < 1e-5
    for i, stage in enumerate(stages, start=2):
        assert relative_difference(stage[:, ::8], golden[f"C{i}_every_8th_channel"]) < 1e-5
    for i, (stride, x) in enumerate(zip((4, 8, 16, 32), pyramid, strict=True), start=2):
        assert relative_difference(x, golden[f"P{i}_scale{stride}"]) < 1e-5


def test_frozen_norm_has_no_epsilon():
    norm = FrozenBatchNorm(1)
    norm.weight.fill_(2.0)
    norm.bias.fill_(1.0)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(1e-6)  # nn.BatchNorm2d's epsilon of 1e-5 would change the result threefold
    x = torch.tensor([3.001]).view(1, 1, 1, 1)
    assert norm(x).item() == pytest.approx(2 * 0.001 / 1e-3 + 1, rel=1e-3)


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_stride_stands_where_the_configuration_puts_it(stride_in_1x1):
    block = build(f"MODEL.RESNETS.STRIDE_IN_1X1={str(stride_in_1x1).lower()}").body.layer2[0]
    assert block.conv1.stride == ((2, 2) if stride_in_1x1 else (1, 1))
    assert block.conv2.stride == ((1, 1) if stride_in_1x1 else (2, 2))


@pytest.mark.parametrize(
    ("freeze_at", "frozen"), [(0, set()), (2, {"stem", "layer1"}), (3, {"stem", "layer1", "layer2"})]
)
def test_freezing_stops_at_the_stage(freeze_at, frozen):
    body = build(f"MODEL.BACKBONE.FREEZE_AT_STAGE={freeze_at}", "MODEL.BACKBONE.NORM=batch").body
    still = {name for name, stage in body.named_children() if not any(p.requires_grad for p in stage.parameters())}
    assert still == frozen


def test_running_statistics_of_frozen_stages_do_not_move():
    backbone = build("MODEL.BACKBONE.NORM=batch").train()
    backbone(torch.randn(2, 3, 32, 64))
    assert not backbone.body.stem.bn1.running_mean.any()
    assert backbone.body.layer2[0].bn1.running_mean.any()


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_gradient_reaches_every_parameter(norm):
    backbone = build(f"MODEL.BACKBONE.NORM={norm}", "MODEL.BACKBONE.FREEZE_AT_STAGE=0")
    sum(x.square().sum() for x in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.any() for p in backbone.parameters())


def test_small_backbones_have_the_widths_asked_for():
    backbone = build()
    assert [len(getattr(backbone.body, f"layer{i}")) for i in range(1, 5)] == [1, 1, 1, 1]
    assert [tuple(x.shape) for x in backbone(torch.zeros(1, 3, 64, 96))] == [
        (1, 8, 16, 24), (1, 8, 8, 12), (1, 8, 4, 6), (1, 8, 2, 3),
    ]  # fmt: skip
    assert backbone.body.layer4[0].conv2.weight.shape == (64, 64, 3, 3)


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ConfigError, match="NORM_GROUPS is 3, which does not divide a layer of 8 channels"):
        build("MODEL.BACKBONE.NORM=group", "MODEL.BACKBONE.NORM_GROUPS=3")


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_folding_keeps_the_result_and_removes_the_norms(norm):
    backbone = build(f"MODEL.BACKBONE.NORM={norm}").eval()
    fill_state_dict(backbone)
    images = torch.randn(1, 3, 64, 96) * 50
    with torch.no_grad():
        before = backbone(images)
        fold_norms(backbone)
        after = backbone(images)
    assert not any(isinstance(m, (FrozenBatchNorm, nn.BatchNorm2d)) for m in backbone.modules())
    assert max(map(relative_difference, after, before)) < 1e-5


def test_folding_leaves_group_norms():
    backbone = build("MODEL.BACKBONE.NORM=group")
    keys = list(backbone.state_dict())
    fold_norms(backbone)
    assert list(backbone.state_dict()) == keys
