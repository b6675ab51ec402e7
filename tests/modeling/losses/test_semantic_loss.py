"""The semantic losses: golden numbers, ignore masks that take effect, clips without instances."""

import pytest
import torch

from stemseg.modeling.losses.semantic_loss import semantic_losses, semantic_target
from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import NetworkOutput
from stemseg.utils.errors import StemsegError
from tests.helpers.golden_weights import load_golden, relative_difference

GOLDEN = {key: torch.from_numpy(value) for key, value in load_golden("semseg_losses").items()}


def output_of(logits, foreground=True):
    """A network's output with class logits, and the last of ``logits``' channels as the foreground's."""
    return NetworkOutput(None, None, None, logits[:, :-1], logits[:, -1:] if foreground else None)


def golden_targets(ignore_mask):
    return ClipTargets(GOLDEN["small_masks"], GOLDEN["category_ids"], ignore_mask)


def test_losses_equal_the_published_implementation():
    logits = GOLDEN["logits_NTCHW"].clone().requires_grad_()
    targets = golden_targets(torch.zeros_like(GOLDEN["small_ignore"]))
    assert torch.equal(semantic_target(targets), GOLDEN["semseg_masks"])
    terms = semantic_losses(output_of(logits.transpose(1, 2)), [targets])
    sum(terms).backward()
    assert terms.semantic.item() == pytest.approx(GOLDEN["semseg_loss"].item(), rel=1e-6)
    assert terms.foreground.item() == pytest.approx(GOLDEN["fg_loss"].item(), rel=1e-6)
    assert relative_difference(logits.grad, GOLDEN["grad_of_sum"]) < 1e-6


def test_ignored_pixels_have_no_gradient_and_do_not_count_in_the_mean():
    logits = torch.randn(2, 9, 2, 8, 12, requires_grad=True)
    ignore = torch.zeros(2, 8, 12, dtype=torch.uint8)
    ignore[:, :, 6:] = 1
    terms = semantic_losses(output_of(logits), [golden_targets(ignore)] * 2)
    (gradient,) = torch.autograd.grad(sum(terms), logits)
    assert not gradient[..., 6:].any()
    assert gradient[..., :6].any(dim=1).all()
    left = [ClipTargets(GOLDEN["small_masks"][..., :6], GOLDEN["category_ids"], ignore[..., :6])] * 2
    for term, expected in zip(terms, semantic_losses(output_of(logits[..., :6]), left), strict=True):
        assert term.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_clip_ignored_altogether_costs_nothing():
    logits = torch.randn(1, 9, 2, 8, 12, requires_grad=True)
    terms = semantic_losses(output_of(logits), [golden_targets(torch.ones(2, 8, 12, dtype=torch.uint8))])
    sum(terms).backward()
    assert (terms.semantic.item(), terms.foreground.item()) == (0.0, 0.0)
    assert not logits.grad.any()


def test_a_clip_without_instances_is_background():
    logits = torch.zeros(1, 4, 1, 2, 2)
    targets = ClipTargets(torch.zeros(0, 1, 2, 2).byte(), torch.zeros(0).long(), torch.zeros(1, 2, 2).byte())
    terms = semantic_losses(output_of(logits), [targets])
    assert terms.semantic.item() == pytest.approx(torch.log(torch.tensor(3.0)).item())
    assert semantic_losses(output_of(logits, foreground=False), [targets]).foreground is None


def test_a_network_without_a_semantic_head_has_no_semantic_loss():
    with pytest.raises(StemsegError, match="needs class logits"):
        semantic_losses(NetworkOutput(None, None, None), [golden_targets(torch.zeros_like(GOLDEN["small_ignore"]))])
