"""Converted backbones compute what the source's own network computes, whatever family the weights are of."""

import pickle
import re
import sys

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from stemseg.config import load_config
from stemseg.modeling.backbone.build import build_backbone
from stemseg.modeling.backbone.convert_main import main
from stemseg.modeling.backbone.families import choose_recipe, find_family, rename
from stemseg.modeling.weights import load_pretrained_backbone


@pytest.fixture(scope="module")
def torchvision_models():
    """torchvision's models, also where its compiled part cannot be loaded (CPU-only torch beside a CUDA wheel)."""
    library = None
    try:
        from torchvision import models
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # what a failed import leaves behind
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        try:
            from torchvision import models
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"torchvision cannot be imported: {error}")
    yield models
    del library


@pytest.fixture(autouse=True)
def _remove_weights(tmp_path):
    """A hundred megabytes a file: pytest would keep them for three runs."""
    yield
    for path in tmp_path.iterdir():
        path.unlink()


def randomize(module, seed=0):
    """Random parameters and norm statistics of a size that keeps features finite, running_var far from 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(random_value(name, value.shape, generator))
    return module.eval()


def random_model(builder, **arguments):
    """A model with random weights; building it on the meta device leaves its own initialization out."""
    with torch.device("meta"):
        model = builder(weights=None, **arguments)
    return randomize(model.to_empty(device="cpu"))


def random_value(name, shape, generator):
    if name.endswith(("running_var",)):
        return torch.rand(shape, generator=generator) * 1e-3 + 1e-5  # small: epsilon 1e-5 matters
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * (1e-3 / shape[1:].numel()) ** 0.5
    if name.endswith("weight"):
        return 0.5 + 0.5 * torch.rand(shape, generator=generator)
    return 0.1 * torch.randn(shape, generator=generator)


def converted(source, tmp_path, *flags):
    """The backbone that the written configuration and weights give, and that configuration."""
    output = tmp_path / "out.pth"
    assert main([str(source), str(output), *flags]) == 0
    values = yaml.safe_load(output.with_suffix(".yaml").read_text())
    assert values["MODEL"]["BACKBONE"]["PRETRAINED_WEIGHTS"] == "out.pth"
    cfg = load_config(output.with_suffix(".yaml"))
    with torch.device("meta"):  # takes the file's tensors as they are, without a second's initialization
        backbone = build_backbone(cfg).eval()
    backbone.load_state_dict(torch.load(output, weights_only=True), strict=True, assign=True)
    return backbone, cfg


def inputs(cfg):
    """An image as the source's network takes it (R, G, B, normalized as torchvision does), and as ours does."""
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype(np.float32)  # B, G, R
    mean, std = (np.array(v, dtype=np.float32) for v in (cfg.INPUT.IMAGE_MEAN, cfg.INPUT.IMAGE_STD))
    ours = ((image / 255 if cfg.INPUT.NORMALIZE_TO_UNIT_SCALE else image) - mean) / std
    theirs = (image[..., ::-1] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return tuple(
        torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).permute(0, 3, 1, 2) for x in (theirs, ours)
    )


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 2e-5 * b.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision_imagenet(torchvision_models, tmp_path, name):
    theirs = random_model(getattr(torchvision_models, name))
    torch.save(theirs.state_dict(), tmp_path / "in.pth")
    ours, cfg = converted(tmp_path / "in.pth", tmp_path)
    backbone_type = cfg.MODEL.BACKBONE.TYPE
    assert backbone_type == f"R-{name.removeprefix('resnet')}-FPN"
    x, y = inputs(cfg)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
    expected = []
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        x = layer(x)
        expected.append(x)
    assert_close(ours.body(y), expected)


