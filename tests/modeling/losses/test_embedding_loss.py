"""The embedding loss: golden numbers, the fast form against the plain one, and edge cases of both."""

from functools import partial

import pytest
import torch

from stemseg.modeling.losses.embedding_loss import EmbeddingCriterion, plain_embedding_loss
from stemseg.structures.clip import ClipTargets
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.structures.network_output import NetworkOutput
from tests.helpers.golden_weights import load_golden, relative_difference

GOLDEN = {key: torch.from_numpy(value) for key, value in load_golden("embedding_loss").items()}
FROZE_A_MISTAKE = "EMPTY_INSTANCE_IN_THE_MIDDLE"
CASES = sorted({key.split("|")[0] for key in GOLDEN if FROZE_A_MISTAKE not in key})


def criterion_for(mode):
    dims = parse_dim_mode(mode)
    return EmbeddingCriterion(dims=dims, free_dim_stds=[0.3] * dims.num_free)


def split(maps, dims):
    """Channels [embedding, raw bandwidth, seediness] -> a network's output."""
    return NetworkOutput(*maps.split([dims.size, dims.num_bandwidths, 1], dim=1))


def golden_case(name):
    maps = GOLDEN[f"{name}|embedding_map"].clone().requires_grad_()
    targets = [
        ClipTargets(masks, torch.ones(len(masks), dtype=torch.int64), GOLDEN[f"{name}|ignore{n}"])
        for n in range(len(maps))
        for masks in [GOLDEN[f"{name}|masks{n}"]]
    ]
    return maps, targets


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_the_published_implementation(case):
    maps, targets = golden_case(case)
    criterion = criterion_for(case.split("_")[0])
    terms = criterion(split(maps, criterion.dims), targets)
    terms.total.backward()
    names = ("total", "lovasz_loss", "variance_smoothness_loss", "seediness_loss")
    for term, name in zip(terms, names, strict=True):
        assert term.item() == pytest.approx(GOLDEN[f"{case}|{name}"].item(), rel=1e-6, abs=1e-9)
    assert relative_difference(maps.grad, GOLDEN[f"{case}|grad"]) < 1e-5


def plain_loss(maps, targets, criterion):
    return plain_embedding_loss(
        split(maps, criterion.dims), targets, free_dim_bandwidths=criterion.free_dim_bandwidths[0].to(maps.dtype)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_plain_form_equals_the_published_implementation(case):
    maps, targets = golden_case(case)
    terms = plain_loss(maps, targets, criterion_for(case.split("_")[0]))
    terms.total.backward()
    for term, name in zip(terms, ("total", "lovasz_loss", "variance_smoothness_loss", "seediness_loss"), strict=True):
        assert term.item() == pytest.approx(GOLDEN[f"{case}|{name}"].item(), rel=1e-5, abs=1e-9)
    assert relative_difference(maps.grad, GOLDEN[f"{case}|grad"]) < 1e-4


def assert_plain_equals_fast(maps, targets, criterion):
    """Terms, and gradients with respect to all maps; the plain form computes in float64."""
    fast, plain = criterion(split(maps, criterion.dims), targets), plain_loss(maps.double(), targets, criterion)
    for name, found, expected in zip(fast._fields, fast, plain, strict=True):
        assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6), name
    (found,), (expected,) = (torch.autograd.grad(terms.total, maps) for terms in (fast, plain))
    assert relative_difference(found, expected) < 1e-4


@pytest.mark.parametrize("mode", ["ff", "xy", "xyff", "xytf"])
@pytest.mark.parametrize("seed", range(3))
def test_overlapping_vanished_and_ignored_instances_equal_the_plain_loss(mode, seed):
    generator = torch.Generator().manual_seed(seed)
    criterion = criterion_for(mode)
    channels = criterion.dims.size + criterion.dims.num_bandwidths + 1
    maps = 0.5 * torch.randn(3, channels, 2, 6, 8, generator=generator)
    maps[:, -1] = maps[:, -1].sigmoid()
    targets = []
    for num_instances in (4, 2 + seed, 0):
        masks = (torch.rand(num_instances, 2, 6, 8, generator=generator) < 0.3).to(torch.uint8)
        masks[1:2] = 0  # vanished at this scale, in the middle: the others keep their masks
        ignore = (torch.rand(2, 6, 8, generator=generator) < 0.3).to(torch.uint8)
        targets.append(ClipTargets(masks, torch.ones(num_instances), ignore))
    assert_plain_equals_fast(maps.requires_grad_(), targets, criterion)


def test_a_clip_without_background_or_with_all_of_it_ignored_equals_the_plain_loss():
    generator = torch.Generator().manual_seed(3)
    criterion = criterion_for("xyt")
    maps = torch.rand(2, 7, 2, 4, 4, generator=generator).requires_grad_()
    halves = torch.zeros(2, 2, 4, 4, dtype=torch.uint8)
    halves[0, :, :2], halves[1, :, 2:] = 1, 1
    nowhere, everywhere = torch.zeros(2, 4, 4), torch.ones(2, 4, 4)
    targets = [ClipTargets(halves, torch.ones(2), nowhere), ClipTargets(halves[:1], torch.ones(1), everywhere)]
    assert_plain_equals_fast(maps, targets, criterion)


