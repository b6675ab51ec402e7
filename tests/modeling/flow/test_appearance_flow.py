"""The flow as a head: likelihood of an appearance embedding, given masks."""

import pytest
import torch

from stemseg.modeling.flow.appearance_flow import AppearanceFlow, instance_weights
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


def test_likelihood_factorizes_over_frames_given_the_masks():
    flow, masks = _flow(condition="masks", condition_channels=4), _masks()
    before = _likelihood(flow, _appearance(), masks).bits_per_dimension
    masks[0] = masks[0].clone()
    masks[0][0, 1] = 1 - masks[0][0, 1]
    after = _likelihood(flow, _appearance(), masks).bits_per_dimension
    assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    assert abs(before[1] - after[1]) > 1e-4


@pytest.mark.parametrize(("dequantization", "reaches"), [("uniform", True), ("floor", False)])
def test_gradient_reaches_the_embedding_unless_released(dequantization, reaches):
    appearance = _appearance(requires_grad=True)
    _likelihood(_flow(dequantization=dequantization), appearance).bits_per_dimension.mean().backward()
    assert bool(appearance.grad.abs().sum() > 0) is reaches


def test_gradient_scale_scales_what_reaches_the_embedding_and_not_what_trains_the_flow():
    gradients = []
    for scale in (1.0, 0.25):
        flow, appearance = _flow(gradient_scale=scale), _appearance(requires_grad=True)
        _likelihood(flow, appearance).bits_per_dimension.mean().backward()
        gradients.append((appearance.grad, flow.blocks[0].prior.conv.weight.grad))
    assert torch.allclose(0.25 * gradients[0][0], gradients[1][0], atol=1e-8)
    assert torch.allclose(gradients[0][1], gradients[1][1], atol=1e-6)


@pytest.mark.parametrize(("standardized", "whitened"), [(True, False), (True, True), (False, False)])
def test_shrinking_the_embedding_wins_likelihood_only_as_released(standardized, whitened):
    bits = []
    for factor in (1.0, 0.1):
        flow = _flow(standardized=standardized, whitened=whitened).train()  # ActNorm fits each one
        bits.append(_likelihood(flow, factor * _appearance()).bits_per_dimension.mean().item())
    gain = bits[0] - bits[1]
    assert abs(gain) < 0.05 if standardized else gain > 1


def test_gradient_reaches_the_condition_encoder():
    flow = _flow(condition="masks", condition_channels=4)
    _likelihood(flow, _appearance(), _masks()).bits_per_dimension.mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in flow.condition_encoder.parameters())


def test_floor_is_deterministic_and_uniform_is_not():
    appearance = _appearance()
    for dequantization, same in (("floor", True), ("uniform", False)):
        flow = _flow(dequantization=dequantization)
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


@pytest.mark.parametrize("condition", ["none", "masks"])
def test_likelihood_of_instances_is_that_of_their_places_alone(condition):
    flow, masks, appearance = _flow(condition=condition, likelihood_of="instance_pixels"), _masks(), _appearance()
    before = _likelihood(flow, appearance, masks).bits_per_dimension
    assert before.shape == (2,)  # the second clip has no instance
    changed = appearance.clone()
    changed[1] += torch.randn_like(changed[1])  # frames without instances
    assert torch.equal(_likelihood(flow, changed, masks).bits_per_dimension, before)
    changed = appearance.clone()
    changed[0, :, :, :, 20:] += 1  # of the second instance
    assert not torch.allclose(_likelihood(flow, changed, masks).bits_per_dimension[1], before[1], atol=1e-3)