@torch.no_grad()
@pytest.mark.parametrize("version", ["frozen", "batch", "v2"])
def test_torchvision_mask_rcnn(torchvision_models, tmp_path, version):
    from torchvision.ops.misc import FrozenBatchNorm2d

    builder = torchvision_models.detection.maskrcnn_resnet50_fpn
    if version == "v2":  # its FPN has batch norms, which must be folded
        builder = torchvision_models.detection.maskrcnn_resnet50_fpn_v2
    theirs = builder(weights=None, weights_backbone=None, num_classes=2).backbone
    if version == "frozen":  # as COCO_V1: no epsilon
        replace_norms(theirs.body, lambda channels: FrozenBatchNorm2d(channels, eps=0.0))
    randomize(theirs)
    torch.save({f"backbone.{k}": v for k, v in theirs.state_dict().items()}, tmp_path / "in.pth")
    ours, cfg = converted(tmp_path / "in.pth", tmp_path)
    x, y = inputs(cfg)
    maps, expected = ours.body(y), list(theirs.body(x).values())
    assert_close(maps, expected)
    for i in range(4):
        for kind, blocks in (("inner", theirs.fpn.inner_blocks), ("layer", theirs.fpn.layer_blocks)):
            features = expected[i] if kind == "inner" else theirs.fpn.inner_blocks[i](expected[i])
            assert_close([getattr(ours.fpn, f"fpn_{kind}{i + 1}")(features)], [blocks[i](features)])
    assert_close([ours.fpn(maps).stride32], [theirs(x)["3"]])  # the one map without upsampling


def replace_norms(module, make):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, make(child.num_features))
        else:
            replace_norms(child, make)


@torch.no_grad()
def test_torchvision_weights_by_name(torchvision_models, tmp_path, monkeypatch, capsys):
    downloads = []

    def download(url, path, hash_prefix):
        downloads.append((url, hash_prefix))
        torch.save(random_model(torchvision_models.resnet50).state_dict(), path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert main(["ResNet50_Weights.IMAGENET1K_V2", str(tmp_path / "a.pth")]) == 0
    ((url, hash_prefix),) = downloads
    assert url.endswith(f"{hash_prefix}.pth") and len(hash_prefix) == 8
    assert main(["ResNet50_Weights.NONSENSE", str(tmp_path / "b.pth")]) == 1
    assert "NONSENSE" in capsys.readouterr().err


@pytest.fixture(scope="module")
def backbone_state():
    """A random R-50-FPN under our names."""
    return randomize(build_backbone(load_config(overrides=["MODEL.BACKBONE.TYPE=R-50-FPN"]))).state_dict()


def caffe2_name(name):
    """Our name as Caffe2 has it; None for the statistics, which it does not have."""
    part = name.rsplit(".", 1)[1]
    if part.startswith("running"):
        return None
    if name.startswith("fpn."):
        kind, level = re.search(r"fpn_(inner|layer)(\d)", name).groups()
        block = {"1": 2, "2": 3, "3": 5, "4": 2}[level]
        lateral = "_lateral" if kind == "inner" and level != "4" else ""
        return f"fpn_{'inner_' if kind == 'inner' else ''}res{int(level) + 1}_{block}_sum{lateral}_{part[0]}"
    name = name.removeprefix("body.")
    if name.startswith("stem"):
        return "conv1_w" if "conv1" in name else f"res_conv1_bn_{'s' if part == 'weight' else 'b'}"
    layer, block, module = re.match(r"layer(\d)\.(\d+)\.(downsample\.\d|\w+)", name).groups()
    branch = "1" if "downsample" in module else f"2{'abc'[int(module[-1]) - 1]}"
    is_norm = module == "downsample.1" or module.startswith("bn")
    return f"res{int(layer) + 1}_{block}_branch{branch}_" + (
        f"bn_{'s' if part == 'weight' else 'b'}" if is_norm else "w"
    )


def detectron2_name(name):
    if name.startswith("fpn."):
        kind, level, part = re.search(r"fpn_(inner|layer)(\d)\.(\w+)", name).groups()
        return f"backbone.fpn_{'lateral' if kind == 'inner' else 'output'}{int(level) + 1}.{part}"
    name = re.sub(r"layer(\d)", lambda m: f"res{int(m[1]) + 1}", name.removeprefix("body."))
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return "backbone.bottom_up." + re.sub(r"bn(\d)", r"conv\1.norm", name)


def write_pickle(path, content):
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)  # old protocols: test_safe_pickle.py


