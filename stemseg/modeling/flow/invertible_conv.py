"""Invertible 1x1 convolutions: a learned square matrix that mixes the channels of every pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _ChannelMixing(nn.Module, ABC):
    """y = W x at every pixel; what W is made of is up to the subclass."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """W [C, C]."""

    @abstractmethod
    def log_abs_det(self) -> Tensor:
        """log |det W|, a scalar."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, C, h, w] -> (y [N, C, h, w], logdet [N, h, w])."""
        return F.conv2d(x, self.matrix()[:, :, None, None]), self.log_abs_det().expand(x[:, 0].shape)

    def inverse(self, y: Tensor) -> Tensor:
        """y [N, C, h, w] -> x [N, C, h, w]."""
        return F.conv2d(y, torch.linalg.inv(self.matrix())[:, :, None, None])


class InvertibleConv(_ChannelMixing):
    """W is one learned matrix, a random rotation at first (``CONV_LU: false``)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_random_rotation(channels)[:, :, None, None])

    def matrix(self) -> Tensor:
        return self.weight[:, :, 0, 0]

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.matrix()).logabsdet


class InvertibleConvLU(_ChannelMixing):
    """W = P L (U + diag(s)): its determinant is read off s, and it cannot become singular (``CONV_LU: true``).

    P (``w_p``) and the signs of s (``s_sign``) stay as they were drawn; L has ones on its diagonal;
    s = s_sign * exp(w_s). The masks ``l_mask``, ``u_mask`` and the identity ``l_eye`` are stored because published
    checkpoints hold them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(_random_rotation(channels))
        diagonal = upper.diagonal()
        above = torch.ones(channels, channels).triu(1)
        self.w_l = nn.Parameter(lower.tril(-1))
        self.w_s = nn.Parameter(diagonal.abs().log())
        self.w_u = nn.Parameter(upper.triu(1))
        self.register_buffer("w_p", permutation)
        self.register_buffer("u_mask", above)
        self.register_buffer("l_mask", above.t().contiguous())
        self.register_buffer("s_sign", diagonal.sign())
        self.register_buffer("l_eye", torch.eye(channels))

    def matrix(self) -> Tensor:
        lower = self.w_l * self.l_mask + self.l_eye
        upper = self.w_u * self.u_mask + torch.diag(self.s_sign * self.w_s.exp())
        return self.w_p @ lower @ upper

    def log_abs_det(self) -> Tensor:
        return self.w_s.sum()


def _random_rotation(channels: int) -> Tensor:
    return torch.linalg.qr(torch.randn(channels, channels)).Q
