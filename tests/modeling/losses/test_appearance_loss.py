"""The losses of A beside the mask loss: each equals a naive form, reaches A, and bears clips without instances."""

import math

import pytest
import torch
import torch.nn.functional as F

from stemseg.modeling.flow.condition import posterior_bits
from stemseg.modeling.losses.appearance_loss import (
    ColorRegression,
    GaussianPosterior,
    GenerativeClassifier,
    ImageFlow,
    appearance_loss,
    build_appearance_head,
    quarter_colors,
)
from tests.helpers.hierarchical_config import small_hierarchical_config

LOSSES = ("likelihood", "classifier", "image", "color", "gaussian")


def make_head(loss: str, **options):
    torch.manual_seed(0)
    overrides = [f"MODEL.OFFSET.{key}={value}" for key, value in options.items()]
    head = build_appearance_head(small_hierarchical_config(f"MODEL.OFFSET.LOSS={loss}", *overrides))
    with torch.no_grad():  # zero convolutions hide the condition until they are trained
        for name, parameter in head.named_parameters():
            if name.endswith("conv.weight"):
                parameter.normal_(0, 0.1)
    return head


def make_clips(num_frames=3):
    """A [2, 3, T, 16, 24], the masks of two clips, one with three instances of which two share a frame, and colors."""
    generator = torch.Generator().manual_seed(1)
    appearance = torch.randn(2, 3, num_frames, 16, 24, generator=generator)
    colors = torch.randn(2, 3, num_frames, 16, 24, generator=generator)
    masks = [torch.zeros(n, num_frames, 16, 24, dtype=torch.uint8) for n in (3, 1)]
    masks[0][0, :, :, :8] = masks[0][1, :, :8, 12:] = masks[0][2, :1, 12:, 12:] = masks[1][0, :, 4:12, 4:12] = 1
    return appearance, masks, colors


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_reaches_the_appearance_by_its_scale_and_every_weight_but_not_for_nothing(loss):
    appearance, masks, colors = make_clips()
    gradients = []
    for scale in (1.0, 0.25):
        head = make_head(loss, GRADIENT_SCALE=scale)
        a = appearance.clone().requires_grad_()
        torch.manual_seed(3)
        appearance_loss(head, a, masks, colors).bits_per_dimension.backward()
        gradients.append(a.grad)
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(0.25 * gradients[0], gradients[1], atol=1e-7)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("loss", LOSSES)
def test_clips_without_instances_are_borne(loss):
    appearance, _, colors = make_clips()
    head = make_head(loss)
    nothing = [torch.zeros(0, 3, 16, 24, dtype=torch.uint8)] * 2
    bits = appearance_loss(head, appearance.requires_grad_(), nothing, colors).bits_per_dimension
    bits.backward()
    assert torch.isfinite(bits) and (loss == "likelihood" or bits == 0)


@pytest.mark.parametrize("loss", ["classifier", "image", "color", "gaussian"])
def test_the_mean_is_that_of_the_other_frames(loss):
    appearance, masks, colors = make_clips(num_frames=2)
    head = make_head(loss).eval()
    changed = appearance.clone()
    changed[1, :, 0] += torch.randn(3, 16, 24)  # a single instance: its own frame changes nothing for colors
    torch.manual_seed(2)
    before = head.likelihood(appearance, masks, colors).bits_per_dimension
    torch.manual_seed(2)
    after = head.likelihood(changed, masks, colors).bits_per_dimension
    if loss in ("classifier", "gaussian"):  # which has no rival in its clip
        assert torch.equal(before, after) and len(before) == 2
    else:
        assert torch.equal(before[:2], after[:2]) and not torch.equal(before[2:], after[2:])


def test_posterior_equals_a_naive_one():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 2, 4, 4, generator=generator)
    weights = torch.rand(3, 2, 4, 4, generator=generator)
    known = torch.tensor([[True, True], [True, True], [False, True]])
    expected = []
    for own in range(3):
        total = part = 0.0
        for t in range(2):
            rivals = [j for j in range(3) if known[j, t]]
            if not known[own, t] or len(rivals) < 2:
                continue
            for y in range(4):
                for x in range(4):
                    evidence = sum(math.exp(scores[j, t, y, x]) for j in rivals)
                    part -= weights[own, t, y, x].item() * math.log2(math.exp(scores[own, t, y, x]) / evidence)
                    total += weights[own, t, y, x].item()
        expected.append(part / total)
    assert posterior_bits(scores, weights, known).tolist() == pytest.approx(expected, rel=1e-5)
    assert len(posterior_bits(scores, weights, known[:1] & torch.zeros(3, 2, dtype=torch.bool))) == 0


def test_gaussian_posterior_equals_its_definition_at_a_pixel():
    appearance, masks, _ = make_clips()
    head = GaussianPosterior(3).eval()
    with torch.no_grad():
        head.log_precision.copy_(torch.tensor([0.5, -1.0, 0.0]))
    a, m = appearance[0], masks[0].bool()
    means = {(j, t): torch.cat([a[:, s][:, m[j, s]] for s in range(3) if s != t], dim=1).mean(dim=1)
             for j in range(3) for t in range(3) if any(m[j, s].any() for s in range(3) if s != t)}  # fmt: skip
    precision = head.log_precision.exp()
    bits = []
    for t in range(3):
        values = a[:, t][:, m[1, t]].t()
        scores = {j: -0.5 * ((values - means[j, t]) ** 2 * precision).sum(1) for j in range(3) if (j, t) in means}
        posterior = scores[1].exp() / sum(s.exp() for s in scores.values())
        bits.append(-posterior.log2())
    found = head.likelihood(appearance, masks).bits_per_dimension
    assert found[1].item() == pytest.approx(torch.cat(bits).mean().item(), rel=1e-3)  # but for the variance's bound