def test_instances_that_vanish_on_the_flows_grid_are_left_out():
    masks = [torch.zeros(3, 2, 18, 26, dtype=torch.uint8), torch.zeros(1, 2, 18, 26, dtype=torch.uint8)]
    masks[0][0, :, 2:9, 4:12] = 1
    masks[0][1, :, 16:, 24:] = 1  # in the border, of which the grid has nothing
    masks[0][2, 1, 10, 20] = masks[1][0, 0, 3, 3] = 1  # a single pixel is there
    weights = instance_weights(masks, num_halvings=2, size=(4, 6))
    assert weights.shape == (3, 4, 4, 6)
    assert torch.allclose(weights.sum(dim=(1, 2, 3)), torch.ones(3))
    assert [w.sum(dim=(1, 2)).nonzero()[:, 0].tolist() for w in weights] == [[0, 1], [1], [2]]
    appearance = torch.randn(2, 3, 2, 18, 26, generator=torch.Generator().manual_seed(1))
    bits = _likelihood(_flow(likelihood_of="instance_pixels"), appearance, masks).bits_per_dimension
    assert bits.shape == (3,) and torch.isfinite(bits).all()


def test_an_instance_everywhere_has_the_likelihood_of_the_frames():
    masks = [torch.ones(1, 2, 16, 24, dtype=torch.uint8)] * 2
    of_frames = _likelihood(_flow(condition="masks"), _appearance(), masks)
    of_instances = _likelihood(_flow(condition="masks", likelihood_of="instance_pixels"), _appearance(), masks)
    for frames, instances in zip(of_frames, of_instances, strict=True):
        assert torch.allclose(frames.view(2, 2).mean(dim=1), instances, atol=1e-5)


def test_structure_inside_of_instances_does_not_change_the_likelihood_of_their_means():
    masks, appearance = _masks(), _appearance(requires_grad=True)
    masks[0][1, :, :8] = 0  # masks do not overlap
    inside = torch.randn(2, 3, 2, 16, 24) * masks[0].sum(dim=0)
    for mask in masks[0]:
        inside[0] -= mask * (inside[0] * mask).sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(1, 2))[0]
    for likelihood_of, same in (("instance_means", True), ("instance_pixels", False)):
        flow = _flow(likelihood_of=likelihood_of, condition="identity")
        before, after = (_likelihood(flow, a, masks).bits_per_dimension for a in (appearance, appearance + inside))
        assert torch.allclose(before, after, atol=1e-3) is same
    _likelihood(_flow(likelihood_of="instance_means"), appearance, masks).bits_per_dimension.mean().backward()
    of_first = appearance.grad[0, :, 0, :8]  # one frame of the first instance: all pixels are pulled alike
    assert torch.allclose(of_first, of_first[:, :1, :1].expand_as(of_first)) and of_first.abs().max() > 0


def test_no_instance_anywhere_gives_an_empty_likelihood_that_still_depends_on_the_embedding():
    appearance = _appearance(requires_grad=True)
    masks = [torch.zeros(0, 2, 16, 24)] * 2
    result = _likelihood(_flow(condition="identity", likelihood_of="instance_pixels"), appearance, masks)
    assert result.bits_per_dimension.shape == (0,)
    result.bits_per_dimension.sum().backward()
    assert appearance.grad is not None and not appearance.grad.any()


def test_identity_condition_links_the_frames_of_a_clip():
    masks, appearance = _masks(), _appearance()
    changed = appearance.clone()
    changed[0, :, 0, :8] += 5  # the first instance in the first frame
    for condition, linked in (("masks", False), ("identity", True)):
        flow = _flow(condition=condition, standardized=False)
        before, after = (_likelihood(flow, a, masks).bits_per_dimension for a in (appearance, changed))
        assert torch.equal(before[2:], after[2:])  # another clip
        assert abs(before[0] - after[0]) > 1e-3
        assert bool(abs(before[1] - after[1]) > 1e-4) is linked


