"""From the appearance embedding to the flow's input."""

import torch
from golden_weights import load_golden

from stemseg.modeling.flow.dequantisation import dequantise_uniform, pool_and_squash, quantise_floor


def test_released_flow_input_from_the_golden_embedding():
    golden = load_golden("appearance_flow")
    squashed = pool_and_squash(torch.from_numpy(golden["offset_decoder|A"]), num_halvings=2)
    x = quantise_floor(squashed, num_bits=5)
    expected = torch.from_numpy(golden["offset_decoder|flow_input"])[0].transpose(0, 1)  # [T, A, h, w]
    assert torch.equal(x, expected)


def test_uniform_noise_stays_in_the_bin_of_its_value_and_fills_it():
    x = torch.linspace(0.001, 0.999, 64).repeat(500, 1)
    y = dequantise_uniform(x, num_bits=3, generator=torch.Generator().manual_seed(0)) + 0.5
    assert torch.equal(torch.floor(y * 8), torch.floor(x * 8))
    place = y * 8 - torch.floor(x * 8)
    assert place.min() < 0.01 and place.max() > 0.99 and abs(place.mean() - 0.5) < 0.01
    assert y.min() >= 0 and y.max() < 1


def test_gradient_passes_straight_through_uniform_noise_and_not_through_the_floor():
    x = torch.rand(3, 4, requires_grad=True)
    weights = torch.randn(3, 4)
    (gradient,) = torch.autograd.grad((dequantise_uniform(x, num_bits=5) * weights).sum(), x)
    assert torch.equal(gradient, weights)
    (gradient,) = torch.autograd.grad((quantise_floor(x, num_bits=5) * weights).sum(), x)
    assert not gradient.any()


def test_half_precision_embedding_is_squashed_in_float32():
    squashed = pool_and_squash(torch.randn(1, 3, 2, 8, 8).bfloat16(), num_halvings=2)
    assert squashed.dtype == torch.float32 and squashed.shape == (2, 3, 2, 2)
