"""The Lovász hinge: golden numbers, and against a plain implementation for one mask."""

import pytest
import torch
from golden_weights import load_golden, relative_difference

from stemseg.modeling.losses.lovasz import lovasz_hinge


def naive_hinge(logits, labels):
    """One mask; the Jaccard loss of each prefix of the sorted errors is counted from scratch."""
    errors = 1 - logits * (2 * labels.double() - 1)
    order = errors.argsort(descending=True)
    inside = labels[order].bool()
    loss, before = 0.0, 0.0
    for k in range(len(order)):
        intersection = inside[k + 1 :].sum().item()  # inside pixels that are not misclassified yet
        union = inside.sum().item() + (~inside[: k + 1]).sum().item()
        now = 1 - intersection / union
        loss = loss + errors[order[k]].clamp(min=0) * (now - before)
        before = now
    return loss


@pytest.mark.parametrize("case", range(8))
def test_loss_and_gradient_equal_the_published_implementation(case):
    golden = load_golden("lovasz_hinge")
    logits = torch.from_numpy(golden[f"logits_{case}"])[None].requires_grad_()
    loss = lovasz_hinge(logits, torch.from_numpy(golden[f"labels_{case}"])[None])
    loss.sum().backward()
    assert loss.item() == pytest.approx(golden[f"loss_{case}"].item(), rel=1e-6)
    assert relative_difference(logits.grad[0], golden[f"grad_{case}"]) < 3e-5  # the differences there cancel


def test_many_masks_equal_one_at_a_time():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 40, generator=generator)
    labels = (torch.rand(6, 40, generator=generator) < torch.linspace(0, 1, 6)[:, None]).to(torch.uint8)
    losses = lovasz_hinge(logits, labels)
    expected = [naive_hinge(*pair).item() for pair in zip(logits.double(), labels, strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-5)


def test_pixels_left_out_of_the_sort_would_not_have_counted():
    generator = torch.Generator().manual_seed(2)
    labels = torch.rand(2, 60, generator=generator) < 0.2
    # most outside pixels are well classified, as in training: their errors lie below every inside pixel's
    probabilities = torch.where(labels, 0.6, 0.05) + 0.3 * torch.rand(2, 60, generator=generator)
    logits = (2 * probabilities - 1).requires_grad_()
    losses = lovasz_hinge(logits, labels)
    expected = torch.stack([naive_hinge(*pair) for pair in zip(logits.double(), labels, strict=True)])
    assert torch.allclose(losses.double(), expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    (reference,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(gradient, reference, atol=1e-6)
    assert (gradient == 0).sum() > 20


def test_a_perfect_prediction_costs_nothing_and_its_opposite_most():
    labels = torch.tensor([[1, 1, 0, 0]])
    signs = 2.0 * labels - 1
    assert lovasz_hinge(signs, labels).item() == 0
    assert lovasz_hinge(-signs, labels).item() == pytest.approx(2)


def test_autocast_does_not_lower_the_precision():
    logits, labels = torch.randn(2, 30), torch.rand(2, 30) < 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = lovasz_hinge(logits, labels)
    assert torch.equal(losses, lovasz_hinge(logits, labels))
