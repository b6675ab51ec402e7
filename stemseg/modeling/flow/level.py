"""The steps and the levels that the flow is built from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stemseg.modeling.flow.actnorm import ActNorm
from stemseg.modeling.flow.coupling import AdditiveCoupling, AffineCoupling
from stemseg.modeling.flow.injection import AffineInjection
from stemseg.modeling.flow.invertible_conv import InvertibleConv, InvertibleConvLU
from stemseg.modeling.flow.priors import GaussianPrior
from stemseg.modeling.flow.squeeze import squeeze, unsqueeze


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
            x, change = self.injection(x, condition)
            logdet = logdet + change
        x, change = self.coupling(x, condition)
        return x, logdet + change

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> Tensor:
        """y [N, C, h, w], condition [N, C', h, w] -> x [N, C, h, w]."""
        y = self.coupling.inverse(y, condition)
        if self.injection is not None:
            y = self.injection.inverse(y, condition)
        return self.actnorm.inverse(self.invconv.inverse(y))


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

    def __init__(self, in_channels: int, *, num_steps: int, split: bool, **step_options: bool | int) -> None:
        super().__init__()
        channels = 4 * in_channels
        self.split = split
        self.latent_channels = channels // 2 if split else channels
        self.flows = nn.ModuleList(FlowStep(channels, **step_options) for _ in range(num_steps))
        self.prior = GaussianPrior(self.latent_channels, self.latent_channels)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [N, C, 2h, 2w], condition [N, C', h, w] -> (rest for the next level, latent, log_p, logdet [N, h, w])."""
        x = squeeze(x)
        logdet = x.new_zeros(x[:, 0].shape)
        for step in self.flows:
            x, change = step(x, condition)
            logdet = logdet + change
        rest, latent = x.chunk(2, dim=1) if self.split else (x, x)
        return rest, latent, self.prior.log_prob(latent, self._prior_context(rest)), logdet

    def inverse(self, rest: Tensor | None, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """The next level's inverse (None for the last level) and this level's latent -> x [N, C, 2h, 2w]."""
        y = torch.cat([rest, latent], dim=1) if self.split else latent
        for step in reversed(self.flows):
            y = step.inverse(y, condition)
        return unsqueeze(y)

    def latent_from_noise(self, rest: Tensor | None, noise: Tensor) -> Tensor:
        """A draw of this level's latent from its prior, [N, C, h, w], made from standard normal noise of that shape."""
        return self.prior.transform(noise, self._prior_context(noise if rest is None else rest))

    def _prior_context(self, rest: Tensor) -> Tensor:
        return rest if self.split else torch.zeros_like(rest)