def arrays(state, rename_one):
    return {rename_one(k): v.numpy() for k, v in state.items() if rename_one(k) is not None}


@pytest.mark.parametrize("wrap", [lambda blobs: {"blobs": blobs, "cfg": "TEXT: 1"}, lambda blobs: blobs])
def test_caffe2_pickles(backbone_state, tmp_path, wrap):
    blobs = arrays(backbone_state, caffe2_name)
    blobs.update(fc1000_w=np.ones((4, 4), np.float32), res2_0_branch2a_w_momentum=np.ones(3), lr=np.float32(0.1))
    blobs["conv1_b"] = np.full(64, 0.25, dtype=np.float32)
    write_pickle(tmp_path / "R-50.pkl", wrap(blobs))
    ours, cfg = converted(tmp_path / "R-50.pkl", tmp_path)
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 and cfg.INPUT.IMAGE_MEAN == [102.9801, 115.9465, 122.7717]
    for name, value in ours.state_dict().items():
        if name.endswith("running_mean"):
            expected = torch.full_like(value, -0.25 if "stem" in name else 0.0)  # the bias went into the mean
        else:
            expected = torch.ones_like(value) if name.endswith("running_var") else backbone_state[name]
        assert torch.equal(value, expected), name


def test_detectron2_pickles(backbone_state, tmp_path):
    content = {"model": arrays(backbone_state, detectron2_name), "__author__": "zoo", "matching_heuristics": True}
    content["model"]["roi_heads.box.weight"] = np.zeros(3, np.float32)
    write_pickle(tmp_path / "model.pkl", content)
    ours, cfg = converted(tmp_path / "model.pkl", tmp_path)
    assert cfg.INPUT.IMAGE_MEAN == [103.53, 116.28, 123.675] and cfg.MODEL.RESNETS.STRIDE_IN_1X1
    for name, value in ours.state_dict().items():
        epsilon = 1e-5 if name.endswith("running_var") else 0
        assert torch.equal(value, backbone_state[name] + epsilon), name


def test_detectron2_from_torchvision_is_rgb(backbone_state, tmp_path):
    content = {"model": arrays(backbone_state, detectron2_name), "__author__": "torchvision"}
    write_pickle(tmp_path / "model.pkl", content)
    ours, cfg = converted(tmp_path / "model.pkl", tmp_path)
    assert not cfg.MODEL.RESNETS.STRIDE_IN_1X1 and cfg.INPUT.IMAGE_STD == [57.375, 57.12, 58.395]
    assert torch.equal(ours.body.stem.conv1.weight, backbone_state["body.stem.conv1.weight"].flip(1))


def test_maskrcnn_benchmark_and_own_checkpoints_are_taken_as_they_are(backbone_state, tmp_path):
    model = {f"module.backbone.{k}": v for k, v in backbone_state.items()}
    model["module.roi_heads.weight"] = torch.zeros(2)
    torch.save({"model": model, "iteration": 5, "optimizer": {"state": {}}}, tmp_path / "in.pth")
    _, cfg = converted(tmp_path / "in.pth", tmp_path)
    ours = build_backbone(cfg)
    load_pretrained_backbone(ours, tmp_path / "out.pth")  # as training does
    assert all(torch.equal(v, backbone_state[k]) for k, v in ours.state_dict().items())
    assert cfg.INPUT.IMAGE_MEAN == load_config().INPUT.IMAGE_MEAN


def test_a_missing_fpn_is_random_from_the_seed(backbone_state, tmp_path, capsys):
    blobs = {k: v for k, v in arrays(backbone_state, caffe2_name).items() if not k.startswith("fpn")}
    write_pickle(tmp_path / "in.pkl", blobs)
    fpn = [converted(tmp_path / "in.pkl", tmp_path, "--seed", s)[0].fpn.fpn_inner1.weight for s in ("1", "1", "2")]
    assert torch.equal(fpn[0], fpn[1]) and not torch.equal(fpn[0], fpn[2])
    assert "FPN: random (seed 2)" in capsys.readouterr().out


