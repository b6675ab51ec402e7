"""The Lovász hinge: golden numbers, and against a plain implementation for one mask."""

import pytest
import torch

from stemseg.modeling.losses.lovasz import lovasz_hinge, lovasz_hinge_terms, plain_lovasz_hinge
from tests.helpers.golden_weights import load_golden, relative_difference


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


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_plain_hinge_counts_what_each_error_adds(share):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(30, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.rand(30, generator=generator) < share
    found, expected = plain_lovasz_hinge(logits, labels), naive_hinge(logits, labels)
    assert found.item() == pytest.approx(expected.item())
    (gradient,), (reference,) = (torch.autograd.grad(loss, logits) for loss in (found, expected))
    torch.testing.assert_close(gradient, reference)


def test_many_masks_equal_one_at_a_time():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 40, generator=generator)
    labels = (torch.rand(6, 40, generator=generator) < torch.linspace(0, 1, 6)[:, None]).to(torch.uint8)
    losses = lovasz_hinge(logits, labels)
    expected = [naive_hinge(*pair).item() for pair in zip(logits.double(), labels, strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-5)


def test_pairs_that_cannot_count_may_be_left_out():
    generator = torch.Generator().manual_seed(2)
    labels = torch.rand(2, 60, generator=generator) < 0.2
    # most outside pixels are well classified, as in training: their errors lie below every inside pixel's
    probabilities = torch.where(labels, 0.6, 0.05) + 0.3 * torch.rand(2, 60, generator=generator)
    logits = 2 * probabilities - 1
    errors = 1 - torch.where(labels, logits, -logits)
    kept = labels | (errors >= errors.masked_fill(~labels, torch.inf).amin(dim=1, keepdim=True))
    assert labels.sum() < kept.sum() < 100
    terms = lovasz_hinge_terms(logits[kept], labels[kept], kept.nonzero()[:, 0], labels.sum(dim=1))
    losses = torch.zeros(2).index_add(0, kept.nonzero()[:, 0], terms)
    expected = [naive_hinge(*pair).item() for pair in zip(logits.double(), labels, strict=True)]
    assert losses.tolist() == pytest.approx(expected, abs=1e-6)


def test_of_a_mask_without_inside_pixels_only_the_largest_error_counts():
    losses = lovasz_hinge(torch.tensor([[-0.5, 0.25, -2.0], [1.0, -1.0, 0.5]]), torch.zeros(2, 3))
    assert losses.tolist() == [1.25, 2.0]


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
