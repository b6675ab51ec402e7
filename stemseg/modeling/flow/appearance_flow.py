"""The flow as a head of the network: the likelihood of an appearance embedding, given the instance masks.

Its loss is in bits per dimension, over whole frames or over the places of each instance (method.md §5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from stemseg.modeling.flow.condition import ConditionEncoder, paint_means
from stemseg.modeling.flow.dequantization import (
    FLOOR,
    ChannelStatistics,
    dequantize_uniform,
    pool_frames,
    quantize_floor,
    scale_gradient,
)
from stemseg.modeling.flow.glow import Glow
from stemseg.modeling.flow.layers import at_least_float32
from stemseg.utils.errors import StemsegError

T = TypeVar("T")
NONE, IDENTITY = "none", "identity"
FRAME, INSTANCE_PIXELS, INSTANCE_MEANS = "frame", "instance_pixels", "instance_means"


class AppearanceLikelihood(NamedTuple):
    """The flow's verdict on G items: the N*T frames of a batch, or its visible instances; D is an item's values.

    Attributes:
        bits_per_dimension: [G], of each item; their mean is the flow loss.
        log_p_per_dimension: [G], log-likelihood of the latents / D; None where it is not a flow's density that counts.
        logdet_per_dimension: [G], log-determinant / D, or None.
    """

    bits_per_dimension: Tensor
    log_p_per_dimension: Tensor | None
    logdet_per_dimension: Tensor | None


class AppearanceFlow(Glow):
    """p(A | condition) frame by frame (method.md §5); needed in training only.

    Args:
        channels: A, the number of appearance dimensions.
        num_halvings: 2x2 average poolings between A and the flow (``MODEL.OFFSET.DOWN_SAMPLE``).
        num_bits: of the quantization (``MODEL.OFFSET.N_BITS``).
        dequantization: "uniform", noise with the gradient passed through, or "floor", as released, without either.
        standardized: the flow sees A less its running mean, over its running deviation, so that A's scale wins no
            lasting likelihood (:class:`ChannelStatistics`); False as released.
        whitened: where it is standardized, without correlation of the channels too.
        gradient_scale: factor on the gradient that the likelihood sends to A; the flow itself is trained at full rate.
        condition: "masks": the instance masks of each frame; "identity": the same, and x is a pixel's difference to the
            mean A of its instance in the clip's other frames: p(A_t | masks, A of the other frames), a
            pseudo-likelihood that rewards an A that instances keep; "none", as released.
        condition_channels: channels that the masks are encoded as.
        more_condition_channels: channels of what a subclass adds to them.
        likelihood_of: "frame": of whole frames, as published; "instance_pixels": of the places of instances alone, each
            instance counting alike, and A is standardized over these; "instance_means": the same, of an A that is
            replaced by the instance's mean within the frame, so that structure inside of instances wins nothing.
        glow_options: what :class:`Glow` takes beside its channels.
    """

    needs_colors = False

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
        more_condition_channels: int = 0,
        likelihood_of: str = FRAME,
        **glow_options: Any,
    ) -> None:
        of_condition = 0 if condition == NONE else condition_channels + more_condition_channels
        super().__init__(channels, condition_channels=of_condition, **glow_options)
        self.num_halvings = num_halvings
        self.num_bits = num_bits
        self.dequantization = dequantization
        self.statistics = ChannelStatistics(channels, whitened=whitened) if standardized else None
        self.gradient_scale = gradient_scale
        self.condition = condition
        self.likelihood_of = likelihood_of
        self.condition_encoder = (
            None if condition == NONE else ConditionEncoder(condition_channels, num_halvings=num_halvings)
        )

    def flow_input(
        self, appearance: Tensor, masks: Sequence[Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """A [N, A, T, h, w] -> x [N*T, A, h / 2^k, w / 2^k] in [-0.5, 0.5), float32 at least.

        Rows and columns at the right and lower border that fill no cell of the flow's coarsest level are cut off. Given
        the identities, x is the difference to what the instance is like in the other frames, in (-1, 1).

        Args:
            masks: as in :meth:`likelihood`.
            generator: of the dequantization's noise.
        """
        with torch.autocast(device_type=appearance.device.type, enabled=False):
            appearance = self._standardize(appearance, masks)
            x = self._quantize(appearance, generator)
            if self.condition == IDENTITY:
                expected = paint_clips(torch.sigmoid(appearance) - 0.5, required(masks), of_other_frames=True)
                x = x - self._shrink(expected)
        return x

    def _standardize(self, appearance: Tensor, masks: Sequence[Tensor] | None) -> Tensor:
        """A [N, A, T, h, w] as the flow is to see it, float32 at least; in training its statistics are gathered."""
        appearance = scale_gradient(at_least_float32(appearance), self.gradient_scale)
        if self.likelihood_of == INSTANCE_MEANS:
            appearance = paint_clips(appearance, required(masks))
        if self.statistics is None:
            return appearance
        if self.training:
            frames = self._shrink(appearance)
            self.statistics.gather(frames, self._weights(masks, frames.shape[2:]))
        return self.statistics.standardization()(appearance)

    def _quantize(self, appearance: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[N, A, T, h, w] -> [N*T, A, h / 2^k, w / 2^k] in [-0.5, 0.5)."""
        squashed = torch.sigmoid(self._shrink(appearance))
        if self.dequantization == FLOOR:
            return quantize_floor(squashed, num_bits=self.num_bits)
        return dequantize_uniform(squashed, num_bits=self.num_bits, generator=generator)

    def finish_step(self) -> None:
        """Take in what was seen of A since the last optimizer step."""
        if self.statistics is not None:
            self.statistics.update()

    def likelihood(
        self, appearance: Tensor, masks: Sequence[Tensor] | None = None, colors: Tensor | None = None
    ) -> AppearanceLikelihood:
        """The likelihood of A.

        Args:
            appearance: [N, A, T, h, w], at quarter scale.
            masks: binary masks of each clip at the same scale, N tensors [I, T, h, w]; an unconditional likelihood of
                whole frames does without.
            colors: [N, 3, T, h, w] of the frames; only what sets ``needs_colors`` reads them.

        Raises:
            StemsegError: where masks are needed and there are none.
        """
        condition = None if self.condition_encoder is None else self._crop(self.condition_encoder(required(masks)))
        return self._likelihood(self.flow_input(appearance, masks), condition, masks)

    def _likelihood(self, x: Tensor, condition: Tensor | None, masks: Sequence[Tensor] | None) -> AppearanceLikelihood:
        """The likelihood of the flow's input [N*T, C, ., .] under the condition [N*T, C', ., .]."""
        output = self(x, condition)
        log_p, logdet, num_dims = output.log_p, output.logdet, x[0].numel()
        if self.likelihood_of != FRAME:
            size = output.log_p_map.shape[1:]
            weights = instance_weights(required(masks), num_halvings=self.num_halvings + 1, size=size)
            log_p, logdet = ((weights * m).sum(dim=(1, 2, 3)) for m in (output.log_p_map, output.logdet_map))
            num_dims = 4 * x.shape[1]  # of one place
        bits = bits_per_dimension(log_p, logdet, num_dims=num_dims, num_bits=self.num_bits)
        return AppearanceLikelihood(bits, log_p / num_dims, logdet / num_dims)

    @torch.no_grad()
    def rate_instances(self, appearance: Tensor, masks: Tensor) -> Tensor:
        """log p(A | masks) at the places of each instance of a clip, per dimension; the same noise in every call.

        Args:
            appearance: [A, T, h, w], at quarter scale.
            masks: binary, [I, T, h, w].

        Returns:
            [I], in nats; NaN for an instance that the flow's grid does not show.
        """
        noise = torch.Generator(appearance.device).manual_seed(0)
        x = self.flow_input(appearance[None], [masks], noise)
        output = self(x, None if self.condition_encoder is None else self._crop(self.condition_encoder([masks])))
        density = output.log_p_map + output.logdet_map  # [T, h', w']
        height, width = density.shape[1:]
        shares = F.avg_pool2d(masks.float(), 2 ** (self.num_halvings + 1))[:, :, :height, :width]  # [I, T, h', w']
        return (shares * density).sum(dim=(1, 2, 3)) / shares.sum(dim=(1, 2, 3)) / (4 * x.shape[1])

    def _weights(self, masks: Sequence[Tensor] | None, size: Sequence[int]) -> Tensor | None:
        """The weight of each place in the statistics of A, [N*T, *size]; None for all alike."""
        if self.likelihood_of == FRAME:
            return None
        return instance_weights(required(masks), num_halvings=self.num_halvings, size=size).sum(dim=0)

    def _shrink(self, appearance: Tensor) -> Tensor:
        """[N, A, T, h, w] -> [N*T, A, h / 2^k, w / 2^k], without the border that is cut off."""
        return self._crop(pool_frames(appearance, num_halvings=self.num_halvings))

    def _crop(self, x: Tensor) -> Tensor:
        cell = 2 ** len(self.blocks)
        height, width = x.shape[2] // cell * cell, x.shape[3] // cell * cell
        return x[:, :, :height, :width]


def required(value: T | None) -> T:
    """Masks or colors that a likelihood needs.

    Raises:
        StemsegError: where there are none.
    """
    if value is None:
        raise StemsegError("the likelihood needs the instance masks, or the colors, of every clip, but got none")
    return value


def paint_clips(appearance: Tensor, masks: Sequence[Tensor], **options: bool) -> Tensor:
    """:func:`paint_means` for each clip of [N, A, T, h, w]."""
    clips = [paint_means(a, m, **options) for a, m in zip(appearance, masks, strict=True)]  # N of [A, T, h, w]
    return torch.stack(clips)


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