@pytest.mark.parametrize("spread", [1e-4, 0.05, 0.3])
def test_pixels_far_from_an_instance_may_be_left_out(spread):
    generator = torch.Generator().manual_seed(1)
    criterion = criterion_for("xyff")
    masks = torch.zeros(4, 2, 12, 16, dtype=torch.uint8)
    for i in range(3):
        masks[i, :, 4 * i : 4 * i + 4, :5] = 1
    masks[3, 0, 3, 9] = 1  # of one pixel, with p = 1
    centers = torch.tensor(
        [[0.0, 0, 0, 0], [1.0, 0, 0, 0], [3.0, 3, 0, 0], [0.0, 0, 0, 0]]
    )  # p between the first two is far from 0
    embedding = spread * torch.randn(4, 2, 12, 16, generator=generator)
    embedding[:, :, :, 5:] += 3 * torch.rand(4, 2, 12, 11, generator=generator) - 1  # the background, everywhere
    embedding = embedding + torch.einsum("ie,ithw->ethw", centers, masks.float())
    maps = torch.cat([embedding, 0.3 + 0.1 * torch.randn(3, 2, 12, 16, generator=generator)])[None].requires_grad_()
    targets = [ClipTargets(masks, torch.ones(4), torch.zeros(2, 12, 16))]
    assert_plain_equals_fast(maps, targets, criterion)


def test_an_instance_that_vanished_does_not_shift_the_others():
    name = next(key.split("|")[0] for key in GOLDEN if FROZE_A_MISTAKE in key)
    maps, (targets,) = golden_case(name)
    visible = targets.masks.flatten(1).any(dim=1)
    assert visible.tolist() == [True, False, True]
    criterion = criterion_for("xyff")
    with_vanished = criterion(split(maps, criterion.dims), [targets])
    kept = ClipTargets(targets.masks[visible > 0], targets.category_ids[visible > 0], targets.ignore_mask)
    assert torch.equal(torch.stack(with_vanished), torch.stack(criterion(split(maps, criterion.dims), [kept])))


@pytest.mark.parametrize("form", ["fast", "plain"])
@pytest.mark.parametrize("num_instances", [0, 2])
def test_a_batch_without_a_visible_instance_gives_a_zero_that_touches_every_output(num_instances, form):
    criterion = criterion_for("xyff")
    plain = partial(plain_embedding_loss, free_dim_bandwidths=criterion.free_dim_bandwidths[0])
    maps = torch.rand(2, 7, 2, 4, 4, requires_grad=True)
    outputs = [x.clone() for x in split(maps, criterion.dims)[:3]]
    for x in outputs:
        x.retain_grad()
    nothing = ClipTargets(torch.zeros(num_instances, 2, 4, 4).byte(), torch.ones(num_instances), torch.zeros(2, 4, 4))
    terms = (plain if form == "plain" else criterion)(NetworkOutput(*outputs), [nothing, nothing])
    terms.total.backward()
    assert [term.item() for term in terms] == [0.0] * 4
    assert all(x.grad is not None and not x.grad.any() for x in outputs)


def test_weights_scale_the_total_only():
    maps, targets = golden_case("xyff_single")
    criterion = criterion_for("xyff")
    before = criterion(split(maps, criterion.dims), targets)
    weights = {"weight": 2.0, "weight_lovasz": 3.0, "weight_variance_smoothness": 5.0, "weight_seediness": 7.0}
    weighted = EmbeddingCriterion(dims=criterion.dims, free_dim_stds=[0.3, 0.3], **weights)
    output, bandwidths = split(maps, criterion.dims), criterion.free_dim_bandwidths[0]
    after = weighted(output, targets)
    plain = plain_embedding_loss(output, targets, free_dim_bandwidths=bandwidths, **weights)
    assert torch.equal(torch.stack(before[1:]), torch.stack(after[1:]))
    expected = 2 * (3 * before.lovasz + 5 * before.variance_smoothness + 7 * before.seediness)
    assert after.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert plain.total.item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_precision_outputs_give_a_float32_loss():
    maps, targets = golden_case("xyff_single")
    criterion = criterion_for("xyff")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = criterion(split(maps, criterion.dims), targets)
    assert torch.equal(torch.stack(terms), torch.stack(criterion(split(maps, criterion.dims), targets)))


def test_free_dimensions_have_the_bandwidth_of_their_deviation():
    criterion = criterion_for("xyff")
    assert criterion.free_dim_bandwidths.tolist() == [pytest.approx([1 / 0.09] * 2)]
    assert list(criterion.state_dict()) == ["free_dim_bandwidths"]
    assert list(criterion_for("xyt").state_dict()) == []  # published checkpoints without free dims have no such key
