"""The whole flow: golden numbers, exactness with and without a condition, sampling, errors."""

import json

import pytest
import torch

from stemseg.modeling.flow.appearance_flow import bits_per_dimension
from stemseg.modeling.flow.glow import FlowStep, Glow
from stemseg.utils.errors import StemsegError
from tests.helpers.flow_helpers import fill_flow, log_abs_det_jacobian, randomized
from tests.helpers.golden_weights import load_golden, relative_difference
from tests.helpers.paths import GOLDEN_DIR

META = json.loads((GOLDEN_DIR / "appearance_flow_meta.json").read_text())
VARIANTS = {
    "released": {"num_levels": 1, "affine": False},
    "two levels, affine": {"num_levels": 2, "affine": True},
    "two levels, LU": {"num_levels": 2, "affine": True, "conv_lu": True},
    "conditional": {"num_levels": 1, "affine": False, "condition_channels": 3},
    "two levels, conditional": {"num_levels": 2, "affine": True, "condition_channels": 3},
}


def _golden_flow(case: str) -> Glow:
    args = META[case]["args"]
    flow = Glow(
        args["in_channel"],
        num_steps=args["n_flow"],
        num_levels=args["n_block"],
        affine=args["affine"],
        conv_lu=args["conv_lu"],
    )
    fill_flow(flow)
    return flow.eval()


@pytest.mark.parametrize("case", META)
def test_keys_and_shapes_are_the_published_ones(case):
    state = _golden_flow(case).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == META[case]["state_dict"]


@pytest.mark.parametrize("case", META)
def test_golden_likelihood_and_latents(case):
    golden = load_golden("appearance_flow")
    with torch.no_grad():
        output = _golden_flow(case)(torch.from_numpy(golden[f"{case}|input"]))
    assert relative_difference(output.log_p, golden[f"{case}|log_p"]) < 2e-6
    expected_logdet = torch.from_numpy(golden[f"{case}|logdet"]).expand(2)  # one number for both where it is constant
    assert relative_difference(output.logdet, expected_logdet) < 2e-6
    for i, latent in enumerate(output.latents):
        assert relative_difference(latent, golden[f"{case}|z{i}"]) < 5e-6


def test_golden_loss():
    golden = load_golden("appearance_flow")
    x = torch.from_numpy(golden["released|input"])
    with torch.no_grad():
        output = _golden_flow("released")(x)
    bits = bits_per_dimension(output.log_p, output.logdet, num_dims=x[0].numel(), num_bits=5)
    assert bits.mean().item() == pytest.approx(float(golden["glow_loss|released"]), rel=1e-6)


@pytest.fixture(params=VARIANTS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    flow = randomized(Glow(2, num_steps=2, hidden_channels=8, **VARIANTS[request.param]))
    x = torch.randn(2, 2, 4, 8, dtype=torch.float64)
    condition = torch.randn(2, 3, 4, 8, dtype=torch.float64) if flow.condition_channels else None
    return flow, x, condition


def test_round_trip_in_both_directions(case):
    flow, x, condition = case
    latents = flow(x, condition).latents
    assert torch.allclose(flow.inverse(latents, condition), x, atol=1e-9)
    noise = flow.draw_noise(2, 4, 8)
    again = flow(flow.inverse(noise, condition), condition).latents
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(again, noise, strict=True))


def test_logdet_is_the_jacobians(case):
    flow, x, condition = case
    if condition is not None:
        condition = condition[:1]
    for item in x.split(1):
        output = flow(item, condition)
        expected = log_abs_det_jacobian(lambda v: _flat_latents(flow, v, condition), item)
        assert torch.allclose(output.logdet, expected, atol=1e-8)


def test_logdet_of_the_inverse_is_the_negative(case):
    flow, x, condition = case
    condition = None if condition is None else condition[:1]
    output = flow(x[:1], condition)
    sizes = [z[0].numel() for z in output.latents]

    def inverse(flat):
        parts = [p.view_as(z) for p, z in zip(flat.split(sizes, dim=1), output.latents, strict=True)]
        return flow.inverse(parts, condition)

    backward = log_abs_det_jacobian(inverse, torch.cat([z.flatten(1) for z in output.latents], dim=1))
    assert torch.allclose(output.logdet, -backward, atol=1e-8)


def _flat_latents(flow, x, condition):
    return torch.cat([z.flatten(1) for z in flow(x, condition).latents], dim=1)


