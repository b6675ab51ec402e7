"""The condition encoder: any number of instances, in any order, each frame on its own."""

import pytest
import torch

from stemseg.modeling.flow.condition import ConditionEncoder, paint_means


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ConditionEncoder(8, num_halvings=2)


def _masks(num_instances: int, num_frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_instances)
    return (torch.rand(num_instances, num_frames, 8, 12, generator=generator) > 0.5).to(torch.uint8)


def test_shape_for_clips_with_different_numbers_of_instances(encoder):
    features = encoder([_masks(3), _masks(0), _masks(1)])
    assert features.shape == (6, 8, 2, 3)
    assert torch.isfinite(features).all()
    assert torch.allclose(features[4:], encoder([_masks(1)]), atol=1e-6)  # clips do not see each other


def test_order_of_instances_does_not_matter(encoder):
    masks = _masks(4)
    assert torch.equal(encoder([masks]), encoder([masks[[2, 0, 3, 1]]]))


def test_each_frame_is_encoded_on_its_own(encoder):
    masks = _masks(3)
    changed = masks.clone()
    changed[0, 1] = 1 - changed[0, 1]
    before, after = encoder([masks]), encoder([changed])
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-6)


def test_an_instance_absent_from_every_frame_changes_nothing(encoder):
    masks = _masks(2)
    with_absent = torch.cat([masks, torch.zeros_like(masks[:1])])
    assert torch.allclose(encoder([masks]), encoder([with_absent]), atol=1e-6)


def test_which_instance_a_pixel_belongs_to_matters_not_only_whether_it_is_covered(encoder):
    whole = torch.ones(1, 1, 8, 12)
    halves = torch.zeros(2, 1, 8, 12)
    halves[0, ..., :6] = halves[1, ..., 6:] = 1
    assert not torch.allclose(encoder([whole]), encoder([halves]), atol=1e-4)


def test_every_weight_gets_a_gradient_even_without_instances(encoder):
    encoder([_masks(0)]).square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_means_of_other_frames_agree_with_a_naive_implementation():
    torch.manual_seed(0)
    owner, appearance = torch.randint(0, 4, (4, 6, 6)), torch.randn(2, 4, 6, 6)
    masks = torch.stack([owner == i for i in range(3)]).to(torch.uint8)
    masks[1, 1:] = 0  # in the first frame alone
    masks[2] = 0  # nowhere
    expected = torch.zeros_like(appearance)
    for i in range(3):
        for t in range(4):
            pixels = torch.cat([appearance[:, s][:, masks[i, s] > 0] for s in range(4) if s != t], dim=1)
            mean = pixels.mean(dim=1) if pixels.shape[1] else torch.zeros(2)
            expected[:, t] += mean[:, None, None] * masks[i, t]
    assert torch.allclose(paint_means(appearance, masks, of_other_frames=True), expected, atol=1e-5)
    assert not paint_means(appearance, masks[:0]).any()
