"""The flow as a head: likelihood of an appearance embedding, given masks."""

import pytest
import torch

from stemseg.modeling.flow.appearance_flow import AppearanceFlow
from stemseg.utils.errors import StemsegError


def _flow(**options) -> AppearanceFlow:
    torch.manual_seed(0)
    flow = AppearanceFlow(3, num_steps=2, hidden_channels=8, **options)
    with torch.no_grad():  # zero convolutions hide the condition until they are trained
        for name, parameter in flow.named_parameters():
            if name.endswith("conv.weight"):
                parameter.normal_(0, 0.1)
    return flow.eval()


def _appearance(requires_grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 2, 16, 24, generator=generator).requires_grad_(requires_grad)


def _masks() -> list[torch.Tensor]:
    masks = [torch.zeros(n, 2, 16, 24, dtype=torch.uint8) for n in (2, 0)]
    masks[0][0, :, :8] = masks[0][1, :, :, 12:] = 1
    return masks


def _likelihood(flow, appearance, masks=None):
    torch.manual_seed(5)  # the same noise each time
    return flow.likelihood(appearance, masks)


def test_one_value_per_frame_and_bits_add_up():
    flow = _flow()
    result = _likelihood(flow, _appearance())
    assert result.bits_per_dimension.shape == (4,)
    nats = 5 * torch.log(torch.tensor(2.0)) - result.log_p_per_dimension - result.logdet_per_dimension
    assert torch.allclose(result.bits_per_dimension, nats / torch.log(torch.tensor(2.0)))


def test_likelihood_factorises_over_frames_given_the_masks():
    flow, masks = _flow(condition="masks", condition_channels=4), _masks()
    before = _likelihood(flow, _appearance(), masks).bits_per_dimension
    masks[0] = masks[0].clone()
    masks[0][0, 1] = 1 - masks[0][0, 1]
    after = _likelihood(flow, _appearance(), masks).bits_per_dimension
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert abs(before[1] - after[1]) > 1e-4


@pytest.mark.parametrize(("dequantisation", "reaches"), [("uniform", True), ("floor", False)])
def test_gradient_reaches_the_embedding_unless_released(dequantisation, reaches):
    appearance = _appearance(requires_grad=True)
    _likelihood(_flow(dequantisation=dequantisation), appearance).bits_per_dimension.mean().backward()
    assert bool(appearance.grad.abs().sum() > 0) is reaches


def test_gradient_scale_scales_what_reaches_the_embedding_and_not_what_trains_the_flow():
    gradients = []
    for scale in (1.0, 0.25):
        flow, appearance = _flow(gradient_scale=scale), _appearance(requires_grad=True)
        _likelihood(flow, appearance).bits_per_dimension.mean().backward()
        gradients.append((appearance.grad, flow.blocks[0].prior.conv.weight.grad))
    assert torch.allclose(0.25 * gradients[0][0], gradients[1][0], atol=1e-8)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)


@pytest.mark.parametrize("standardisation", ["channels", "whitened", "none"])
def test_shrinking_the_embedding_wins_likelihood_only_as_released(standardisation):
    bits = []
    for factor in (1.0, 0.1):
        flow = _flow(standardisation=standardisation).train()  # ActNorm fits each embedding, as training would
        bits.append(_likelihood(flow, factor * _appearance()).bits_per_dimension.mean().item())
    gain = bits[0] - bits[1]
    assert gain > 1 if standardisation == "none" else abs(gain) < 0.05


def test_gradient_reaches_the_condition_encoder():
    flow = _flow(condition="masks", condition_channels=4)
    _likelihood(flow, _appearance(), _masks()).bits_per_dimension.mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in flow.condition_encoder.parameters())


def test_floor_is_deterministic_and_uniform_is_not():
    appearance = _appearance()
    for dequantisation, same in (("floor", True), ("uniform", False)):
        flow = _flow(dequantisation=dequantisation)
        assert torch.equal(flow.flow_input(appearance), flow.flow_input(appearance)) is same


def test_conditional_flow_without_masks_says_so():
    with pytest.raises(StemsegError, match="needs the instance masks"):
        _flow(condition="masks", condition_channels=4).likelihood(_appearance())


def test_a_border_that_fills_no_coarse_cell_is_left_out():
    flow = _flow(num_levels=2, condition="masks", condition_channels=4)
    appearance = _appearance()  # 4 x 6 at the flow's resolution, 4 x 4 after cropping
    changed = appearance.clone()
    changed[..., 16:] += 1
    results = [_likelihood(flow, a, _masks()).bits_per_dimension for a in (appearance, changed)]
    assert torch.equal(*results)


def test_unconditional_flow_has_the_published_keys_alone():
    keys = _flow().state_dict()
    assert {key.split(".")[0] for key in keys} == {"blocks"}
    assert {key.split(".")[0] for key in _flow(condition="masks", condition_channels=4).state_dict()} == {"blocks", "condition_encoder"}
