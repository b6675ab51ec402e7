"""The appearance decoder and its mixing: golden numbers, key names, gradients, spread."""

import pytest
import torch
import torch.nn.functional as F

from stemseg.modeling.decoders.heads import AppearanceDecoder
from stemseg.modeling.embedding import add_coordinates, mix_appearance
from stemseg.modeling.losses.appearance_loss import appearance_spread
from stemseg.structures.network_output import FeaturePyramid
from tests.helpers.golden_weights import det, fill_state_dict, load_golden, relative_difference


def _golden_appearance() -> torch.Tensor:
    decoder = AppearanceDecoder(3, feature_channels=256)
    fill_state_dict(decoder, prefix="offset_decoder.")
    return decoder(det("offset_decoder.feat32", (1, 256, 4, 2, 3)), torch.empty(0))


def test_golden_appearance():
    assert relative_difference(_golden_appearance(), load_golden("appearance_flow")["offset_decoder|A"]) < 2e-6


def test_golden_mixing():
    offsets = det("mixing.embedding", (1, 6, 4, 16, 24))
    embedding = add_coordinates(offsets, ("t", "y", "x"), torch.tensor(1.0))
    mixed = mix_appearance(embedding, _golden_appearance(), detach=True)
    assert relative_difference(mixed, load_golden("appearance_flow")["mixing|xytfff_time_scale1"]) < 2e-6


def test_convolving_before_upsampling_equals_the_published_order():
    decoder = AppearanceDecoder(2, feature_channels=8)
    features = torch.randn(1, 8, 2, 3, 4)
    upsampled = F.interpolate(features, scale_factor=(1, 8, 8), mode="trilinear", align_corners=False)
    assert torch.allclose(decoder(features, torch.empty(0)), decoder.conv1_add(upsampled), atol=1e-5)


def test_the_trunk_as_source_needs_no_upsampling_and_no_unused_branch():
    decoder = AppearanceDecoder(2, feature_channels=8, source="trunk")
    trunk = torch.randn(1, 8, 2, 3, 4)
    assert decoder(torch.empty(0), trunk).shape == (1, 2, 2, 3, 4)
    assert {key.split(".")[0] for key in decoder.state_dict()} == {"conv1_add"}


def test_the_finest_map_as_source_is_of_the_frame_alone():
    decoder = AppearanceDecoder(2, feature_channels=8, source="stride4")
    pyramid = FeaturePyramid(*(torch.randn(1, 8, 2, 16 // s, 16 // s) for s in (1, 2, 4, 8)))
    assert decoder.choose(pyramid) is pyramid.stride4
    result = decoder(pyramid.stride4, torch.empty(0))
    assert torch.allclose(result[:, :, :1], decoder(pyramid.stride4[:, :, :1], torch.empty(0)), atol=1e-6)
    assert AppearanceDecoder(2, feature_channels=8).choose(pyramid) is pyramid.stride32


@pytest.mark.parametrize("detach", [False, True])
def test_mixing_adds_to_the_last_dimensions_and_detaches_on_demand(detach):
    embedding = torch.randn(1, 5, 2, 3, 4)
    appearance = torch.randn(1, 2, 2, 3, 4, requires_grad=True)
    mixed = mix_appearance(embedding, appearance, detach=detach)
    assert torch.equal(mixed[:, :3], embedding[:, :3])
    assert torch.equal(mixed[:, 3:], embedding[:, 3:] + appearance)
    assert mixed.requires_grad is not detach


def _two_instances() -> torch.Tensor:
    masks = torch.zeros(3, 1, 4, 6, dtype=torch.uint8)  # the third is invisible
    masks[0, ..., :2] = masks[1, ..., 4:] = 1
    return masks


def test_spread_of_regions_that_are_constant_is_all_between_them():
    masks = _two_instances()
    appearance = torch.zeros(1, 2, 1, 4, 6)
    appearance[..., :2], appearance[..., 4:] = -3.0, 3.0  # the background is 0
    spread = appearance_spread(appearance, [masks])
    assert spread.between.item() == pytest.approx((18 / 3) ** 0.5)
    assert spread.within.item() == pytest.approx(0, abs=1e-3)


def test_spread_agrees_with_a_naive_implementation():
    torch.manual_seed(0)
    masks, appearance = _two_instances(), torch.randn(1, 2, 1, 4, 6) + 5
    regions = [masks[0] > 0, masks[1] > 0, masks.sum(0) == 0]
    pixels = [appearance[0][:, r] for r in regions]
    within = torch.stack([p.var(dim=1, correction=0) for p in pixels]).mean().sqrt()
    between = torch.stack([p.mean(dim=1) for p in pixels]).var(dim=0, correction=0).mean().sqrt()
    spread = appearance_spread(appearance, [masks])
    assert torch.allclose(spread.between, between, atol=1e-5) and torch.allclose(spread.within, within, atol=1e-5)


def test_spread_shows_a_collapse_and_bears_clips_without_instances():
    appearance = torch.full((2, 3, 1, 4, 6), 2.5)
    spread = appearance_spread(appearance, [_two_instances(), torch.zeros(0, 1, 4, 6)])
    assert spread.between == 0 and spread.within == 0
