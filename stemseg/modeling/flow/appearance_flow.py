"""The flow as a head of the network: the likelihood of an appearance embedding, given the instance masks.

Its loss is in bits per dimension, over whole frames or over the places of each instance (method.md §5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.config import Config
from stemseg.modeling.flow.condition import ConditionEncoder, paint_means
from stemseg.modeling.flow.dequantization import (
    FLOOR,
    dequantize_uniform,
    fit_standardization,
    pool_frames,
    quantize_floor,
    scale_gradient,
)
from stemseg.modeling.flow.glow import Glow
from stemseg.modeling.flow.layers import at_least_float32
from stemseg.utils.errors import StemsegError

NONE, IDENTITY = "none", "identity"
FRAME, INSTANCE_PIXELS, INSTANCE_MEANS = "frame", "instance_pixels", "instance_means"


class AppearanceLikelihood(NamedTuple):
    """The flow's verdict on G items: the N*T frames of a batch, or its visible instances; D is an item's values.

    Attributes:
        bits_per_dimension: [G], of each item; their mean is the flow loss.
        log_p_per_dimension: [G], log-likelihood of the latents / D.
        logdet_per_dimension: [G], log-determinant / D.
    """

    bits_per_dimension: Tensor
    log_p_per_dimension: Tensor
    logdet_per_dimension: Tensor


class AppearanceFlow(Glow):
    """p(A | condition) frame by frame (method.md §5); needed in training only.

    Args:
        channels: A, the number of appearance dimensions.
        num_halvings: 2x2 average poolings between A and the flow (``MODEL.OFFSET.DOWN_SAMPLE``).
        num_bits: of the quantization (``MODEL.OFFSET.N_BITS``).
        dequantization: "uniform", noise with the gradient passed through, or "floor", as released, without either.
        standardized: the flow sees A with mean 0 and variance 1 per channel, so that shrinking A wins no likelihood;
            False as released.
        whitened: where it is standardized, without correlation of the channels too.
        gradient_scale: factor on the gradient that the likelihood sends to A; the flow itself is trained at full rate.
        condition: "masks": the instance masks of each frame; "identity": the same, and x is a pixel's difference to the
            mean A of its instance in the clip's other frames: p(A_t | masks, A of the other frames), a
            pseudo-likelihood that rewards an A that instances keep; "none", as released.
        condition_channels: channels that the condition is encoded as.
        likelihood_of: "frame": of whole frames, as published; "instance_pixels": of the places of instances alone, each
            instance counting alike, and A is standardized over these; "instance_means": the same, of an A that is
            replaced by the instance's mean within the frame, so that structure inside of instances wins nothing.
        glow_options: what :class:`Glow` takes beside its channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_halvings: int = 2,
        num_bits: int = 5,
        dequantization: str = "uniform",
        standardized: bool = True,
        whitened: bool = False,
        gradient_scale: float = 1.0,
        condition: str = NONE,
        condition_channels: int = 32,
        likelihood_of: str = FRAME,
        **glow_options: Any,
    ) -> None:
        super().__init__(channels, condition_channels=0 if condition == NONE else condition_channels, **glow_options)
        self.num_halvings = num_halvings
        self.num_bits = num_bits
        self.dequantization = dequantization
        self.standardized = standardized
        self.whitened = whitened
        self.gradient_scale = gradient_scale
        self.condition = condition
        self.likelihood_of = likelihood_of
        self.condition_encoder = (
            None if condition == NONE else ConditionEncoder(condition_channels, num_halvings=num_halvings)
        )

    def flow_input(self, appearance: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """A [N, A, T, h, w] -> x [N*T, A, h / 2^k, w / 2^k] in [-0.5, 0.5), float32 at least.

        Rows and columns at the right and lower border that fill no cell of the flow's coarsest level are cut off. Given
        the identities, x is the difference to what the instance is like in the other frames, in (-1, 1).

        Args:
            masks: as in :meth:`likelihood`.
        """
        with torch.autocast(device_type=appearance.device.type, enabled=False):
            appearance = scale_gradient(at_least_float32(appearance), self.gradient_scale)
            if self.likelihood_of == INSTANCE_MEANS:
                appearance = _paint_clips(appearance, _required(masks))
            if self.standardized:
                frames = self._shrink(appearance)
                weights = self._weights(masks, frames.shape[2:])
                appearance = fit_standardization(frames, weights, whitened=self.whitened)(appearance)
            quantize = quantize_floor if self.dequantization == FLOOR else dequantize_uniform
            x = quantize(torch.sigmoid(self._shrink(appearance)), num_bits=self.num_bits)
            if self.condition == IDENTITY:
                expected = _paint_clips(torch.sigmoid(appearance) - 0.5, _required(masks), of_other_frames=True)
                x = x - self._shrink(expected)
        return x

    def likelihood(self, appearance: Tensor, masks: Sequence[Tensor] | None = None) -> AppearanceLikelihood:
        """The likelihood of A.

        Args:
            appearance: [N, A, T, h, w], at quarter scale.
            masks: binary masks of each clip at the same scale, N tensors [I, T, h, w]; an unconditional likelihood of
                whole frames does without.

        Raises:
            StemsegError: where masks are needed and there are none.
        """
        x = self.flow_input(appearance, masks)
        condition = None if self.condition_encoder is None else self._crop(self.condition_encoder(_required(masks)))
        output = self(x, condition)
        log_p, logdet, num_dims = output.log_p, output.logdet, x[0].numel()
        if self.likelihood_of != FRAME:
            size = output.log_p_map.shape[1:]
            weights = instance_weights(_required(masks), num_halvings=self.num_halvings + 1, size=size)
            log_p, logdet = ((weights * m).sum(dim=(1, 2, 3)) for m in (output.log_p_map, output.logdet_map))
            num_dims = 4 * x.shape[1]  # of one place
        bits = bits_per_dimension(log_p, logdet, num_dims=num_dims, num_bits=self.num_bits)
        return AppearanceLikelihood(bits, log_p / num_dims, logdet / num_dims)

    def _weights(self, masks: Sequence[Tensor] | None, size: Sequence[int]) -> Tensor | None:
        """The weight of each place in the statistics of A, [N*T, *size]; None for all alike."""
        if self.likelihood_of == FRAME:
            return None
        weights = instance_weights(_required(masks), num_halvings=self.num_halvings, size=size)
        return weights.mean(dim=0) if len(weights) else None

    def _shrink(self, appearance: Tensor) -> Tensor:
        """[N, A, T, h, w] -> [N*T, A, h / 2^k, w / 2^k], without the border that is cut off."""
        return self._crop(pool_frames(appearance, num_halvings=self.num_halvings))

    def _crop(self, x: Tensor) -> Tensor:
        cell = 2 ** len(self.blocks)
        height, width = x.shape[2] // cell * cell, x.shape[3] // cell * cell
        return x[:, :, :height, :width]


def _required(masks: Sequence[Tensor] | None) -> Sequence[Tensor]:
    if masks is None:
        raise StemsegError("the likelihood needs the instance masks of every clip, but got none")
    return masks


def _paint_clips(appearance: Tensor, masks: Sequence[Tensor], **options: bool) -> Tensor:
    """:func:`paint_means` for each clip of [N, A, T, h, w]."""
    clips = [paint_means(a, m, **options) for a, m in zip(appearance, masks, strict=True)]  # N of [A, T, h, w]
    return torch.stack(clips)


def build_appearance_flow(cfg: Config) -> AppearanceFlow | None:
    """The flow of ``MODEL.OFFSET``; None without ``MODEL.USE_OFFSET_HEAD``."""
    if not cfg.MODEL.USE_OFFSET_HEAD:
        return None
    section = cfg.MODEL.OFFSET
    return AppearanceFlow(
        len(cfg.MODEL.GLOW_DIM_MODE),
        num_halvings=section.DOWN_SAMPLE,
        num_bits=section.N_BITS,
        dequantization=section.DEQUANTISATION,
        standardized=section.STANDARDISE,
        whitened=section.WHITEN,
        gradient_scale=section.GRADIENT_SCALE,
        condition=section.CONDITION,
        condition_channels=section.CONDITION_CHANNELS,
        likelihood_of=section.LIKELIHOOD,
        num_steps=section.N_FLOW,
        num_levels=section.N_BLOCK,
        affine=section.AFFINE,
        conv_lu=section.CONV_LU,
        hidden_channels=section.HIDDEN_CHANNELS,
    )


def bits_per_dimension(log_p: Tensor, logdet: Tensor, *, num_dims: int, num_bits: int) -> Tensor:
    """(log(2^num_bits) * D - log_p - logdet) / (D * log 2), (5.6): bits that a quantized value costs, [N].

    0 would be a perfect prediction, ``num_bits`` is what a uniform density costs. It may be negative where the input is
    not really dequantized, and is to be left so.

    Args:
        log_p: [N] log-likelihood of the latents.
        logdet: [N] log-determinant of the flow.
        num_dims: D, the number of values of one item.
        num_bits: of the quantization of the flow's input.
    """
    return (num_bits * math.log(2) * num_dims - log_p - logdet) / (num_dims * math.log(2))


def instance_weights(masks: Sequence[Tensor], *, num_halvings: int, size: Sequence[int]) -> Tensor:
    """The share of each instance in each place of a coarser grid; an instance's weights add up to 1.

    Args:
        masks: binary masks of N clips, each [I, T, h, w] with its own I.
        num_halvings: k, how often the grid's resolution is half of the masks'.
        size: rows and columns of the grid, the upper left ones of [h / 2^k, w / 2^k].

    Returns:
        [G, N * T, *size] float32 for the G instances of all clips that are visible in the grid; G may be 0.
    """
    num_frames = [clip.shape[1] for clip in masks]
    areas = []
    for i, clip in enumerate(masks):
        shrunk = F.avg_pool2d(clip.float(), 2**num_halvings)[:, :, : size[0], : size[1]]
        areas.append(F.pad(shrunk, (0, 0, 0, 0, sum(num_frames[:i]), sum(num_frames[i + 1 :]))))
    joined = torch.cat(areas)  # [instances of all clips, N * T, *size]
    total = joined.sum(dim=(1, 2, 3), keepdim=True)
    visible = total[:, 0, 0, 0] > 0
    return joined[visible] / total[visible]
