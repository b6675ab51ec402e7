"""The trunk of the decoders: plans, small inputs, and its shortcuts against the plain operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stemseg.modeling.decoders.squeeze_expand import Conv3d, SqueezeExpandDecoder, TemporalPool, _merge, temporal_plan
from stemseg.structures.network_output import FeaturePyramid
from stemseg.utils.errors import ConfigError
from tests.helpers.golden_weights import relative_difference


def decoder(num_frames, **changes):
    arguments = {"in_channels": 4, "inter_channels": [4, 4, 2, 2], "num_frames": num_frames, "num_groups": 2}
    return SqueezeExpandDecoder(**(arguments | changes))


def features(num_frames, height, width, batch=1):
    return FeaturePyramid(*(torch.randn(batch, 4, num_frames, height // s, width // s) for s in (4, 8, 16, 32)))


@pytest.mark.parametrize("num_frames", [2, 4, 8, 16, 24, 32])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
@pytest.mark.parametrize("pool_type", ["avg", "max"])
def test_every_clip_length_and_every_multiple_of_32_works(num_frames, size, pool_type):
    output = decoder(num_frames, pool_type=pool_type).decode(features(num_frames, *size))
    assert output.shape == (1, 2, num_frames, size[0] // 4, size[1] // 4)
    assert output.isfinite().all()


@pytest.mark.parametrize("num_frames", [1, 3, 6, 12, 64])
def test_other_clip_lengths_are_refused(num_frames):
    with pytest.raises(ConfigError, match=f"NUM_FRAMES is {num_frames}: the decoders exist for 2, 4, 8, 16, 24, 32"):
        temporal_plan(num_frames)


def test_clip_of_another_length_is_refused():
    with pytest.raises(ConfigError, match=r"clips of 8 frames .* found a clip of 4"):
        decoder(8).decode(features(4, 64, 64))


def test_unknown_pool_type_is_refused():
    with pytest.raises(ConfigError, match="POOL_TYPE is 'median'"):
        decoder(8, pool_type="median")


@pytest.mark.parametrize(("pool_type", "reference"), [("avg", nn.AvgPool3d), ("max", nn.MaxPool3d)])
@pytest.mark.parametrize("size", [(4, 5, 6), (4, 1, 2)])
def test_pool_equals_torch_on_maps_of_any_size(pool_type, reference, size):
    x = torch.randn(2, 3, *size)
    pad = 0.0 if pool_type == "avg" else -torch.inf
    expected = reference(3, stride=(2, 1, 1))(F.pad(x, (1,) * 6, value=pad))
    assert torch.allclose(TemporalPool(pool_type)(x), expected)


def test_merge_equals_convolving_the_concatenation():
    coarse, lateral, conv = torch.randn(1, 6, 2, 3, 4), torch.randn(1, 5, 4, 6, 8), nn.Conv3d(11, 7, 1, bias=False)
    upsampled = F.interpolate(coarse, scale_factor=(2, 2, 2), mode="trilinear", align_corners=False)
    expected = conv(torch.cat([upsampled, lateral], dim=1))
    assert relative_difference(_merge(coarse, lateral, conv, 2), expected) < 1e-6


@pytest.mark.parametrize(
    "shape", [(1, 6, 4, 8, 5), (1, 6, 2, 2, 2), (1, 6, 4, 7, 5), (2, 6, 4, 8, 5), (1, 6, 4, 900, 2)]
)
def test_convolution_in_halves_equals_the_whole(shape):
    conv = Conv3d(shape[1], 3)
    plain = nn.Conv3d(shape[1], 3, 3, padding=1)
    plain.load_state_dict(conv.state_dict())
    inputs = [torch.randn(shape, requires_grad=True)]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    outputs = [layer(x) for layer, x in zip((conv, plain), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    assert relative_difference(*outputs) < 1e-5
    assert relative_difference(inputs[0].grad, inputs[1].grad) < 1e-5
    assert relative_difference(conv.weight.grad, plain.weight.grad) < 1e-5