def test_sample_is_the_inverse_of_latents_drawn_from_the_priors(case):
    flow, _, condition = case
    noise = flow.draw_noise(2, 4, 8, generator=torch.Generator().manual_seed(0))
    x = flow.sample(noise, condition)
    assert x.shape == (2, 2, 4, 8)
    # log-likelihood of a sample: that of its noise, less the log-deviations of the priors, which a zero noise shows
    quiet = flow.sample([torch.zeros_like(n) for n in noise], condition)
    difference = flow(quiet, condition).log_p - flow(x, condition).log_p
    if len(flow.blocks) == 1:
        assert torch.allclose(difference, 0.5 * noise[0].square().sum(dim=(1, 2, 3)), atol=1e-8)
    else:
        assert (difference != 0).all()


@pytest.mark.parametrize("name", ["injection", "coupling"])
def test_the_condition_changes_the_likelihood_through_g1_and_through_g2_alone(name):
    flow = randomized(Glow(2, num_steps=2, hidden_channels=8, condition_channels=3))
    x = torch.randn(1, 2, 4, 8, dtype=torch.float64)
    conditions = torch.randn(2, 1, 3, 4, 8, dtype=torch.float64)
    for step in flow.blocks[0].flows:
        _cut_condition(step, keep=name)
    with torch.no_grad():
        first, second = (sum(flow(x, c)[:2]) for c in conditions)
        assert not torch.allclose(first, second, atol=1e-6)
        for step in flow.blocks[0].flows:
            _cut_condition(step, keep=None)
        first, second = (sum(flow(x, c)[:2]) for c in conditions)
    assert torch.allclose(first, second, atol=1e-12)


def _cut_condition(step, keep):
    with torch.no_grad():
        if keep != "injection":
            step.injection.net[0].weight.zero_()
        if keep != "coupling":
            half = step.coupling.net[0].in_channels - 3
            step.coupling.net[0].weight[:, half:] = 0


def test_unconditional_flow_has_no_conditional_keys():
    keys = Glow(3, num_steps=1, hidden_channels=8).state_dict()
    assert not [key for key in keys if "injection" in key]


def test_runs_in_float32_under_mixed_precision():
    flow = Glow(2, num_steps=1, hidden_channels=8, condition_channels=3).eval()
    x, condition = torch.randn(1, 2, 4, 4), torch.randn(1, 3, 4, 4)
    expected = flow(x, condition)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = flow(x, condition)
        half = flow(x.bfloat16(), condition.bfloat16())
    assert torch.equal(output.latents[0], expected.latents[0]) and torch.equal(output.log_p, expected.log_p)
    assert half.log_p.dtype == torch.float32


@pytest.mark.parametrize("size", [(6, 8), (8, 10)])
def test_a_size_that_cannot_be_squeezed_twice_is_named(size):
    flow = Glow(2, num_steps=1, num_levels=2, hidden_channels=8)
    with pytest.raises(StemsegError, match=rf"{size[0]} x {size[1]}.*multiples of 4"):
        flow(torch.zeros(1, 2, *size))
    with pytest.raises(StemsegError, match=r"multiples of 4"):
        flow.draw_noise(1, *size)


def test_missing_superfluous_and_misshapen_conditions_are_refused():
    x = torch.zeros(2, 2, 4, 4)
    conditional = Glow(2, num_steps=1, hidden_channels=8, condition_channels=3)
    with pytest.raises(StemsegError, match="got none"):
        conditional(x)
    with pytest.raises(StemsegError, match=r"\(2, 3, 4, 4\), but got \(2, 3, 2, 2\)"):
        conditional(x, torch.zeros(2, 3, 2, 2))
    with pytest.raises(StemsegError, match="unconditional"):
        Glow(2, num_steps=1, hidden_channels=8)(x, torch.zeros(2, 3, 4, 4))


def test_training_raises_the_likelihood():
    torch.manual_seed(0)
    flow = Glow(2, num_steps=2, hidden_channels=16, affine=True)
    x = 0.2 * torch.randn(16, 1, 4, 4).repeat(1, 2, 1, 1)  # the second channel repeats the first, but for noise
    optimizer = torch.optim.Adam(flow.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        output = flow(x + 0.02 * torch.rand_like(x))
        loss = -(output.log_p + output.logdet).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 3


def test_a_conditional_step_needs_its_condition():
    step = FlowStep(4, affine=True, conv_lu=True, hidden_channels=8, condition_channels=3)
    with pytest.raises(StemsegError, match="got no condition"):
        step(torch.randn(1, 4, 2, 2))
