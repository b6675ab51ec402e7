"""ActNorm's data-dependent initialization: once, from all processes, and never after loading."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stemseg.modeling.flow.layers import ActNorm


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
