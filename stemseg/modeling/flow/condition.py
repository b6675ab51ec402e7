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
        joined = torch.cat([self._encode_clip(clip_masks) for clip_masks in masks])
        return self.per_frame(joined)

    def _encode_clip(self, masks: Tensor) -> Tensor:
        """[I, T, h, w] -> [T, C', h / 2^k, w / 2^k]."""
        num_instances, num_frames, height, width = masks.shape
        masks = masks.to(self.per_instance[0].weight.dtype)
        empty = masks.new_zeros(1, 1, height, width)
        features = self.per_instance(torch.cat([empty, masks.reshape(-1, 1, height, width)]))
        of_empty, of_instances = features[:1], features[1:].unflatten(0, (num_instances, num_frames))
        return torch.cat([of_empty.expand(1, num_frames, *of_empty.shape[1:]), of_instances]).amax(dim=0)


def paint_means(appearance: Tensor, masks: Tensor, *, of_other_frames: bool = False) -> Tensor:
    """Give every pixel of an instance the instance's mean appearance in the pixel's frame.

    Args:
        appearance: [A, T, h, w].
        masks: binary masks that do not overlap, [I, T, h, w].
        of_other_frames: the mean is over the pixels of all frames of the clip but the pixel's own.

    Returns:
        [A, T, h, w], 0 outside of the instances, and where an instance is visible in no other frame.
    """
    masks = masks.to(appearance.dtype)
    sums = torch.einsum("ithw,athw->ita", masks, appearance)
    areas = masks.sum(dim=(2, 3))[..., None]  # [I, T, 1]
    if of_other_frames:
        sums, areas = (x.sum(dim=1, keepdim=True) - x for x in (sums, areas))
    return torch.einsum("ita,ithw->athw", sums / areas.clamp(min=1), masks)
