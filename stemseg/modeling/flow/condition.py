"""The flow's condition (method.md §5): features c of a clip's ground-truth masks, and the injection that they steer.

Beside it what else masks say of A: the means of instances, averages over them, and which instance a place belongs to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stemseg.modeling.flow.layers import ZeroConv2d

# |log scale| never exceeds this, so a step stretches or shrinks at most 7.4 times
_LOG_SCALE_BOUND = 2.0


class ConditionEncoder(nn.Module):
    """Encodes each frame's instance masks as one feature map at the flow's resolution.

    Every mask goes through one shared network, a frame's instances are joined by a maximum, and a second network reads
    the result. So the number of instances is free, their order does not matter, and each frame is encoded on its own:
    p(A | masks) factorizes over frames. An empty mask always takes part in the maximum: a frame without instances has
    features too (and every weight a gradient), and an instance that is absent from a frame changes nothing there.

    Args:
        channels: C' of the condition.
        num_halvings: how often the resolution halves, from the masks' to the flow's (``MODEL.OFFSET.DOWN_SAMPLE``).
    """

    def __init__(self, channels: int, *, num_halvings: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(num_halvings):
            layers += [nn.Conv2d(channels, channels, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.per_instance = nn.Sequential(*layers)
        self.per_frame = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, masks: Sequence[Tensor]) -> Tensor:
        """Masks of N clips, each [I, T, h, w] with its own I -> c [N*T, C', h / 2^k, w / 2^k], clip after clip."""
        joined = torch.cat([self._encode_clip(clip_masks) for clip_masks in masks])  # [N * T, C', h / 2^k, w / 2^k]
        return self.per_frame(joined)

    def _encode_clip(self, masks: Tensor) -> Tensor:
        """[I, T, h, w] -> [T, C', h / 2^k, w / 2^k]."""
        num_instances, num_frames, height, width = masks.shape
        masks = masks.to(next(self.per_instance.parameters()).dtype)
        empty = masks.new_zeros(1, 1, height, width)
        features = self.per_instance(torch.cat([empty, masks.reshape(-1, 1, height, width)]))  # [1 + I * T, C', ., .]
        of_empty = features[:1].expand(1, num_frames, *features.shape[1:])  # [1, T, C', ., .]
        of_instances = features[1:].unflatten(0, (num_instances, num_frames))  # [I, T, C', ., .]
        return torch.cat([of_empty, of_instances]).amax(dim=0)


def paint_means(appearance: Tensor, masks: Tensor, *, of_other_frames: bool = False) -> Tensor:
    """Give every pixel of an instance the instance's mean appearance in the pixel's frame.

    Args:
        appearance: [A, T, h, w].
        masks: binary masks that do not overlap, [I, T, h, w].
        of_other_frames: the mean is over the pixels of all frames of the clip but the pixel's own.

    Returns:
        [A, T, h, w], 0 outside of the instances, and where an instance is visible in no other frame.
    """
    means, _ = instance_means(appearance, masks, of_other_frames=of_other_frames)
    return torch.einsum("ita,ithw->athw", means, masks.to(appearance.dtype))  # [A, T, h, w]


def instance_means(appearance: Tensor, masks: Tensor, *, of_other_frames: bool = False) -> tuple[Tensor, Tensor]:
    """Mean appearance of each instance in each frame, or in all frames but this one.

    Args:
        appearance: [A, T, h, w].
        masks: binary, [I, T, h, w].

    Returns:
        Means [I, T, A], 0 where there is no pixel, and where there are pixels, [I, T] bool.
    """
    masks = masks.to(appearance.dtype)
    sums = torch.einsum("ithw,athw->ita", masks, appearance)  # [I, T, A]
    areas = masks.sum(dim=(2, 3))[..., None]  # [I, T, 1]
    if of_other_frames:
        sums, areas = (x.sum(dim=1, keepdim=True) - x for x in (sums, areas))
    return sums / areas.clamp(min=1), areas[..., 0] > 0


def posterior_bits(scores: Tensor, weights: Tensor, known: Tensor) -> Tensor:
    """-log2 p(own instance | A), mean over the places of each instance; a frame counts where there are two hypotheses.

    Args:
        scores: [I, T, h, w], log p(A | instance) but for what is common to the instances.
        weights: [I, T, h, w], share of each instance in each place.
        known: [I, T] bool, whether the instance is seen in another frame, and so is a hypothesis.

    Returns:
        [G] for the instances that count.
    """
    frames = known.sum(dim=0) > 1  # [T]
    scores, weights, known = scores[:, frames], weights[:, frames], known[:, frames]
    unknown = ~known[..., None, None]
    log_posterior = torch.log_softmax(scores.masked_fill(unknown, -torch.inf), dim=0).masked_fill(unknown, 0)
    return instance_averages(-log_posterior, weights * ~unknown) / math.log(2)


def instance_averages(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of [I, T, h, w] over the places of each instance that has a weight: [G]."""
    totals = weights.sum(dim=(1, 2, 3))
    sums = (values * weights).sum(dim=(1, 2, 3))
    return sums[totals > 0] / totals[totals > 0]


class AffineInjection(nn.Module):
    """y = x * exp(s) + t with (s, t) = g1(c), (5.4); s and t see nothing of x, so all channels can change at once.

    Args:
        channels: C of x.
        condition_channels: channels of c.
        hidden_channels: width of g1's hidden layer.
    """

    def __init__(self, channels: int, *, condition_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(condition_channels, hidden_channels, 3, padding=1),
            nn.ReLU(inplace=True),
            ZeroConv2d(hidden_channels, 2 * channels),
        )

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        log_scale, shift = self._log_scale_and_shift(condition)
        return x * log_scale.exp() + shift, log_scale.sum(dim=1)

    def inverse(self, y: Tensor, condition: Tensor) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        log_scale, shift = self._log_scale_and_shift(condition)
        return (y - shift) * (-log_scale).exp()

    def _log_scale_and_shift(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        raw_scale, shift = self.net(condition).chunk(2, dim=1)
        return _LOG_SCALE_BOUND * torch.tanh(raw_scale / _LOG_SCALE_BOUND), shift
