"""Training steps equal the published ones: targets at quarter scale, terms, gradients, parameters after a step."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from stemseg.config import load_config
from stemseg.modeling.losses.semantic_loss import semantic_losses
from stemseg.modeling.network import build_network
from stemseg.structures.clip import ClipBatch, ClipTargets
from stemseg.training import loss as loss_module
from stemseg.training.logger import TrainingLogger
from stemseg.training.loss import TrainingLoss, build_loss, downscale_targets, upsample_output
from stemseg.training.run import build_state, build_step
from stemseg.utils.distributed import ProcessInfo
from tests.helpers.golden_weights import det, fill_state_dict, load_golden, relative_difference
from tests.helpers.paths import GOLDEN_DIR
from tests.helpers.small_network import SMALL_NETWORK

CPU = torch.device("cpu")
# names of the terms in the golden files; the semantic one was logged at twice its value there
TERMS = {
    "embedding_loss": ("embedding", 1.0),
    "lovasz_loss": ("lovasz", 1.0),
    "variance_smoothness_loss": ("variance_smoothness", 1.0),
    "seediness_loss": ("seediness", 1.0),
    "foreground": ("foreground", 1.0),
    "semantic_segmentation_loss": ("semantic", 2.0),
}


def _golden_batch(arrays):
    masks, ignore = torch.from_numpy(arrays["masks"]), torch.from_numpy(arrays["ignore_masks"])
    num_frames, height, width = ignore.shape
    frames = det(f"trainstep.images.T{num_frames}", (1, num_frames, 3, height, width)) * 50
    targets = ClipTargets(masks, torch.from_numpy(arrays["category_ids"]), ignore)
    return ClipBatch(frames, [targets], [(height, width)], ["golden"])


def _strided(tensor):
    flat = tensor.detach().flatten()
    return flat[:: max(1, flat.numel() // 512)]


def _check_terms(report, golden, tolerance):
    assert report.terms["total"].item() == pytest.approx(golden["total_loss"], rel=tolerance)
    for name, value in golden["terms"].items():
        term, factor = TERMS[name]
        assert report.terms[term].item() * factor == pytest.approx(value, rel=10 * tolerance), name


def _check_gradients(training_loss, golden, tolerance):
    for name, norm in golden["grad_norm"].items():
        parameters = training_loss.network.get_submodule(name).parameters()
        gradients = [p.grad.double().flatten() for p in parameters if p.grad is not None]
        assert torch.cat(gradients).norm().item() == pytest.approx(norm, rel=tolerance), name
    without = sum(p.grad is None for p in training_loss.network.parameters())
    assert without == golden["n_params_without_grad"]


def _check_arrays(training_loss, arrays, step):
    named = dict(training_loss.network.named_parameters())
    for key, expected in arrays.items():
        at, _, name = key.partition("|")
        kind, _, name = name.partition("|")
        if at == f"step{step}" and kind == "grad" and step == 0:
            assert relative_difference(_strided(named[name].grad), expected.ravel()) < 1e-3, key
        # the arrays of step 0 were views of the parameters, so they too hold the values after step 1
        if at == f"step{step}" and kind == "param_after" and step == 1:
            assert relative_difference(_strided(named[name]), expected.ravel()) < 5e-5, key


def _published_semantic_losses(output, targets):
    """There the ignore mask had no effect on the cross-entropy (method.md §13)."""
    nothing = [replace(t, ignore_mask=torch.zeros_like(t.ignore_mask)) for t in targets]
    return semantic_losses(output, targets)._replace(semantic=semantic_losses(output, nothing).semantic)


@pytest.mark.parametrize("name", ["davis_2", "youtube_vis"])
def test_two_training_steps_equal_the_published_ones(name, monkeypatch):
    monkeypatch.setattr(loss_module, "semantic_losses", _published_semantic_losses)
    golden = json.loads((GOLDEN_DIR / f"trainstep_{name}.json").read_text())["steps"]
    arrays = load_golden(f"trainstep_{name}")
    cfg = load_config(name)
    network = build_network(cfg)
    fill_state_dict(network)
    training_loss = build_loss(cfg, network)
    log = TrainingLogger(None, max_iterations=2, display_interval=1, summary_interval=1)
    step = build_step(cfg, build_state(cfg, training_loss, log, CPU), ProcessInfo(), CPU)
    for i, tolerance in enumerate([(1e-6, 1e-5), (5e-5, 1e-3)]):
        report = step.accumulate(iter([_golden_batch(arrays)]), [0])
        step.move()
        _check_terms(report, golden[i], tolerance[0])
        _check_gradients(training_loss, golden[i], tolerance[1])
        _check_arrays(training_loss, arrays, i)
        if i == 0:
            maps = torch.cat(report.last_output[:2], dim=1)
            expected = arrays["step0|embeddings_map"][:, : maps.shape[1]]
            assert relative_difference(maps, expected) < 1e-5


SMALL = [*SMALL_NETWORK, "INPUT.NUM_FRAMES=2"]


def _small_loss(*overrides) -> TrainingLoss:
    cfg = load_config(None, [*SMALL, *overrides])
    torch.manual_seed(0)
    return build_loss(cfg, build_network(cfg))


def _small_batch():
    masks = torch.zeros(2, 2, 96, 96, dtype=torch.uint8)
    masks[0, :, 8:40, 8:48] = 1
    masks[1, :, 50:90, 30:90] = 1
    targets = ClipTargets(masks, torch.tensor([1, 1]), torch.zeros(2, 96, 96, dtype=torch.uint8))
    return ClipBatch(det("small", (1, 2, 3, 96, 96)), [targets], [(96, 96)], ["small"])


def test_every_trainable_parameter_gets_a_gradient():
    training_loss = _small_loss("MODEL.USE_SEMSEG_HEAD=true")
    report = training_loss(_small_batch())
    report.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in training_loss.parameters() if p.requires_grad)
    outputs = [x for x in report.output if x is not None]
    assert not any(x.requires_grad for x in [*report.terms.values(), *outputs])


def test_a_frozen_backbone_has_no_gradient_and_stays_in_evaluation_mode():
    training_loss = _small_loss("TRAINING.FREEZE_BACKBONE=true")
    training_loss.train()
    training_loss(_small_batch()).total.backward()
    assert not any(m.training for m in training_loss.network.backbone.modules())
    assert training_loss.network.embedding_head.training
    assert all(p.grad is None for p in training_loss.network.backbone.parameters())


def test_weights_scale_the_terms():
    plain, weighted = (
        _small_loss("MODEL.USE_SEMSEG_HEAD=true"),
        _small_loss(
            "MODEL.USE_SEMSEG_HEAD=true", "TRAINING.LOSSES.SEMSEG.WEIGHT=3", "TRAINING.LOSSES.EMBEDDING.WEIGHT=5"
        ),
    )
    a, b = plain(_small_batch()), weighted(_small_batch())
    assert b.terms["embedding"].item() == pytest.approx(5 * a.terms["embedding"].item())
    semantic = a.terms["semantic"] + a.terms["foreground"]
    assert b.total.item() == pytest.approx((5 * a.terms["embedding"] + 3 * semantic).item(), rel=1e-5)


def test_loss_at_full_resolution_compares_upsampled_outputs_with_the_targets():
    training_loss = _small_loss("TRAINING.LOSS_AT_FULL_RES=true")
    report = training_loss(_small_batch())
    batch = _small_batch()
    with torch.no_grad():
        output = upsample_output(training_loss.network(batch.frames))
    assert output.embedding.shape[-2:] == (96, 96)
    expected = training_loss.network.embedding_loss_criterion(output, batch.targets)
    assert report.total.item() == pytest.approx(expected.total.item(), rel=1e-5)


def test_losses_are_float32_under_mixed_precision():
    training_loss = _small_loss()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = training_loss(_small_batch())
    assert report.total.dtype == torch.float32
    assert report.total.item() == pytest.approx(training_loss(_small_batch()).total.item(), rel=0.1)


def test_masks_equal_the_published_implementation():
    golden = {key: torch.from_numpy(value) for key, value in load_golden("semseg_losses").items()}
    small = downscale_targets(ClipTargets(golden["full_masks"], golden["category_ids"], golden["full_ignore"]))
    assert torch.equal(small.masks, golden["small_masks"])
    assert torch.equal(small.ignore_mask, golden["small_ignore"])
    assert torch.equal(small.category_ids, golden["category_ids"])


def test_equals_truncated_bilinear_interpolation():
    masks = (torch.rand(3, 2, 32, 64, generator=torch.Generator().manual_seed(0)) < 0.8).to(torch.uint8)
    small = downscale_targets(ClipTargets(masks, torch.ones(3), masks[0]))
    expected = F.interpolate(masks.float(), scale_factor=0.25, mode="bilinear", align_corners=False).to(torch.uint8)
    assert torch.equal(small.masks, expected)
    assert 0 < expected.float().mean() < 1


def test_no_instances_stay_no_instances():
    empty = ClipTargets(torch.zeros(0, 2, 32, 64, dtype=torch.uint8), torch.zeros(0), torch.zeros(2, 32, 64).byte())
    assert downscale_targets(empty).masks.shape == (0, 2, 8, 16)
