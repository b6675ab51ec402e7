"""From the appearance embedding to the flow's input."""

import pytest
import torch

from stemseg.modeling.flow.dequantization import (
    ChannelStatistics,
    dequantize_uniform,
    pool_frames,
    quantize_floor,
    scale_gradient,
)
from tests.helpers.golden_weights import load_golden


def test_released_flow_input_from_the_golden_embedding():
    golden = load_golden("appearance_flow")
    frames = pool_frames(torch.from_numpy(golden["offset_decoder|A"]), num_halvings=2)
    x = quantize_floor(torch.sigmoid(frames), num_bits=5)
    expected = torch.from_numpy(golden["offset_decoder|flow_input"])[0].transpose(0, 1)  # [T, A, h, w]
    assert torch.equal(x, expected)


def test_uniform_noise_stays_in_the_bin_of_its_value_and_fills_it():
    x = torch.linspace(0.001, 0.999, 64).repeat(500, 1)
    y = dequantize_uniform(x, num_bits=3, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.equal(torch.floor(y * 8), torch.floor(x * 8))
    place = y * 8 - torch.floor(x * 8)
    assert place.min() < 0.01 and place.max() > 0.99 and abs(place.mean() - 0.5) < 0.01
    assert y.min() >= 0 and y.max() < 1


def test_gradient_passes_straight_through_uniform_noise_and_not_through_the_floor():
    x = torch.rand(3, 4, requires_grad=True)
    weights = torch.randn(3, 4)
    (gradient,) = torch.autograd.grad((dequantize_uniform(x, num_bits=5) * weights).sum(), x)
    assert torch.equal(gradient, weights)
    (gradient,) = torch.autograd.grad((quantize_floor(x, num_bits=5) * weights).sum(), x)
    assert not gradient.any()


def test_half_precision_embedding_is_pooled_in_float32():
    frames = pool_frames(torch.randn(1, 3, 2, 8, 8).bfloat16(), num_halvings=2)
    assert frames.dtype == torch.float32 and frames.shape == (2, 3, 2, 2)


def fitted(frames, weights=None, *, whitened=False):
    """The standardization by statistics that have seen nothing else."""
    statistics = ChannelStatistics(frames.shape[1], whitened=whitened)
    statistics.gather(frames, weights)
    return statistics.standardization()


@pytest.mark.parametrize("whitened", [False, True])
def test_standardized_channels_have_mean_0_and_variance_1_and_constant_ones_stay_finite(whitened):
    torch.manual_seed(0)
    frames = 5 + 3 * torch.randn(2, 3, 8, 8)
    frames[:, 1] += frames[:, 0]
    frames[:, 2] = 4.0
    result = fitted(frames, whitened=whitened)(frames)
    assert torch.allclose(result.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(result[:, :2].var(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-4)
    assert result[:, 2].abs().max() < 1e-2 if whitened else not result[:, 2].any()
    correlation = (result[:, 0] * result[:, 1]).mean()
    assert correlation > 0.5 if not whitened else abs(correlation) < 1e-4


@pytest.mark.parametrize("whitened", [False, True])
def test_weights_choose_what_the_statistics_are_of(whitened):
    frames, weights = torch.randn(2, 3, 8, 8), torch.zeros(2, 8, 8)
    weights[0, :4] = 1 / 32
    chosen = frames[:1, :, :4]
    weighted = fitted(frames, weights, whitened=whitened)(chosen)
    assert torch.allclose(weighted, fitted(chosen, whitened=whitened)(chosen), atol=1e-5)


def test_statistics_of_a_step_do_not_depend_on_how_it_is_cut():
    frames = 3 + torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    states = []
    for cut in ((6,), (1, 2, 3)):
        statistics = ChannelStatistics(2)
        statistics.gather(frames - 1)  # the first to be seen
        for part in (2 * frames).split(cut):
            statistics.gather(part)
        statistics.update()
        states.append((statistics.mean, statistics.covariance))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*states, strict=True))
    assert torch.allclose(states[0][0], 0.5 * (frames - 1 + 2 * frames).mean(dim=(0, 2, 3)), atol=1e-5)  # of two steps
    joint = torch.cat([frames - 1, 2 * frames]).movedim(1, 0).flatten(1)
    assert torch.allclose(states[0][1], joint.cov(correction=0), atol=1e-4)


def test_statistics_follow_and_bear_steps_without_a_place():
    statistics = ChannelStatistics(1)
    statistics.gather(torch.randn(1, 1, 2, 2), torch.zeros(1, 2, 2))
    assert statistics.updates == 0 and statistics.mean == 0 and statistics.covariance == 1
    for _ in range(200):
        statistics.gather(5 + 2 * torch.randn(4, 1, 8, 8))
        statistics.update()
    assert abs(statistics.mean - 5) < 0.2 and abs(statistics.covariance - 4) < 0.5


def test_scaled_gradient():
    x = torch.randn(4, requires_grad=True)
    y = scale_gradient(x, 0.25)
    assert torch.allclose(y, x)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], torch.full((4,), 0.25))
