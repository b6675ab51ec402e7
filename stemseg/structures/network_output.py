"""The network's output for a batch of clips, and the feature maps between its parts; in training and inference."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FeaturePyramid(NamedTuple):
    """Feature maps of single frames [F, C, H/s, W/s], or of clips [N, C, T, H/s, W/s], at strides s = 4, 8, 16, 32."""

    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride32: Tensor


class NetworkOutput(NamedTuple):
    """Maps of N clips at quarter scale, h = H/4, w = W/4.

    Attributes:
        embedding: [N, E, T, h, w] offsets plus coordinates (plus appearance, where the model has it).
        raw_bandwidth: [N, B, T, h, w] before 10 * exp(.), one channel for each dimension that is not free.
        seediness: [N, 1, T, h, w] in [0, 1], high near instance centers in the embedding space.
        class_logits: [N, K, T, h, w], class 0 is the background; None without a semantic head.
        foreground_logits: [N, 1, T, h, w]; None without a foreground channel.
        appearance: [N, A, T, h, w], the appearance embedding before mixing; None without USE_OFFSET_HEAD.
    """

    embedding: Tensor
    raw_bandwidth: Tensor
    seediness: Tensor
    class_logits: Tensor | None = None
    foreground_logits: Tensor | None = None
    appearance: Tensor | None = None
