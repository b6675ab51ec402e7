"""The whole network: published state dicts, consistency of its parts, with and without an appearance embedding."""

import copy
import json

import pytest
import torch
from torch import nn

from stemseg.config import load_config
from stemseg.modeling.backbone.norms import FrozenBatchNorm
from stemseg.modeling.network import build_network, stack_clips
from stemseg.structures.network_output import FeaturePyramid
from stemseg.utils.errors import ConfigError, DataError
from tests.helpers.golden_weights import det, fill_state_dict, relative_difference
from tests.helpers.hierarchical_config import RELEASED, small_hierarchical_config
from tests.helpers.paths import GOLDEN_DIR
from tests.helpers.small_network import SMALL_NETWORK

TINY = [*SMALL_NETWORK, "MODEL.BACKBONE.NORM=frozen", "INPUT.NUM_FRAMES=4"]


def tiny_network(*overrides):
    return build_network(load_config(None, [*TINY, *overrides]))


CONFIGS = [("davis", "davis_1"), ("davis", "davis_2"), ("youtube_vis", "youtube_vis"), ("kitti_mots", "kitti_mots_1"),
           ("kitti_mots", "kitti_mots_2")]  # fmt: skip


@pytest.mark.parametrize(("published", "config"), CONFIGS)
def test_state_dict_equals_the_published_checkpoints(published, config):
    with torch.device("meta"):  # shapes without memory
        network = build_network(load_config(config))
    parameters = dict(network.named_parameters())
    found = {
        key: [
            list(value.shape),
            str(value.dtype).removeprefix("torch."),
            "parameter" if key in parameters else "buffer",
            key in parameters and parameters[key].requires_grad,
        ]
        for key, value in network.state_dict().items()
    }
    assert found == json.loads((GOLDEN_DIR / f"state_dict_{published}.json").read_text())


def test_forward_is_encoding_single_frames_and_decoding_clips():
    network = tiny_network("INPUT.NUM_CLASSES=3", "MODEL.USE_SEMSEG_HEAD=true").eval()
    frames = torch.randn(2, 4, 3, 64, 96)
    with torch.no_grad():
        output = network(frames)
        singly = [[network.encode(frame[None]) for frame in clip] for clip in frames]
        clips = FeaturePyramid(*(torch.cat(maps) for maps in zip(*(f for clip in singly for f in clip), strict=True)))
        again = network.decode(stack_clips(clips, 2))
    shapes = [None if x is None else tuple(x.shape) for x in output]
    assert shapes == [(2, c, 4, 16, 24) for c in (4, 2, 1, 3, 1)] + [None]
    for x, y in zip(output[:5], again[:5], strict=True):
        assert relative_difference(x, y) < 1e-5


def test_clips_do_not_mix_in_a_batch():
    network = tiny_network().eval()
    frames = torch.randn(2, 4, 3, 64, 64)
    with torch.no_grad():
        both, second = network(frames), network(frames[1:])
    assert relative_difference(both.embedding[1:], second.embedding) < 1e-5


def test_seediness_comes_from_the_embedding_head_where_it_has_no_head():
    network = tiny_network("MODEL.USE_SEEDINESS_HEAD=false")
    assert network.seediness_head is None
    seediness = network(torch.randn(1, 4, 3, 32, 64)).seediness
    assert seediness.shape == (1, 1, 4, 8, 16)
    assert 0 <= seediness.min() <= seediness.max() <= 1


def test_free_dim_bandwidths_may_be_none():
    assert tiny_network().free_dim_bandwidths.tolist() == pytest.approx([1 / 0.09] * 2)
    coordinates_only = tiny_network(
        "MODEL.EMBEDDING_DIM_MODE=xyt",
        "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[]",
    )
    assert coordinates_only.free_dim_bandwidths.shape == (0,)


def test_frames_that_are_not_padded_are_refused():
    with pytest.raises(DataError, match="frames of 64 x 90 pixels, expected multiples of 32"):
        tiny_network()(torch.zeros(1, 4, 3, 64, 90))


@pytest.mark.parametrize("norm", ["frozen", "batch", "group"])
def test_preparing_for_inference_keeps_the_results(norm):
    network = tiny_network(f"MODEL.BACKBONE.NORM={norm}", "MODEL.BACKBONE.NORM_GROUPS=4").eval()
    fill_state_dict(network)
    frames = 50 * det("inference.frames", (1, 4, 3, 64, 96))
    for precision, tolerance in ((torch.float32, 2e-6), (torch.float64, 1e-14)):  # nothing is left but rounding
        plain = copy.deepcopy(network).to(precision)
        prepared = plain.inference_copy()
        with torch.no_grad():
            before, after = plain(frames.to(precision)), prepared(frames.to(precision))
        for x, y in zip(before[:3], after[:3], strict=True):
            assert relative_difference(y, x) < tolerance
    assert not prepared.training
    assert not any(p.requires_grad for p in prepared.parameters())


NORMS = (FrozenBatchNorm, nn.BatchNorm2d)


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_a_copy_for_inference_leaves_the_network_in_training(norm):
    network = tiny_network(f"MODEL.BACKBONE.NORM={norm}").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trainable = [p.requires_grad for p in network.parameters()]
    modes = [m.training for m in network.modules()]
    prepared = network.inference_copy()
    assert not any(isinstance(m, NORMS) for m in prepared.modules())
    assert any(isinstance(m, NORMS) for m in network.modules())
    convolutions = [m for m in prepared.backbone.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
    after = network.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert [p.requires_grad for p in network.parameters()] == trainable
    assert [m.training for m in network.modules()] == modes
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in prepared.parameters()}
    assert not shared