def test_classifier_equals_bayes_rule_one_hypothesis_at_a_time():
    appearance, masks, _ = make_clips()
    head = make_head("classifier", DEQUANTISATION="floor")
    head.train().likelihood(appearance, masks)  # initializes what depends on data
    head.finish_step()
    head.eval()
    found = head.likelihood(appearance, masks).bits_per_dimension
    x = head.flow_input(appearance, masks).unflatten(0, (2, 3))[0]  # [T, A, h, w]
    a, m = torch.sigmoid(head.statistics.standardization()(appearance))[0] - 0.5, masks[0].bool()
    condition = head._crop(head.condition_encoder(masks)).unflatten(0, (2, 3))[0]
    log_p = {}
    for t in range(3):
        for j in range(3):
            others = [a[:, s][:, m[j, s]] for s in range(3) if s != t and m[j, s].any()]
            if others:
                mean = torch.cat(others, dim=1).mean(dim=1)
                output = head((x[t] - mean[:, None, None])[None], condition[t : t + 1])
                log_p[j, t] = (output.log_p_map + output.logdet_map)[0]
    weights = F.avg_pool2d(masks[0].float(), 2 ** (head.num_halvings + 1))
    expected = []
    for own in range(3):
        bits = total = 0.0
        for t in range(3):
            rivals = [log_p[j, t] for j in range(3) if (j, t) in log_p]
            if (own, t) in log_p and len(rivals) > 1:
                posterior = log_p[own, t].exp() / sum(r.exp() for r in rivals)
                bits = bits - (weights[own, t] * posterior.log2()).sum()
                total += weights[own, t].sum()
        if total > 0:
            expected.append((bits / total).item())
    assert len(expected) == len(found) == 2  # the third instance is seen once, the other clip's has no rival
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_color_regression_equals_its_definition_pixel_by_pixel():
    appearance, masks, colors = make_clips()
    torch.manual_seed(0)
    head = ColorRegression(3, hidden_channels=8).eval()
    with torch.no_grad():
        head.log_std.copy_(torch.tensor([0.2, -0.3, 0.1]))
    normals = torch.distributions.Normal(0.0, head.log_std.exp())
    standard = head.statistics.standardization()(colors)
    expected = []
    for clip, instance in ((0, 0), (0, 1), (1, 0)):
        m = masks[clip][instance].bool()
        bits = []
        for t in range(3):
            mean = torch.cat([appearance[clip, :, s][:, m[s]] for s in range(3) if s != t], dim=1).mean(dim=1)
            errors = standard[clip, :, t][:, m[t]].t() - head.net(mean)
            bits.append(-normals.log_prob(errors).mean(dim=1) / math.log(2))
        expected.append(torch.cat(bits).mean().item())
    found = head.likelihood(appearance, masks, colors).bits_per_dimension
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_classifier_prefers_instances_that_keep_their_appearance():
    appearance, masks, _ = make_clips()
    kept = 0.2 * appearance
    kept[0] += 2 * masks[0][0] - 2 * masks[0][1].float()
    swapped = kept.clone()
    swapped[0, :, 1] = -kept[0, :, 1]
    head = make_head("classifier").train()
    head.likelihood(kept, masks)
    bits = [head.eval().likelihood(a, masks).bits_per_dimension[:2].mean() for a in (kept, swapped)]
    gaussian = GaussianPosterior(3)
    gaussian.likelihood(kept, masks)
    of_gaussians = [gaussian.eval().likelihood(a, masks).bits_per_dimension[:2].mean() for a in (kept, swapped)]
    assert of_gaussians[0] < 1 < of_gaussians[1]
    assert isinstance(head, GenerativeClassifier) and bits[0] < bits[1]


def test_colors_are_learned_from_an_appearance_that_tells_them_and_not_from_another():
    _, masks, colors = make_clips()
    masks, colors = [masks[0]] * 2, torch.zeros(2, 3, 3, 16, 24)
    colors[0] += masks[0][0] - masks[0][1].float()
    colors[1] -= masks[0][0] - masks[0][1].float()
    bits = {}
    for name, appearance in {"telling": colors.clone(), "silent": torch.zeros_like(colors)}.items():
        torch.manual_seed(0)
        head = ColorRegression(3, hidden_channels=8)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            loss = appearance_loss(head, appearance, masks, colors).bits_per_dimension
            loss.backward()
            optimizer.step()
            head.finish_step()
        bits[name] = loss.item()
    assert bits["telling"] < bits["silent"] - 0.5


def test_image_flow_reads_the_appearance_of_instances_alone():
    appearance, masks, colors = make_clips()
    head = make_head("image").eval()
    changed = appearance + torch.randn_like(appearance) * (torch.stack([m.sum(dim=0) for m in masks]) == 0)[:, None]
    bits = []
    for a in (appearance, changed, -appearance):
        torch.manual_seed(2)
        bits.append(head.likelihood(a, masks, colors).bits_per_dimension)
    assert isinstance(head, ImageFlow) and len(bits[0]) == 4
    assert torch.allclose(bits[0], bits[1], atol=1e-5) and not torch.allclose(bits[0], bits[2], atol=1e-3)


def test_quarter_colors_are_means():
    frames = torch.randn(2, 3, 3, 8, 12)
    colors = quarter_colors(frames)
    assert torch.allclose(colors[1, 2, 0], F.avg_pool2d(frames[1, 0, 2][None], 4)[0])
