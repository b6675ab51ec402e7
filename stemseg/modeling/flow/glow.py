"""The flow (method.md §5) and what it is built from: levels of steps, and the Gaussian prior of each level's latent.

Exact log-likelihood (5.5), exact inverse, sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemseg.modeling.flow.condition import AffineInjection
from stemseg.modeling.flow.layers import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    InvertibleConv,
    InvertibleConvLU,
    ZeroConv2d,
    at_least_float32,
    check_squeezable,
    squeeze,
    unsqueeze,
)
from stemseg.utils.errors import StemsegError


class FlowOutput(NamedTuple):
    """Latents and likelihood of x [N, C, h, w]; both maps have the first level's places, of 2x2 pixels of x each.

    Attributes:
        log_p_map: [N, h/2, w/2] each place's term of the log-likelihood of the latents under their priors.
        logdet_map: [N, h/2, w/2] each place's term of log |det dz/dx|.
        latents: z of each level, first level first: [N, 2C, h/2, w/2], ..., the last one [N, 4C', h/2^L, w/2^L].
    """

    log_p_map: Tensor
    logdet_map: Tensor
    latents: list[Tensor]

    @property
    def log_p(self) -> Tensor:
        """[N] log-likelihood of the latents under their priors."""
        return self.log_p_map.sum(dim=(1, 2))

    @property
    def logdet(self) -> Tensor:
        """[N] log |det dz/dx|; log_p + logdet is the log-likelihood of x."""
        return self.logdet_map.sum(dim=(1, 2))


class Glow(nn.Module):
    """f: x -> z of L levels of K steps each (method.md §5). Runs in float32 under mixed precision.

    Args:
        in_channels: C of x.
        num_steps: K, steps per level.
        num_levels: L.
        affine: affine couplings; else additive ones.
        conv_lu: LU form of the 1x1 convolutions. The last level has it in any case, as in published checkpoints.
        hidden_channels: width of the couplings' networks.
        condition_channels: channels of the condition; 0 builds the unconditional flow.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_steps: int = 32,
        num_levels: int = 1,
        affine: bool = False,
        conv_lu: bool = False,
        hidden_channels: int = 512,
        condition_channels: int = 0,
    ) -> None:
        super().__init__()
        self.condition_channels = condition_channels
        levels = [
            FlowLevel(
                in_channels * 2**level,
                num_steps=num_steps,
                split=level < num_levels - 1,
                affine=affine,
                conv_lu=conv_lu or level == num_levels - 1,
                hidden_channels=hidden_channels,
                condition_channels=condition_channels,
            )
            for level in range(num_levels)
        ]
        self.blocks = cast(Sequence[FlowLevel], nn.ModuleList(levels))  # whose own type forgets what is in it

    def forward(self, x: Tensor, condition: Tensor | None = None) -> FlowOutput:
        """Latents and log-likelihood of x [N, C, h, w], given the condition [N, C', h, w] of a conditional flow.

        Raises:
            StemsegError: where h or w is no multiple of 2^L, or the condition is missing, superfluous or misshapen.
        """
        check_squeezable(x.shape[2], x.shape[3], times=len(self.blocks))
        self._check_condition(condition, (x.shape[0], self.condition_channels, *x.shape[2:]))
        with torch.autocast(device_type=x.device.type, enabled=False):
            rest = at_least_float32(x)
            latents: list[Tensor] = []
            log_p: list[Tensor] = []
            logdet: list[Tensor] = []
            for level, level_condition in zip(self.blocks, self._pyramid(condition), strict=True):
                rest, latent, *terms = level(rest, level_condition)
                for maps, term in zip((log_p, logdet), terms, strict=True):
                    maps.append(_spread_over_places(term, num_halvings=len(maps)))
                latents.append(latent)
        log_p_map, logdet_map = (torch.stack(maps).sum(dim=0) for maps in (log_p, logdet))  # of [L, N, h/2, w/2]
        return FlowOutput(log_p_map, logdet_map, latents)

    def inverse(self, latents: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        """x [N, C, h, w] whose latents these are, given the same condition."""
        return self._assemble(latents, condition, latent_of=lambda level, rest, latent: latent)

    @torch.no_grad()
    def sample(self, noise: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        """A draw of x [N, C, h, w] from the flow's density, made from what :meth:`draw_noise` returns."""
        return self._assemble(noise, condition, latent_of=FlowLevel.latent_from_noise)

    def _assemble(
        self,
        values: Sequence[Tensor],
        condition: Tensor | None,
        latent_of: Callable[[FlowLevel, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """x from one tensor per level, last level first; ``latent_of`` says what latent each tensor stands for."""
        num_items, _, height, width = values[0].shape
        self._check_condition(condition, (num_items, self.condition_channels, 2 * height, 2 * width))
        with torch.autocast(device_type=values[0].device.type, enabled=False):
            conditions = self._pyramid(condition)
            x = at_least_float32(values[-1])  # the last level keeps everything: what it passes on is its latent
            for level, value, level_condition in reversed(list(zip(self.blocks, values, conditions, strict=True))):
                x = level.inverse(x, latent_of(level, x, at_least_float32(value)), level_condition)
        return x

    def draw_noise(
        self,
        num_items: int,
        height: int,
        width: int,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """Standard normal noise times the temperature for ``num_items`` samples of this size, on the flow's device.

        Raises:
            StemsegError: where height or width is no multiple of 2^L.
        """
        check_squeezable(height, width, times=len(self.blocks))
        like = self.blocks[0].prior.scale
        sizes = [(num_items, b.latent_channels, height >> i, width >> i) for i, b in enumerate(self.blocks, start=1)]
        return [temperature * torch.randn(s, generator=generator, device=like.device, dtype=like.dtype) for s in sizes]

    def _check_condition(self, condition: Tensor | None, expected: tuple[int, ...]) -> None:
        if self.condition_channels == 0 and condition is not None:
            raise StemsegError("the flow is unconditional, but got a condition; build it with condition_channels")
        if self.condition_channels and (condition is None or tuple(condition.shape) != expected):
            found = "none" if condition is None else f"{tuple(condition.shape)}"
            raise StemsegError(f"the flow expects a condition of shape {expected}, but got {found}")

    def _pyramid(self, condition: Tensor | None) -> list[Tensor | None]:
        """The condition at each level's resolution: half of x's for the first, and so on."""
        if condition is None:
            return [None] * len(self.blocks)
        levels: list[Tensor | None] = []
        condition = at_least_float32(condition)
        for _ in self.blocks:
            condition = F.avg_pool2d(condition, 2)
            levels.append(condition)
        return levels


def _spread_over_places(terms: Tensor, *, num_halvings: int) -> Tensor:
    """Share each place's term among the 4^k finer places that it covers: [N, h, w] -> [N, h * 2^k, w * 2^k]."""
    factor = 2**num_halvings
    finer = terms.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)  # [N, h * 2^k, w * 2^k]
    return finer / factor**2


class FlowStep(nn.Module):
    """ActNorm, invertible 1x1 convolution, affine injection (where there is a condition), coupling.

    Args:
        channels: C, even.
        affine: affine couplings; else additive ones.
        conv_lu: the 1x1 convolution in its LU form.
        hidden_channels: width of the coupling's network.
        condition_channels: channels of c; 0 for an unconditional step, which has no injection.
    """

    def __init__(
        self, channels: int, *, affine: bool, conv_lu: bool, hidden_channels: int, condition_channels: int
    ) -> None:
        super().__init__()
        coupling = AffineCoupling if affine else AdditiveCoupling
        self.actnorm = ActNorm(channels)
        self.invconv = InvertibleConvLU(channels) if conv_lu else InvertibleConv(channels)
        self.injection = _build_injection(channels, condition_channels) if condition_channels else None
        self.coupling = coupling(channels, hidden_channels=hidden_channels, condition_channels=condition_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w], condition [N, C', h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        x, logdet = self.actnorm(x)
        x, change = self.invconv(x)
        logdet = logdet + change
        if self.injection is not None:
            x, change = self.injection(x, _required(condition))
            logdet = logdet + change
        x, change = self.coupling(x, condition)
        return x, logdet + change

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        y = self.coupling.inverse(y, condition)
        if self.injection is not None:
            y = self.injection.inverse(y, _required(condition))
        return self.actnorm.inverse(self.invconv.inverse(y))


def _required(condition: Tensor | None) -> Tensor:
    if condition is None:
        raise StemsegError("a conditional flow step got no condition")
    return condition


def _build_injection(channels: int, condition_channels: int) -> AffineInjection:
    return AffineInjection(channels, condition_channels=condition_channels, hidden_channels=2 * condition_channels)


class FlowLevel(nn.Module):
    """Squeeze, K steps, and, but for the last level, a split: half of the channels leaves as this level's latent.

    The prior of the latent that leaves depends on the half that stays; the last level's on nothing.

    Args:
        in_channels: C before squeezing.
        num_steps: K.
        split: False for the last level, which keeps everything as its latent.
        step_options: what :class:`FlowStep` takes beside its channels.
    """

    def __init__(self, in_channels: int, *, num_steps: int, split: bool, **step_options: Any) -> None:
        super().__init__()
        channels = 4 * in_channels
        self.split = split
        self.latent_channels = channels // 2 if split else channels
        steps = [FlowStep(channels, **step_options) for _ in range(num_steps)]
        self.flows = cast(Sequence[FlowStep], nn.ModuleList(steps))
        self.prior = GaussianPrior(self.latent_channels, self.latent_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [N, C, 2h, 2w], condition [N, C', h, w] -> (rest for the next level, latent, log_p, logdet [N, h, w])."""
        x = squeeze(x)  # [N, 4C, h, w]
        logdet = x.new_zeros(x[:, 0].shape)
        for step in self.flows:
            x, change = step(x, condition)
            logdet = logdet + change
        rest, latent = x.chunk(2, dim=1) if self.split else (x, x)
        return rest, latent, self.prior.log_prob(latent, self._prior_context(rest)), logdet

    def inverse(self, rest: Tensor, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """The next level's inverse (for the last level: the latent) and this level's latent -> x [N, C, 2h, 2w]."""
        y = torch.cat([rest, latent], dim=1) if self.split else latent  # [N, 4C, h, w]
        for step in reversed(self.flows):
            y = step.inverse(y, condition)
        return unsqueeze(y)

    def latent_from_noise(self, rest: Tensor, noise: Tensor) -> Tensor:
        """A draw of this level's latent from its prior, [N, C, h, w], made from standard normal noise of that shape."""
        return self.prior.transform(noise, self._prior_context(rest))

    def _prior_context(self, rest: Tensor) -> Tensor:
        return rest if self.split else torch.zeros_like(rest)


class GaussianPrior(ZeroConv2d):
    """p(z | context): a convolution of the context gives mean and log deviation of every value; N(0, 1) at first."""

    def __init__(self, context_channels: int, latent_channels: int) -> None:
        super().__init__(context_channels, 2 * latent_channels)

    def log_prob(self, z: Tensor, context: Tensor) -> Tensor:
        """log p(z | context) of each place: z [N, C, h, w], context [N, C', h, w] -> [N, h, w]."""
        mean, log_std = self(context).chunk(2, dim=1)
        normalized = (z - mean) * torch.exp(-log_std)
        per_value = -0.5 * (math.log(2 * math.pi) + normalized.square()) - log_std
        return per_value.sum(dim=1)

    def transform(self, noise: Tensor, context: Tensor) -> Tensor:
        """Turn standard normal noise [N, C, h, w] into a draw from p(z | context)."""
        mean, log_std = self(context).chunk(2, dim=1)
        return mean + noise * log_std.exp()
