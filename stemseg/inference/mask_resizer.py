"""From a label map at the network's scale to masks at the video's size (method.md §8.6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from stemseg.structures.rle import encode_rle

# Labels are a partition and bilinear weights sum to 1, so two masks can't both exceed one half; the margin keeps
# rounding from letting both sides of an exact tie in.
_HALF = np.float32(0.5 + 1e-6)


class MaskResizer:
    """Upsamples the mask of a label to the network's input, cuts the padding off and resizes it to the video's size.

    All three steps are linear and separable, so each axis has one sparse matrix (two or three entries a row), and a
    mask costs two products over the rectangle around it: nothing is made at full size but the result.

    Args:
        label_size: (H, W) of label maps.
        label_stride: pixels of the network's input per pixel of a label map: 4, or 1 with upsampled embeddings.
        network_size: (height, width) of the network's input without padding.
        video_size: (height, width) of the video.
    """

    def __init__(
        self,
        *,
        label_size: tuple[int, int],
        label_stride: int,
        network_size: tuple[int, int],
        video_size: tuple[int, int],
    ) -> None:
        self.video_size = video_size
        self._rows, self._columns = (
            _axis_matrix(*lengths, label_stride) for lengths in zip(label_size, network_size, video_size, strict=True)
        )

    def resize(self, labels: np.ndarray, label: int) -> np.ndarray:
        """Binary mask [height, width] uint8 of one label in a label map [H, W], at the video's size.

        It lies column by column in memory, as run-length encoding wants it.
        """
        mask = np.zeros(self.video_size, dtype=np.uint8, order="F")
        inside = labels == label
        top, bottom = _extent(inside.any(axis=1))
        left, right = _extent(inside.any(axis=0))
        rows, columns = self._rows[:, top:bottom], self._columns[:, left:right]
        y0, y1 = _extent(rows.sum(axis=1) > _HALF)
        x0, x1 = _extent(columns.sum(axis=1) > _HALF)
        box = inside[top:bottom, left:right].astype(np.float32)
        tall = rows[y0:y1] @ box  # [y, right - left]
        mask.T[x0:x1, y0:y1] = columns[x0:x1] @ np.ascontiguousarray(tall.T) > _HALF
        return mask

    def encode(self, labels: np.ndarray, wanted: Sequence[int]) -> dict[int, str]:
        """Compressed RLE counts of each wanted label that has pixels in the result."""
        present = set(np.unique(labels).tolist())
        masks = ((label, self.resize(labels, label)) for label in wanted if label in present)
        return {label: encode_rle(mask) for label, mask in masks if mask.any()}


def _axis_matrix(label_length: int, network_length: int, video_length: int, stride: int) -> csr_array:
    """[video, label] float32: how each pixel of the video mixes pixels of the label map, along one axis."""
    identity = torch.eye(label_length, dtype=torch.float64)[None]  # [1, label, label]
    upsampled = F.interpolate(identity, size=label_length * stride, mode="linear", align_corners=False)
    cut = upsampled[..., :network_length]  # [1, label, network]
    resized = F.interpolate(cut, size=video_length, mode="linear", align_corners=False)  # [1, label, video]
    return csr_array(resized[0].T.numpy().astype(np.float32))


def _extent(flags: np.ndarray) -> tuple[int, int]:
    """First set position and one behind the last; an empty range where none is set."""
    positions = np.flatnonzero(flags)
    return (int(positions[0]), int(positions[-1]) + 1) if positions.size else (0, 0)
