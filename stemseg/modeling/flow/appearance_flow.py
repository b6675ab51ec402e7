"""The flow as a head of the network: how likely an appearance embedding is, given the instance masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.modeling.flow.condition import ConditionEncoder
from stemseg.modeling.flow.dequantisation import (
    FLOOR,
    dequantise_uniform,
    pool_frames,
    quantise_floor,
    scale_gradient,
    standardise,
)
from stemseg.modeling.flow.flow import Glow
from stemseg.modeling.flow.likelihood import bits_per_dimension
from stemseg.utils.errors import StemsegError


class AppearanceLikelihood(NamedTuple):
    """What the flow says of the N*T frames of a batch, each [N*T]; D is the number of values of a frame.

    Attributes:
        bits_per_dimension: of each frame; their mean is the flow loss.
        log_p_per_dimension: log-likelihood of the latents / D.
        logdet_per_dimension: log-determinant / D.
    """

    bits_per_dimension: Tensor
    log_p_per_dimension: Tensor
    logdet_per_dimension: Tensor


class AppearanceFlow(Glow):
    """p(A | masks) frame by frame (METHOD section 5); needed in training only.

    Args:
        channels: A, the number of appearance dimensions.
        num_halvings: 2x2 average poolings between A and the flow (``MODEL.OFFSET.DOWN_SAMPLE``).
        num_bits: of the quantisation (``MODEL.OFFSET.N_BITS``).
        dequantisation: "uniform", noise with the gradient passed through, or "floor", as released, without either.
        standardised: the flow sees A with mean 0 and variance 1 per channel, so that shrinking A wins no likelihood;
            False as released.
        gradient_scale: factor on the gradient that the likelihood sends to A; the flow itself is trained at full rate.
        condition_channels: channels that the masks are encoded as; 0 for the unconditional flow, as released.
        glow_options: what :class:`Glow` takes beside its channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_halvings: int = 2,
        num_bits: int = 5,
        dequantisation: str = "uniform",
        standardised: bool = True,
        gradient_scale: float = 1.0,
        condition_channels: int = 0,
        **glow_options: int | bool,
    ) -> None:
        super().__init__(channels, condition_channels=condition_channels, **glow_options)
        self.num_halvings = num_halvings
        self.num_bits = num_bits
        self.dequantisation = dequantisation
        self.standardised = standardised
        self.gradient_scale = gradient_scale
        self.condition_encoder = (
            ConditionEncoder(condition_channels, num_halvings=num_halvings) if condition_channels else None
        )

    def flow_input(self, appearance: Tensor) -> Tensor:
        """A [N, A, T, h, w] -> x [N*T, A, h / 2^k, w / 2^k] in [-0.5, 0.5), float32 at least.

        Rows and columns at the right and lower border that fill no cell of the flow's coarsest level are cut off.
        """
        with torch.autocast(device_type=appearance.device.type, enabled=False):
            appearance = scale_gradient(appearance, self.gradient_scale)
            frames = self._crop(pool_frames(appearance, num_halvings=self.num_halvings))
            squashed = torch.sigmoid(standardise(frames) if self.standardised else frames)
            quantise = quantise_floor if self.dequantisation == FLOOR else dequantise_uniform
            return quantise(squashed, num_bits=self.num_bits)

    def likelihood(self, appearance: Tensor, masks: Sequence[Tensor] | None = None) -> AppearanceLikelihood:
        """How likely A is.

        Args:
            appearance: [N, A, T, h, w], at quarter scale.
            masks: binary masks of each clip at the same scale, N tensors [I, T, h, w]; read by a conditional flow only.

        Raises:
            StemsegError: where a conditional flow gets no masks.
        """
        x = self.flow_input(appearance)
        output = self(x, self._condition(masks))
        num_dims = x[0].numel()
        bits = bits_per_dimension(output.log_p, output.logdet, num_dims=num_dims, num_bits=self.num_bits)
        return AppearanceLikelihood(bits, output.log_p / num_dims, output.logdet / num_dims)

    def _condition(self, masks: Sequence[Tensor] | None) -> Tensor | None:
        if self.condition_encoder is None:
            return None
        if masks is None:
            raise StemsegError("the conditional flow needs the instance masks of every clip, but got none")
        return self._crop(self.condition_encoder(masks))

    def _crop(self, x: Tensor) -> Tensor:
        cell = 2 ** len(self.blocks)
        height, width = x.shape[2] // cell * cell, x.shape[3] // cell * cell
        return x[:, :, :height, :width]


def build_appearance_flow(cfg: Config) -> AppearanceFlow | None:
    """The flow of ``MODEL.OFFSET``; None without ``MODEL.USE_OFFSET_HEAD``."""
    if not cfg.MODEL.USE_OFFSET_HEAD:
        return None
    section = cfg.MODEL.OFFSET
    return AppearanceFlow(
        len(cfg.MODEL.GLOW_DIM_MODE),
        num_halvings=section.DOWN_SAMPLE,
        num_bits=section.N_BITS,
        dequantisation=section.DEQUANTISATION,
        standardised=section.STANDARDISE,
        gradient_scale=section.GRADIENT_SCALE,
        condition_channels=section.CONDITION_CHANNELS if section.CONDITION == "masks" else 0,
        num_steps=section.N_FLOW,
        num_levels=section.N_BLOCK,
        affine=section.AFFINE,
        conv_lu=section.CONV_LU,
        hidden_channels=section.HIDDEN_CHANNELS,
    )