def test_given_values_win():
    recipe = choose_recipe("detectron2", [], is_rgb=True, epsilon=0.5, stride_in_1x1=True)
    assert (recipe.epsilon, recipe.is_rgb, recipe.stride_in_1x1) == (0.5, True, True)
    assert recipe.std == (57.375, 57.12, 58.395)
    names = ["backbone.body.conv1.weight", "backbone.fpn.inner_blocks.0.weight"]
    assert choose_recipe("torchvision", names).epsilon == 0.0
    assert choose_recipe("torchvision", names, epsilon=1e-5).epsilon == 1e-5
    assert choose_recipe("torchvision", [*names, "backbone.body.bn1.num_batches_tracked"]).epsilon == 1e-5


def test_caffe2_fpn_names_of_r101():
    names = ["conv1_w", "fpn_inner_res4_22_sum_lateral_w", "fpn_inner_res5_2_sum_b", "fpn_res4_22_sum_w", "rpn_conv_w"]
    assert find_family(names) == "caffe2"
    assert list(rename(dict.fromkeys(names), "caffe2")) == [
        "body.stem.conv1.weight", "fpn.fpn_inner3.weight", "fpn.fpn_inner4.bias", "fpn.fpn_layer3.weight",
    ]  # fmt: skip


def refused(source, tmp_path, capsys, *expected):
    assert main([str(source), str(tmp_path / "no.pth")]) == 1
    error = capsys.readouterr().err
    assert all(text in error for text in expected), error
    assert not list(tmp_path.glob("no.*"))


def test_wrong_sources_are_explained(backbone_state, tmp_path, capsys):
    refused(tmp_path / "absent.pth", tmp_path, capsys, "absent.pth does not exist")
    refused(tmp_path / "absent.pkl", tmp_path, capsys, "absent.pkl does not exist")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "vit.pth")
    refused(tmp_path / "vit.pth", tmp_path, capsys, "no ResNet or EfficientNet of a known naming", "encoder.weight")
    torch.save({"model": {"epoch": 3}}, tmp_path / "empty.pth")
    refused(tmp_path / "empty.pth", tmp_path, capsys, "holds no tensors")
    torch.save({k: v for k, v in backbone_state.items() if "layer3.5" not in k}, tmp_path / "short.pth")
    refused(tmp_path / "short.pth", tmp_path, capsys, "3, 4, 5, 3 blocks", "expected a ResNet-50")
    torch.save({k: v for k, v in backbone_state.items() if "fpn_layer2" not in k}, tmp_path / "part.pth")
    refused(tmp_path / "part.pth", tmp_path, capsys, "lacks fpn.fpn_layer2.weight")
    grouped = {**backbone_state, "body.layer1.0.conv2.weight": torch.zeros(128, 4, 3, 3)}
    torch.save(grouped, tmp_path / "resnext.pth")
    refused(tmp_path / "resnext.pth", tmp_path, capsys, "body.layer1.0.conv2.weight [128, 4, 3, 3]")
    torch.save({**backbone_state, "body.stem.bn1.running_var": torch.zeros(64)}, tmp_path / "zero.pth")
    refused(tmp_path / "zero.pth", tmp_path, capsys, "body.stem.bn1.running_var' is not positive")
    assert main([str(tmp_path / "zero.pth"), str(tmp_path / "no.txt")]) == 1
    detectron2 = {detectron2_name(k): v for k, v in backbone_state.items()}
    detectron2["backbone.fpn_lateral2.norm.weight"] = detectron2["backbone.fpn_lateral2.norm.bias"] = torch.ones(256)
    torch.save(detectron2, tmp_path / "group.pth")
    refused(tmp_path / "group.pth", tmp_path, capsys, "fpn.fpn_inner1", "group norm")
