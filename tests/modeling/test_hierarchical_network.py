"""The network with an appearance embedding: published keys, configuration, mixing, nothing but frames at inference."""

import json

import pytest
import torch
from golden_weights import GOLDEN_DIR
from hierarchical_config import RELEASED, small_hierarchical_config

from stemseg.config import load_config
from stemseg.modeling.network import build_network, stack_clips
from stemseg.utils.errors import ConfigError


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


@pytest.mark.parametrize("source", ["stride32", "trunk"])
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
        ("MODEL.STEM_DIM_MODE=xy", "'xy' + 'fff'"),
        ("MODEL.GLOW_DIM_MODE=ff", "'xyt' + 'ff'"),
        ("MODEL.OFFSET.CONDITION=mask", "none, masks"),
        ("MODEL.OFFSET.DEQUANTISATION=round", "uniform, floor"),
        ("MODEL.OFFSET.FEATURES=stride16", "stride32, trunk"),
        ("MODEL.OFFSET.HEAD_TYPE=nice", "glow"),
        ("MODEL.OFFSET.N_FLOW=0", "above 0"),
        ("TRAINING.GLOW_EPOCH=-1", "0 or more"),
    ],
)
def test_impossible_configurations_are_refused(override, words):
    with pytest.raises(ConfigError, match=words.replace("+", r"\+")):
        small_hierarchical_config(override)


def test_keys_of_published_files_that_had_no_effect_are_accepted_with_a_warning():
    with pytest.warns(UserWarning, match="FEATURE_WEIGHT"):
        small_hierarchical_config("MODEL.OFFSET.FEATURE_WEIGHT=1")
