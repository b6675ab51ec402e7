"""The heads on the squeeze-expand trunk: golden numbers for every configuration and clip length."""

from functools import cache

import numpy as np
import pytest
import torch

from stemseg.config import load_config
from stemseg.modeling.decoders.heads import build_embedding_head, build_seediness_head, build_semantic_head
from stemseg.structures.network_output import FeaturePyramid
from tests.helpers.golden_weights import det, fill_state_dict, load_golden, recipe_value, relative_difference

BUILDERS = {
    "embedding_head": build_embedding_head,
    "seediness_head": build_seediness_head,
    "semseg_head": build_semantic_head,
}


@cache
def filled_weights(name, config):
    """The recipe's weights of one head: they do not depend on the clip length, and drawing them takes time."""
    head = BUILDERS[name](load_config(config))
    return {key: recipe_value(f"{name}.{key}", value) for key, value in head.state_dict().items()}


def build_filled(name, config, num_frames):
    with torch.device("meta"):
        head = BUILDERS[name](load_config(config, [f"INPUT.NUM_FRAMES={num_frames}"]))
    if head is None:
        return None
    head.load_state_dict(filled_weights(name, config), assign=True)
    return head.eval()


def feature_maps(golden, num_frames):
    maps = [det(f"heads.feat.{s}x.T{num_frames}", (1, 256, num_frames, 96 // s, 128 // s)) for s in (4, 8, 16, 32)]
    for s, x in zip((4, 8, 16, 32), maps, strict=True):
        assert np.allclose(golden[f"feat_{s}x_sum_and_first8"][1:], x.flatten()[:8])
    return FeaturePyramid(*maps)


CASES = [
    ("davis_1", 2), ("davis_1", 4), ("davis_1", 8), ("davis_2", 16), ("davis_1", 32), ("youtube_vis", 8),
    ("kitti_mots_2", 8),
]  # fmt: skip


@pytest.mark.parametrize(("config", "num_frames"), CASES)
def test_outputs_equal_the_published_implementation(config, num_frames):
    golden = load_golden(f"heads_{config}_T{num_frames}")
    features = feature_maps(golden, num_frames)
    config = config.replace("davis_2", "davis_1")  # the same heads, so the same weights
    embedding_head, seediness_head, semantic_head = (build_filled(name, config, num_frames) for name in BUILDERS)
    with torch.no_grad():
        for time_scale in (1, 0.1) if num_frames == 8 else (1,):
            embedding_head.time_scale.fill_(time_scale)
            maps = torch.cat([x for x in embedding_head(features) if x is not None], dim=1)
            assert relative_difference(maps, golden[f"embedding_head|time_scale={time_scale}"]) < 1e-5
        embedding_head.time_scale.fill_(1.0)  # the weights are shared with the other cases
        assert (seediness_head is not None) == ("seediness_head" in golden)
        assert (semantic_head is not None) == ("semseg_head" in golden)
        if seediness_head is not None:
            assert relative_difference(seediness_head(features), golden["seediness_head"]) < 1e-5
        if semantic_head is not None:
            assert relative_difference(torch.cat(semantic_head(features), dim=1), golden["semseg_head"]) < 1e-5


SMALL = ["MODEL.RESNETS.BACKBONE_OUT_CHANNELS=8"] + [
    f"MODEL.{section}.{value}"
    for section in ("EMBEDDINGS", "SEEDINESS", "SEMSEG")
    for value in ("INTER_CHANNELS=[8,8,4,4]", "GN_NUM_GROUPS=2")
]


def small_features(num_frames=4, height=64, width=96):
    return FeaturePyramid(*(torch.randn(2, 8, num_frames, height // s, width // s) for s in (4, 8, 16, 32)))


def test_without_tanh_offsets_are_not_bounded():
    overrides = [*SMALL, "INPUT.NUM_FRAMES=4", "MODEL.EMBEDDING_DIM_MODE=ff",
                 "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[]"]  # fmt: skip
    features = small_features()
    largest = {}
    for tanh in ("true", "false"):
        head = build_embedding_head(load_config(None, [*overrides, f"MODEL.EMBEDDINGS.TANH_ACTIVATION={tanh}"]))
        fill_state_dict(head)
        with torch.no_grad():
            head.conv_embedding.weight.mul_(100)
            largest[tanh] = head(features).embedding.abs().max()
    assert largest["true"] <= 1 < largest["false"]


def test_free_dimensions_alone_may_be_unbounded():
    features = small_features()
    outputs = {}
    for tanh in ("true", "false"):
        head = build_embedding_head(
            load_config(None, [*SMALL, "INPUT.NUM_FRAMES=4", "MODEL.EMBEDDING_DIM_MODE=xyff",
                               f"MODEL.EMBEDDINGS.TANH_FREE_DIMS={tanh}"])
        )  # fmt: skip
        fill_state_dict(head)
        with torch.no_grad():
            head.conv_embedding.weight.mul_(100)
            outputs[tanh] = head(features).embedding
    assert torch.equal(outputs["true"][:, :2], outputs["false"][:, :2])
    assert torch.allclose(outputs["true"][:, 2:], outputs["false"][:, 2:].tanh(), atol=1e-6)
    assert outputs["false"][:, 2:].abs().max() > 1


def test_foreground_channel_is_optional():
    overrides = [*SMALL, "INPUT.NUM_FRAMES=4", "INPUT.NUM_CLASSES=5", "MODEL.USE_SEMSEG_HEAD=true"]
    with_channel = build_semantic_head(load_config(None, overrides))(small_features())
    without = build_semantic_head(load_config(None, [*overrides, "MODEL.SEMSEG.FOREGROUND_CHANNEL=false"]))(
        small_features()
    )
    assert with_channel.class_logits.shape == without.class_logits.shape == (2, 5, 4, 16, 24)
    assert with_channel.foreground_logits.shape == (2, 1, 4, 16, 24)
    assert without.foreground_logits is None


@pytest.mark.parametrize("option", ["NORMALIZATION_LAYER=none", "POOL_TYPE=max"])
def test_options_change_the_trunk(option):
    features = small_features()
    outputs = []
    for overrides in ([], [f"MODEL.SEEDINESS.{option}"]):
        head = build_seediness_head(load_config(None, [*SMALL, "INPUT.NUM_FRAMES=4", *overrides]))
        fill_state_dict(head)
        outputs.append(head(features))
    assert relative_difference(*outputs) > 1e-3


def test_gradient_reaches_every_parameter():
    head = build_embedding_head(load_config(None, [*SMALL, "INPUT.NUM_FRAMES=4", "MODEL.USE_SEEDINESS_HEAD=false"]))
    sum(x.square().sum() for x in head(small_features())).backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
