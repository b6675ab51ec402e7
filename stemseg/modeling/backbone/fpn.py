"""Feature pyramid network (METHOD section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.structures.network_output import FeaturePyramid


class FPN(nn.Module):
    """Brings the backbone's maps to one number of channels and adds context from coarser maps to finer ones.

    ``fpn_inner{1..4}`` are the 1x1 lateral convolutions, ``fpn_layer{1..4}`` the 3x3 output convolutions.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        for i, channels in enumerate(in_channels, start=1):
            self.add_module(f"fpn_inner{i}", nn.Conv2d(channels, out_channels, 1))
            self.add_module(f"fpn_layer{i}", nn.Conv2d(out_channels, out_channels, 3, padding=1))
        for conv in self.children():
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps: Sequence[Tensor]) -> FeaturePyramid:
        """Four maps [F, C_i, H/s, W/s], finest first -> [F, C, H/s, W/s]."""
        top_down = self.fpn_inner4(maps[3])
        outputs = [self.fpn_layer4(top_down)]
        for i in (3, 2, 1):
            lateral = self.get_submodule(f"fpn_inner{i}")(maps[i - 1])
            # bilinear where most implementations take the nearest pixel: published weights were trained like this
            top_down = lateral + F.interpolate(top_down, scale_factor=2.0, mode="bilinear", align_corners=False)
            outputs.append(self.get_submodule(f"fpn_layer{i}")(top_down))
        return FeaturePyramid(*reversed(outputs))
