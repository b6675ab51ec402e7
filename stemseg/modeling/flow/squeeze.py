"""Squeezing: every 2x2 block of pixels becomes one pixel of four times the channels. A reordering, so logdet is 0."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stemseg.utils.errors import StemsegError


def squeeze(x: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, 4C, h/2, w/2]; channel 4c + 2i + j holds row i, column j of the blocks of channel c.

    Raises:
        StemsegError: where h or w is odd.
    """
    check_squeezable(x.shape[2], x.shape[3], times=1)
    return F.pixel_unshuffle(x, 2)


def unsqueeze(y: Tensor) -> Tensor:
    """[N, 4C, h, w] -> [N, C, 2h, 2w], the inverse of :func:`squeeze`."""
    return F.pixel_shuffle(y, 2)


def check_squeezable(height: int, width: int, *, times: int) -> None:
    """Refuse a map that cannot be halved ``times`` times.

    Raises:
        StemsegError: naming the size and the multiple that it must be.
    """
    multiple = 2**times
    if height % multiple or width % multiple or not height or not width:
        raise StemsegError(
            f"the flow got a map of {height} x {width}, but halving it {times} time(s) needs multiples of {multiple}; "
            "lower MODEL.OFFSET.N_BLOCK, or crop or pad the map"
        )
