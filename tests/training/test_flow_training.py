"""Training the appearance embedding and its flow: which loss reaches what, the warm-up, and its resume."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from stemseg.modeling.losses.appearance_loss import appearance_loss
from stemseg.modeling.network import build_network
from stemseg.structures.clip import Clip, ClipTargets
from stemseg.training.arguments import parse_arguments
from stemseg.training.checkpoints import CheckpointStore
from stemseg.training.interrupts import InterruptListener
from stemseg.training.logger import TrainingLogger
from stemseg.training.loss import TrainingLoss, build_loss, downscale_targets
from stemseg.training.run import build_settings, build_state, build_step
from stemseg.training.trainer import Trainer
from stemseg.utils.distributed import ProcessInfo
from tests.helpers.hierarchical_config import RELEASED, small_hierarchical_config
from tests.helpers.tiny_training import collate

CPU = torch.device("cpu")
WARM_UP_ITERATIONS, BATCH_SIZE = 2, 2  # of small_hierarchical_config
COUNTED, APART = (f"TRAINING.GLOW_EPOCH_COUNTS={flag}" for flag in ("true", "false"))


class Clips:
    """Sample i is a pure function of i; every third shows no instance. ``requested`` from the sample ``stop_at`` on."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.requested = False

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> Clip:
        self.requested |= index == self.stop_at
        frames = 50 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(index))
        masks = torch.zeros(2 if index % 3 else 0, 2, 64, 64, dtype=torch.uint8)
        masks[:1, :, 8:40, 8:40] = masks[1:, :, 16:60, 44:] = 1
        targets = ClipTargets(masks, torch.ones(len(masks), dtype=torch.int64), torch.zeros_like(frames[:, 0]).byte())
        return Clip(frames, targets, f"clip {index}")


def make_loss(*overrides: str) -> TrainingLoss:
    torch.manual_seed(0)
    cfg = small_hierarchical_config(*overrides)
    return build_loss(cfg, build_network(cfg))


def make_trainer(
    directory: Path, *overrides: str, iterations: int = 4, stop_at: int | None = None, process=None
) -> Trainer:
    """A run of so many iterations, the flow's among them."""
    cfg = small_hierarchical_config(COUNTED, f"TRAINING.MAX_ITERATIONS={iterations}", *overrides)
    options = parse_arguments(["--model_dir", str(directory), "--num_cpu_workers", "0"])
    clips, process = Clips(stop_at), process or ProcessInfo()
    log = TrainingLogger(None, max_iterations=4, display_interval=1, summary_interval=1)
    state = build_state(cfg, make_loss(*overrides), log, CPU)
    store = CheckpointStore(directory, keep=0)
    if store.newest() is not None:
        state.restore(store.newest())
    return Trainer(
        state=state,
        step=build_step(cfg, state, process, CPU),
        dataset=clips,
        collate=collate,
        checkpoints=store,
        settings=build_settings(cfg, options),
        process=process,
        device=CPU,
        interrupts=InterruptListener() if stop_at is None else clips,
    )


def checkpoint(directory: Path, iteration: int) -> dict:
    return torch.load(CheckpointStore(directory, keep=0).path(iteration), weights_only=True)


def changed_keys(before: dict, after: dict) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


def _decoder_gradients(training_loss: TrainingLoss) -> dict[str, torch.Tensor]:
    """Gradient of the appearance decoder's first weight from each loss on its own."""
    network, batch = training_loss.network.train(), collate([Clips()[1]])
    weight = network.offset_decoder.conv1_add[0].weight
    output, targets = network(batch.frames), [downscale_targets(t) for t in batch.targets]
    losses = {
        "embedding": network.embedding_loss_criterion(output, targets).total,
        "flow": appearance_loss(network.offset_head, output.appearance, [targets[0].masks]).bits_per_dimension,
    }
    return {k: torch.autograd.grad(v, weight, retain_graph=True, allow_unused=True)[0] for k, v in losses.items()}


def test_both_losses_reach_the_appearance_decoder():
    gradients = _decoder_gradients(make_loss())
    assert all(torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients.values())


def test_as_released_no_loss_reaches_the_appearance_decoder():
    gradients = _decoder_gradients(make_loss(*RELEASED))
    assert all(g is None or not g.any() for g in gradients.values())


@pytest.mark.parametrize("full_resolution", ["false", "true"])
def test_total_is_the_flows_alone_in_the_warm_up_and_joint_afterwards(full_resolution):
    training_loss = make_loss("TRAINING.LOSSES.WEIGHT_OFFSET=2", f"TRAINING.LOSS_AT_FULL_RES={full_resolution}")
    batch = collate([Clips()[1]])
    training_loss(batch)  # ActNorm takes its start from here
    totals = []
    for training_loss.warming_up in (True, False):
        torch.manual_seed(3)  # the same noise
        report = training_loss(batch)
        totals.append(report.total.item())
    terms = {name: value.item() for name, value in report.terms.items()}
    flow = 2 * terms["bits_per_dimension"]
    assert totals[0] == pytest.approx(flow)
    assert totals[1] == pytest.approx(flow + terms["embedding"] + terms["semantic"] + terms["foreground"], rel=1e-5)
    assert {"logdet_per_dimension", "appearance_between", "appearance_within"} <= terms.keys()


