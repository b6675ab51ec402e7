"""The condition encoder: from the ground-truth masks of a clip to the features c that condition the flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConditionEncoder(nn.Module):
    """Encodes each frame's instance masks as one feature map at the flow's resolution.

    Every mask goes through one shared network, a frame's instances are joined by a maximum, and a second network reads
    the result. So the number of instances is free, their order does not matter, and each frame is encoded on its own:
    p(A | masks) factorises over frames. An empty mask always takes part in the maximum: a frame without instances has
    features too (and every weight a gradient), and an instance that is absent from a frame changes nothing there.

    Args:
        channels: C' of the condition.
        num_halvings: how often the resolution halves, from the masks' to the flow's (``MODEL.OFFSET.DOWN_SAMPLE``).
        identity_channels: K, numbers that describe an instance beside its mask in each frame.
    """

    def __init__(self, channels: int, *, num_halvings: int = 2, identity_channels: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1 + identity_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(num_halvings):
            layers += [nn.Conv2d(channels, channels, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.per_instance = nn.Sequential(*layers)
        self.per_frame = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, masks: Sequence[Tensor], identities: Sequence[Tensor] | None = None) -> Tensor:
        """The condition of each frame.

        Args:
            masks: of N clips, each [I, T, h, w] with its own I.
            identities: of the same instances, each [I, T, K]; None where K is 0.

        Returns:
            c [N*T, C', h / 2^k, w / 2^k], clip after clip.
        """
        planes = [clip.to(self.per_instance[0].weight.dtype)[:, :, None] for clip in masks]  # [I, T, 1, h, w]
        if identities is not None:
            painted = [p * values[..., None, None] for p, values in zip(planes, identities, strict=True)]
            planes = [torch.cat(pair, dim=2) for pair in zip(planes, painted, strict=True)]
        return self.per_frame(torch.cat([self._encode_clip(clip) for clip in planes]))

    def _encode_clip(self, planes: Tensor) -> Tensor:
        """[I, T, 1 + K, h, w] -> [T, C', h / 2^k, w / 2^k]."""
        num_instances, num_frames = planes.shape[:2]
        empty = planes.new_zeros(1, *planes.shape[2:])
        features = self.per_instance(torch.cat([empty, planes.flatten(0, 1)]))
        of_empty, of_instances = features[:1], features[1:].unflatten(0, (num_instances, num_frames))
        return torch.cat([of_empty.expand(1, num_frames, *of_empty.shape[1:]), of_instances]).amax(dim=0)


def means_in_other_frames(appearance: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The mean appearance of each instance over its pixels in all frames of a clip but one, for each of them.

    Args:
        appearance: [A, T, h, w].
        masks: [I, T, h, w].

    Returns:
        means [I, T, A], 0 where an instance is in no other frame, and whether it is in any: [I, T, 1], 0 or 1.
    """
    masks = masks.to(appearance.dtype)
    sums = torch.einsum("ithw,athw->ita", masks, appearance)
    areas = masks.sum(dim=(2, 3))[..., None]  # [I, T, 1]
    sums, areas = (x.sum(dim=1, keepdim=True) - x for x in (sums, areas))
    known = (areas > 0).to(sums.dtype)
    return known * sums / areas.clamp(min=1), known
