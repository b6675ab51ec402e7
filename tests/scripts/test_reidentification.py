"""Re-identification accuracy of look-alikes by the embedding, on synthetic embeddings and on a trained network."""

import math

import pytest
import torch

from scripts.experiments.appearance_flow.alignment import separation
from scripts.experiments.appearance_flow.reidentification import pair_accuracy


def _pair(codes) -> tuple[torch.Tensor, torch.Tensor]:
    """Two objects side by side in two frames; codes [2 frames, 2 objects] of one dimension."""
    masks = torch.zeros(2, 2, 4, 6, dtype=torch.uint8)
    masks[0, :, :, :2] = masks[1, :, :, 4:] = 1
    embedding = torch.einsum("ti,ithw->thw", torch.tensor(codes), masks.float())[None]
    return embedding, masks


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([[0.0, 1.0], [0.1, 0.9]], 1.0),  # each keeps its own
        ([[0.0, 1.0], [0.9, 0.1]], 0.0),  # switched
        ([[0.0, 0.0], [0.0, 0.0]], 0.5),  # constant: a guess
        ([[0.0, 1.0], [1.2, 2.2]], 0.5),  # both drift, so that the first looks like what the second was
    ],
)
def test_accuracy_of_a_pair(codes, expected):
    assert pair_accuracy(*_pair(codes)) == pytest.approx(expected)


def test_the_background_and_the_objects_sizes_do_not_matter():
    embedding, masks = _pair([[0.0, 1.0], [0.1, 0.9]])
    embedding += 100 * (masks.sum(dim=0) == 0)
    masks[0, 0, 1:] = 0
    assert pair_accuracy(embedding, masks) == pytest.approx(1.0)


def test_single_pixels_count():
    embedding, masks = _pair([[0.0, 1.0], [0.1, 0.9]])
    embedding[0, 1, 0, :2] = 0.8  # 2 of the first object's 8 pixels look like the second
    assert pair_accuracy(embedding, masks) == pytest.approx((6 / 8 + 1) / 2)


def test_separation_compares_means_with_what_varies_within():
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, 0, 0], masks[1, 0, 1] = 1, 1  # the third is invisible
    appearance = torch.zeros(1, 1, 1, 4, 4)
    appearance[0, 0, 0, 0] = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    appearance[0, 0, 0, 1] = torch.tensor([2.0, 4.0, 2.0, 4.0])
    assert separation(appearance, [masks]).item() == pytest.approx(math.log(9 / 1))
    assert separation(appearance, [masks[:1]]) == 0  # one instance: nothing to separate
