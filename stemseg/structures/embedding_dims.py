"""The meaning of the letters of ``EMBEDDING_DIM_MODE`` (method.md §4)."""

from __future__ import annotations

import re
from typing import NamedTuple

from stemseg.utils.errors import ConfigError

# two dimensions without coordinates; up to four free ones behind (y, x); any number behind (t, y, x)
_SUPPORTED = re.compile(r"ff|xyf{0,4}|xytf*")


class EmbeddingDims(NamedTuple):
    """The dimensions of an embedding, in channel order: coordinates first, then the rest.

    Attributes:
        coordinates: the coordinate axes in channel order: ``()``, ``("y", "x")`` or ``("t", "y", "x")``.
        size: E, the number of embedding channels.
    """

    coordinates: tuple[str, ...]
    size: int

    @property
    def num_free(self) -> int:
        """Dimensions beside coordinates, of constant bandwidth; none in "ff", where every bandwidth is learned."""
        return self.size - len(self.coordinates) if self.coordinates else 0

    @property
    def num_bandwidths(self) -> int:
        """B, the number of learned bandwidth channels."""
        return self.size - self.num_free


def parse_dim_mode(mode: str) -> EmbeddingDims:
    """Translate an ``EMBEDDING_DIM_MODE`` such as "xyff" into its dimensions.

    Raises:
        ConfigError: where the mode is none of ff, xy, xyf, xyff, xyfff, xyffff, xyt, xytf, xytff, ...
    """
    if _SUPPORTED.fullmatch(mode) is None:
        raise ConfigError(
            f"EMBEDDING_DIM_MODE is '{mode}': expected 'ff', 'xy' with up to four 'f' behind it, "
            "or 'xyt' with any number of 'f' behind it"
        )
    return EmbeddingDims(tuple(axis for axis in "tyx" if axis in mode), len(mode))