def test_half_precision_keeps_the_outputs_in_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tiny_network()(torch.randn(1, 4, 3, 32, 32))
    assert {x.dtype for x in output[:3]} == {torch.float32}


def _frames() -> torch.Tensor:
    return torch.randn(1, 2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_released_configuration_has_exactly_the_published_state_dict():
    reference = json.loads((GOLDEN_DIR / "state_dict_youtube_vis_hevis.json").read_text())
    with torch.device("meta"):
        network = build_network(load_config("youtube_vis_hevis_released"))
    found = {key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in _state(network)}
    assert found == {key: entry[:2] for key, entry in reference.items()}


def _state(network):
    return network.state_dict().items()


def test_a_state_dict_with_the_published_keys_loads_strictly():
    network = build_network(small_hierarchical_config(*RELEASED))
    network.load_state_dict({key: torch.ones_like(value) for key, value in _state(network)}, strict=True)
    assert network.offset_decoder.conv1_cat[0].weight.mean() == 1


@pytest.mark.parametrize("source", ["stride32", "stride4", "trunk"])
def test_appearance_is_added_to_the_free_dimensions_of_the_embedding(source):
    torch.manual_seed(0)
    network = build_network(small_hierarchical_config(f"MODEL.OFFSET.FEATURES={source}")).eval()
    with torch.no_grad():
        output = network(_frames())
        plain = network.embedding_head(_features(network)).embedding
    assert output.appearance.shape == (1, 3, 2, 16, 24)
    assert torch.equal(output.embedding[:, :3], plain[:, :3])
    assert torch.allclose(output.embedding[:, 3:], plain[:, 3:] + output.appearance, atol=1e-6)


def _features(network):
    return stack_clips(network.encode(_frames()[0]), 1)


def test_inference_does_not_run_the_flow():
    network = build_network(small_hierarchical_config()).eval()
    network.offset_head.forward = None
    network.offset_head.condition_encoder = None
    assert network(_frames()).appearance is not None


@pytest.mark.parametrize(("overrides", "reaches"), [((), True), (RELEASED, False)])
def test_gradient_of_the_embedding_reaches_the_appearance_decoder_unless_released(overrides, reaches):
    network = build_network(small_hierarchical_config(*overrides))
    network(_frames()).embedding.square().sum().backward()
    weight = network.offset_decoder.conv1_add[0].weight
    assert (weight.grad is not None and bool(weight.grad.abs().sum() > 0)) is reaches


def test_conditional_weights_exist_only_where_there_is_a_condition():
    conditional = dict(_state(build_network(small_hierarchical_config())))
    unconditional = dict(_state(build_network(small_hierarchical_config("MODEL.OFFSET.CONDITION=none"))))
    extra = {key for key in conditional if key not in unconditional}
    assert extra and all("injection" in key or "condition_encoder" in key for key in extra)
    assert not set(unconditional) - set(conditional)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("MODEL.STEM_DIM_MODE=xy", "must be 'xyt'"),
        ("MODEL.GLOW_DIM_MODE=ffff", "must be 'fff'"),
        ("MODEL.OFFSET.CONDITION=mask", "none, masks"),
        ("MODEL.OFFSET.DEQUANTISATION=round", "uniform, floor"),
        ("MODEL.OFFSET.FEATURES=stride16", "stride32, stride4, trunk"),
        ("MODEL.OFFSET.HEAD_TYPE=nice", "glow"),
        ("MODEL.OFFSET.N_FLOW=0", "from 1 to"),
        ("TRAINING.GLOW_EPOCH=-1", "from 0 to"),
    ],
)
def test_impossible_configurations_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        small_hierarchical_config(override)


def test_keys_of_published_files_that_had_no_effect_are_accepted_with_a_warning():
    with pytest.warns(UserWarning, match="FEATURE_WEIGHT"):
        small_hierarchical_config("MODEL.OFFSET.FEATURE_WEIGHT=1")


def test_a_network_that_nothing_gives_seediness_is_refused():
    network = tiny_network("MODEL.USE_SEEDINESS_HEAD=true")
    network.seediness_head = None
    with pytest.raises(ConfigError, match="no seediness"), torch.no_grad():
        network(torch.zeros(1, 4, 3, 32, 32))


def test_a_compiled_network_streams_as_the_plain_one(monkeypatch):
    """By a backend that traces as any other does, without the minutes that a C++ compiler takes."""
    cfg = load_config("davis_2", [*SMALL_NETWORK, "INPUT.NUM_FRAMES=4"])
    plain, outputs = build_network(cfg).prepare_for_inference(), []
    frames = det("compiled", (4, 3, 64, 64))
    for network in (plain, copy.deepcopy(plain).compile_parts(backend="eager")):
        with torch.inference_mode():
            stream = network.open_stream()
            for frame in stream.encode(frames):
                stream.append(frame)
            outputs.append(stream.decode(range(4)))
    for expected, found in zip(*outputs, strict=True):
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