def test_warm_up_trains_the_flow_and_nothing_else(tmp_path):
    start = make_loss().network.state_dict()
    assert make_trainer(tmp_path, iterations=3).run()
    trainer = make_trainer(tmp_path / "warm", iterations=WARM_UP_ITERATIONS)
    assert trainer.run()
    warm = checkpoint(tmp_path / "warm", WARM_UP_ITERATIONS)
    changed = changed_keys(start, warm["model"])
    assert all(key.startswith("offset_head.") for key in changed)
    parts = ("actnorm", "invconv", "injection", "coupling", "prior", "condition_encoder")
    assert all(any(part in key for key in changed) for part in parts)
    assert warm["glow_iterations"] == WARM_UP_ITERATIONS * BATCH_SIZE
    joint = changed_keys(warm["model"], checkpoint(tmp_path, 3)["model"])
    heads = ("backbone.", "embedding_head.", "semseg_head.", "offset_decoder.conv1_add.", "offset_head.")
    assert all(any(key.startswith(head) for key in joint) for head in heads)
    assert not any("conv1_cat" in key for key in joint)


def _rates(trainer: Trainer, monkeypatch) -> list[float]:
    rates = []
    monkeypatch.setattr(trainer.step, "move", lambda: rates.append(round(100 * trainer.state.schedule.rate, 4)))
    assert trainer.run()
    return rates


def test_the_network_has_all_its_steps_and_its_own_warm_up_of_the_rate(tmp_path, monkeypatch):
    schedule = ["TRAINING.INITIAL_LR=0.01", "TRAINING.LR_WARMUP_ITERATIONS=4", "TRAINING.LR_DECAY_TYPE=step",
                "TRAINING.LR_DECAY_STEPS=[5]"]  # fmt: skip
    network = make_trainer(tmp_path / "0", *schedule, "TRAINING.GLOW_EPOCH=0", iterations=6)
    apart = make_trainer(tmp_path / "1", APART, *schedule, iterations=6)
    counted = make_trainer(tmp_path / "2", *schedule, iterations=6)
    alone = _rates(network, monkeypatch)
    assert alone == [0.25, 0.5, 0.75, 1.0, 1.0, 0.1]
    assert _rates(apart, monkeypatch) == [0.25, 0.5, *alone]  # the flow's own two, then all of the network's
    assert _rates(counted, monkeypatch) == alone
    assert apart.state.progress.iterations == 8 and counted.state.progress.iterations == 6


def test_statistics_of_the_appearance_move_with_the_steps(tmp_path):
    assert make_trainer(tmp_path, iterations=3).run()
    # one update at the first micro-batch, one after each step (of the rest of what was seen)
    assert checkpoint(tmp_path, 3)["model"]["offset_head.statistics.updates"] == 4


@pytest.mark.parametrize("loss", ["classifier", "image", "color", "gaussian"])
def test_other_losses_of_the_appearance_train_in_and_after_their_warm_up(tmp_path, loss):
    start = make_loss(f"MODEL.OFFSET.LOSS={loss}").network.state_dict()
    assert make_trainer(tmp_path, f"MODEL.OFFSET.LOSS={loss}", iterations=3).run()
    changed = changed_keys(start, checkpoint(tmp_path, 3)["model"])
    assert any(key.startswith("offset_head.") for key in changed)
    assert any(key.startswith("offset_decoder.") for key in changed)


def test_a_run_interrupted_in_the_warm_up_resumes_in_it_bit_for_bit(tmp_path):
    assert make_trainer(tmp_path / "whole").run()
    assert not make_trainer(tmp_path / "cut", stop_at=1).run()  # a sample of the first iteration
    assert checkpoint(tmp_path / "cut", 1)["glow_iterations"] == BATCH_SIZE
    assert make_trainer(tmp_path / "cut").run()
    whole, cut = checkpoint(tmp_path / "whole", 4), checkpoint(tmp_path / "cut", 4)
    assert not changed_keys(whole["model"], cut["model"])
    assert whole["glow_iterations"] == cut["glow_iterations"] == WARM_UP_ITERATIONS * BATCH_SIZE


def test_several_processes_pass_through_the_warm_up_together(tmp_path):
    mp.spawn(_train_in_process, args=(str(tmp_path),), nprocs=2)
    states = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    assert not changed_keys(*states)
    start = make_loss().network.state_dict()
    warm = checkpoint(tmp_path / "run", WARM_UP_ITERATIONS)
    assert all(key.startswith("offset_head.") for key in changed_keys(start, warm["model"]))
    assert warm["glow_iterations"] == WARM_UP_ITERATIONS * BATCH_SIZE
    assert any(key.startswith("embedding_head.") for key in changed_keys(start, states[0]))


def _train_in_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    process = ProcessInfo(rank=rank, world_size=2, local_rank=rank)
    for iterations in (WARM_UP_ITERATIONS, WARM_UP_ITERATIONS + 1):  # the second run resumes from the first
        trainer = make_trainer(Path(folder) / "run", iterations=iterations, process=process)
        assert trainer.run()
    torch.save(trainer.state.training_loss.network.state_dict(), f"{folder}/{rank}.pth")
    dist.destroy_process_group()
