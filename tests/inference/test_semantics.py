"""Averages over clips, the pixels that they make foreground, and class votes against the plain way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.inference.semantics import (
    FrameAverages,
    FramePoints,
    SemanticRule,
    class_votes,
    foreground_places,
    label_weights,
    places_without_waiting,
    sample,
)
from stemseg.structures.network_output import NetworkOutput


def _rule(num_classes: int, *, head: bool = True) -> SemanticRule:
    return SemanticRule(seediness_threshold=0.25, num_classes=num_classes, has_semantic_head=head)


def _output(**maps: Tensor) -> NetworkOutput:
    blank = torch.zeros(1, 1, 2, 3, 4)
    return NetworkOutput(embedding=blank, raw_bandwidth=blank, **{"seediness": blank, **maps})


def _points(labels: Tensor, scale: int = 1) -> tuple[list[FramePoints], list[Tensor]]:
    """Points and labels of all pixels of maps [F, H, W] that are not background."""
    places = foreground_places(labels != 0)
    size = (labels.shape[1] // scale, labels.shape[2] // scale)
    return [FramePoints(p, size, scale) for p in places], [
        frame.flatten()[p] for frame, p in zip(labels, places, strict=True)
    ]


def test_frames_are_averaged_over_the_clips_that_cover_them() -> None:
    averages = FrameAverages()
    averages.add([0, 1], torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))
    averages.add([1, 2], torch.tensor([4.0, 5.0]).view(1, 2, 1, 1))
    assert averages.means([0, 1, 2]).flatten().tolist() == [1, 3, 5]
    averages.forget_before(2)
    assert len(averages) == 1
    with pytest.raises(KeyError):
        averages.means([1])


def test_a_frame_that_occurs_twice_in_a_clip_counts_twice() -> None:
    averages = FrameAverages()
    averages.add([0, 0, 1], torch.tensor([1.0, 2.0, 9.0]).view(1, 3, 1, 1))
    assert averages.means([0, 1]).flatten().tolist() == [1.5, 9]


@pytest.mark.parametrize("num_classes", [2, 4])
def test_without_a_foreground_channel_the_background_must_be_unlikely(num_classes: int) -> None:
    logits = torch.randn(1, num_classes, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    rule = _rule(num_classes)
    means = rule.maps(_output(class_logits=logits)).transpose(0, 1)  # [F, C, h, w]
    expected = logits[0].softmax(dim=0)[0] < 0.5
    assert 0 < expected.sum() < expected.numel()
    torch.testing.assert_close(rule.foreground(means), expected)


def test_a_foreground_channel_decides_alone() -> None:
    foreground = torch.randn(1, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    rule = _rule(4)
    output = _output(class_logits=torch.randn(1, 4, 2, 3, 4), foreground_logits=foreground)
    means = rule.maps(output).transpose(0, 1)
    torch.testing.assert_close(rule.foreground(means), foreground[0, 0].sigmoid() > 0.5)
    torch.testing.assert_close(rule.class_maps(output), output.class_logits[0])


def test_seediness_decides_where_there_is_no_head() -> None:
    seediness = torch.rand(1, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    rule = _rule(2, head=False)
    output = _output(seediness=seediness)
    torch.testing.assert_close(rule.foreground(rule.maps(output).transpose(0, 1)), seediness[0, 0] > 0.25)
    assert rule.class_maps(output) is None


@pytest.mark.parametrize("scale", [1, 4])
def test_votes_equal_sums_over_upsampled_logits(scale: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 5, 6, generator=generator)
    labels = torch.randint(-1, 4, (3, 5 * scale, 6 * scale), generator=generator)
    upsampled = F.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False) if scale > 1 else logits
    expected = torch.stack([(upsampled * (labels == i)[:, None]).sum(dim=(0, 2, 3)) for i in (1, 2, 3)])
    points, instances = _points(labels, scale)
    torch.testing.assert_close(class_votes(points, instances, 3, logits), expected, rtol=1e-5, atol=1e-4)


def test_weights_of_a_label_sum_to_its_pixels() -> None:
    labels = torch.zeros(16, 24, dtype=torch.int32)
    labels[0:3, 0:5] = 1  # touches the border, where interpolation clamps
    labels[7:16, 9:24] = 2
    (points,), (instances,) = _points(labels[None], 4)
    weights, _ = label_weights(points, instances, 3)
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([15.0, 135.0, 0.0]))


def test_no_instances() -> None:
    points, instances = _points(torch.zeros(1, 4, 4, dtype=torch.int32))
    assert class_votes(points, instances, 0, torch.zeros(1, 5, 4, 4)).shape == (0, 5)


def test_a_model_without_classes_keeps_no_map_of_them() -> None:
    output = _output(class_logits=torch.randn(1, 2, 2, 3, 4), foreground_logits=torch.randn(1, 1, 2, 3, 4))
    rule = _rule(2)
    assert rule.maps(output).shape == (1, 2, 3, 4)
    assert rule.class_maps(output) is None


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sampled_places_equal_those_of_an_upsampled_map(scale: int) -> None:
    maps = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    upsampled = F.interpolate(maps[None], scale_factor=scale, mode="bilinear", align_corners=False)[0]
    places = torch.arange(upsampled[0].numel())[::3]
    torch.testing.assert_close(
        sample(maps, FramePoints(places, (5, 6), scale)), upsampled.flatten(1)[:, places], rtol=1e-6, atol=1e-6
    )


def test_places_of_the_foreground_are_found_alike_on_every_device() -> None:
    masks = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.4
    masks[1] = False
    expected = [frame.flatten().nonzero()[:, 0] for frame in masks]
    for found in (foreground_places(masks), places_without_waiting(masks.flatten(1))):
        for places, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(places, wanted)
