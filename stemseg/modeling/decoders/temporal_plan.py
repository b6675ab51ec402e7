"""How a decoder shrinks and grows the time axis for each supported clip length (METHOD section 3)."""

from __future__ import annotations

from typing import NamedTuple

from stemseg.utils.errors import ConfigError


class TemporalPlan(NamedTuple):
    """Attributes:
    num_pools: how many of the three pooling places halve the time axis, counted from the first.
    upsampling: factors of the time axis for the steps 32 -> 16, 16 -> 8, 8 -> 4.
    """

    num_pools: int
    upsampling: tuple[int, int, int]


_PLANS = {
    2: TemporalPlan(0, (1, 1, 1)),
    4: TemporalPlan(1, (1, 1, 2)),
    8: TemporalPlan(2, (1, 2, 2)),
    16: TemporalPlan(3, (2, 2, 2)),
    24: TemporalPlan(3, (2, 2, 2)),
    32: TemporalPlan(3, (2, 2, 2)),
}


def temporal_plan(num_frames: int) -> TemporalPlan:
    """The plan for clips of ``num_frames``.

    Raises:
        ConfigError: where no decoder for that length exists.
    """
    if num_frames not in _PLANS:
        raise ConfigError(
            f"INPUT.NUM_FRAMES is {num_frames}: the decoders exist for {', '.join(map(str, _PLANS))} frames"
        )
    return _PLANS[num_frames]
