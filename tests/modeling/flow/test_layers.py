"""Layers of the flow invert exactly and know their log-determinant; ActNorm initializes once, from all processes."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stemseg.modeling.flow.condition import AffineInjection
from stemseg.modeling.flow.glow import FlowStep
from stemseg.modeling.flow.layers import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    InvertibleConv,
    InvertibleConvLU,
    squeeze,
    unsqueeze,
)
from stemseg.utils.errors import StemsegError
from tests.helpers.flow_helpers import log_abs_det_jacobian, randomized

C, CONDITION = 4, 3
STEP = {"hidden_channels": 8, "conv_lu": True}
LAYERS = {
    "actnorm": (lambda: ActNorm(C), False),
    "plain conv": (lambda: InvertibleConv(C), False),
    "LU conv": (lambda: InvertibleConvLU(C), False),
    "additive coupling": (lambda: AdditiveCoupling(C, hidden_channels=8), False),
    "affine coupling": (lambda: AffineCoupling(C, hidden_channels=8), False),
    "conditional additive coupling": (
        lambda: AdditiveCoupling(C, hidden_channels=8, condition_channels=CONDITION),
        True,
    ),
    "conditional affine coupling": (lambda: AffineCoupling(C, hidden_channels=8, condition_channels=CONDITION), True),
    "injection": (lambda: AffineInjection(C, condition_channels=CONDITION, hidden_channels=8), True),
    "step": (lambda: FlowStep(C, affine=True, condition_channels=0, **STEP), False),
    "conditional step": (lambda: FlowStep(C, affine=False, condition_channels=CONDITION, **STEP), True),
}


@pytest.fixture(params=LAYERS, ids=lambda name: name.replace(" ", "-"))
def case(request):
    build, conditional = LAYERS[request.param]
    layer = randomized(build())
    x = torch.randn(2, C, 2, 3, dtype=torch.float64)
    condition = (torch.randn(1, CONDITION, 2, 3, dtype=torch.float64),) if conditional else ()
    return layer, x, condition


def _expand(condition, x):
    return [c.expand(len(x), -1, -1, -1) for c in condition]


def test_inverse_undoes_forward_and_forward_undoes_inverse(case):
    layer, x, condition = case
    condition = _expand(condition, x)
    y, _ = layer(x, *condition)
    assert not torch.allclose(y, x, atol=1e-2)
    assert torch.allclose(layer.inverse(y, *condition), x, atol=1e-10)
    assert torch.allclose(layer(layer.inverse(x, *condition), *condition)[0], x, atol=1e-10)


def test_logdet_is_the_jacobians_in_both_directions(case):
    layer, x, condition = case
    y, logdet = layer(x, *_expand(condition, x))
    assert logdet.shape == (2, 2, 3)  # each place's term
    logdet = logdet.sum(dim=(1, 2))
    forward = log_abs_det_jacobian(lambda v: layer(v, *condition)[0], x)
    backward = log_abs_det_jacobian(lambda v: layer.inverse(v, *condition), y)
    assert torch.allclose(logdet, forward, atol=1e-9)
    assert torch.allclose(logdet, -backward, atol=1e-9)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_affine_coupling_stays_finite_and_invertible_for_extreme_network_outputs(raw):
    layer = AffineCoupling(C, hidden_channels=8)
    torch.nn.init.constant_(layer.net[4].conv.bias, raw)
    x = torch.randn(1, C, 2, 2)
    y, logdet = layer(x)
    assert torch.isfinite(y).all() and torch.isfinite(logdet).all()
    assert torch.isfinite(layer.inverse(y)).all()


@pytest.mark.parametrize("raw", [-1e4, 1e4])
def test_injection_is_bounded(raw):
    layer = AffineInjection(C, condition_channels=CONDITION, hidden_channels=8)
    torch.nn.init.constant_(layer.net[2].conv.bias[:C], raw)
    _, logdet = layer(torch.randn(1, C, 2, 2), torch.randn(1, CONDITION, 2, 2))
    assert logdet.abs().max().item() <= 2.0 * C + 1e-4


def test_the_step_starts_near_the_identity_for_every_condition():
    step = FlowStep(C, affine=False, condition_channels=CONDITION, **STEP).eval()
    x = torch.randn(1, C, 2, 2)
    outputs = [step(x, torch.randn(1, CONDITION, 2, 2))[0] for _ in range(2)]
    assert torch.equal(*outputs)
    assert torch.allclose(outputs[0].norm(), x.norm(), rtol=1e-4)  # a rotation of the channels is all there is


def test_squeeze_orders_channels_by_row_and_column_of_the_block():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = squeeze(x)
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert torch.equal(unsqueeze(y), x)


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (0, 4)])
def test_squeezing_an_odd_size_names_the_size(size):
    with pytest.raises(StemsegError, match=rf"{size[0]} x {size[1]}.*multiples of 2"):
        squeeze(torch.zeros(1, 1, *size))


def _batch(seed: int, num_items: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(num_items, 4, 6, 8, generator=generator)


def test_first_training_batch_comes_out_normalized_and_the_second_changes_nothing():
    layer = ActNorm(4)
    y, _ = layer(_batch(0))
    assert torch.allclose(y.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(y.std(dim=(0, 2, 3), correction=0), torch.ones(4), atol=1e-5)
    loc, scale = layer.loc.clone(), layer.scale.clone()
    layer(10 * _batch(1))
    assert torch.equal(layer.loc, loc) and torch.equal(layer.scale, scale)


def test_evaluation_does_not_initialize():
    layer = ActNorm(4).eval()
    x = _batch(0)
    assert torch.equal(layer(x)[0], x)
    assert layer.initialized == 0
    layer.train()(x)
    assert layer.initialized == 1


def test_loaded_layer_is_not_initialized_again():
    source, loaded = ActNorm(4), ActNorm(4)
    source(_batch(0))
    loaded.load_state_dict(source.state_dict())
    loaded(10 * _batch(1))
    assert torch.equal(loaded.loc, source.loc) and torch.equal(loaded.scale, source.scale)


def test_loading_an_uninitialized_state_makes_a_used_layer_initialize_again():
    layer, fresh = ActNorm(4), ActNorm(4)
    layer(_batch(0))
    layer.load_state_dict(fresh.state_dict())
    y, _ = layer(10 * _batch(1))
    assert torch.allclose(y.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)


def test_constant_channels_stay_finite_and_unstretched():
    layer = ActNorm(4)
    x = _batch(0)
    x[:, 1] = 7.0
    y, logdet = layer(x)
    assert layer.scale[0, 1] == 1 and torch.isfinite(logdet).all()
    assert torch.allclose(y[:, 1], torch.zeros(()))
    assert torch.isfinite(layer.inverse(y)).all()


def test_processes_start_equal_and_as_one_process_with_all_items(tmp_path):
    mp.spawn(_initialize_in_process, args=(str(tmp_path),), nprocs=2)
    states = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    together = ActNorm(4)
    together(torch.cat([_batch(0, 5), _batch(1, 2)]))
    for name, value in together.state_dict().items():
        assert torch.equal(states[0][name], states[1][name])
        assert torch.allclose(states[0][name].float(), value.float(), rtol=1e-5)


def _initialize_in_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    layer = ActNorm(4)
    layer(_batch(rank, 5 if rank == 0 else 2))
    torch.save(layer.state_dict(), f"{folder}/{rank}.pth")
    dist.destroy_process_group()