@pytest.mark.parametrize("likelihood_of", ["instance_pixels", "instance_means"])
def test_identity_condition_rewards_an_embedding_that_instances_keep(likelihood_of):
    torch.manual_seed(0)
    flow = _flow(num_halvings=0, condition="identity", likelihood_of=likelihood_of).train()
    masks = [torch.zeros(2, 4, 8, 8)]
    masks[0][0, :, :4] = masks[0][1, :, 4:] = 1
    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)

    def bits(kept: bool) -> torch.Tensor:
        codes = torch.randn(2, 3, 1 if kept else 4).expand(2, 3, 4)  # of each instance, in every frame or for all
        appearance = torch.einsum("iat,ithw->athw", codes, masks[0]) + 0.1 * torch.randn(3, 4, 8, 8)
        return flow.likelihood(appearance[None], masks).bits_per_dimension.mean()

    for _ in range(60):
        optimizer.zero_grad()
        bits(kept=True).backward()
        optimizer.step()
    with torch.no_grad():
        kept, changing = (sum(bits(kept=k).item() for _ in range(8)) / 8 for k in (True, False))
    assert kept < changing - 0.5


def test_unconditional_flow_has_the_published_keys_alone():
    keys = _flow(standardized=False).state_dict()  # as released
    assert {key.split(".")[0] for key in keys} == {"blocks"}
    assert {key.split(".")[0] for key in _flow(condition="masks", condition_channels=4).state_dict()} == {
        "blocks",
        "condition_encoder",
        "statistics",
    }


@pytest.mark.parametrize("condition", ["none", "masks"])
def test_loss_does_not_depend_on_how_a_batch_is_cut_and_frames_send_each_other_no_gradient(condition):
    flow = _flow(condition=condition, condition_channels=4, dequantization="floor").train()
    _likelihood(flow, _appearance() + 1, _masks())  # ActNorm and the statistics take their start from here
    appearance, masks = 2 * _appearance(), _masks()
    whole = flow.likelihood(appearance, masks).bits_per_dimension
    parts = [flow.likelihood(a[None], [m]).bits_per_dimension for a, m in zip(appearance, masks, strict=True)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)

    flow.dequantization = "uniform"
    appearance.requires_grad_()
    bits = flow.likelihood(appearance, masks).bits_per_dimension
    (gradient,) = torch.autograd.grad(bits[1], appearance)
    gradient = gradient.transpose(1, 2).flatten(0, 1)  # of each frame
    assert gradient[1].abs().sum() > 0 and not gradient[[0, 2, 3]].any()


def test_statistics_move_once_per_step_and_in_training_alone():
    flow = _flow().train()
    flow.likelihood(_appearance())
    before = flow.statistics.mean.clone()
    flow.likelihood(_appearance() + 1)
    assert torch.equal(flow.statistics.mean, before)
    flow.finish_step()
    assert (flow.statistics.mean > before + 0.3).all()
    flow.eval().likelihood(_appearance() + 9)
    flow.finish_step()
    assert flow.statistics.updates == 2
    assert {"statistics.mean", "statistics.covariance", "statistics.updates"} <= flow.state_dict().keys()
    assert not any("statistics" in key for key in _flow(standardized=False).state_dict())


@pytest.mark.parametrize("condition", ["none", "masks"])
def test_instances_are_rated_by_the_likelihood_of_their_places(condition):
    """An instance that fills the frames is rated as the frames are; a share of places is their mean."""
    flow = _flow(condition=condition, condition_channels=4, num_halvings=1)
    appearance, masks = _appearance()[0], torch.zeros(3, 2, 16, 24)
    masks[0, :, :8] = masks[1, :, 8:] = 1  # the third is not seen
    upper, lower, unseen = flow.rate_instances(appearance, masks)
    assert unseen.isnan()
    noise = torch.Generator().manual_seed(0)
    x = flow.flow_input(appearance[None], [masks], noise)
    output = flow(x, None if condition == "none" else flow.condition_encoder([masks]))
    whole = (output.log_p + output.logdet).mean() / x[0].numel()
    assert torch.allclose((upper + lower) / 2, whole, atol=1e-5)
    assert torch.equal(flow.rate_instances(appearance, masks)[:2], torch.stack([upper, lower]))
