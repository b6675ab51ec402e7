"""From an image in pixels to the network's input: resize, normalise, pad (METHOD section 1). Shared with inference."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config

SIZE_MULTIPLE = 32  # the coarsest feature map has stride 32


def resize_dims(height: int, width: int, min_dim: int, max_dim: int) -> tuple[int, int]:
    """(height, width) at which an image enters the network.

    The shorter side becomes ``min_dim`` unless that makes the longer one exceed ``max_dim``, which then decides.
    """
    shorter, longer = min(height, width), max(height, width)
    scale = min_dim / shorter
    if longer * scale > max_dim:
        scale = max_dim / longer
    return round(scale * height), round(scale * width)


def padded_dims(height: int, width: int, multiple: int = SIZE_MULTIPLE) -> tuple[int, int]:
    """The next (height, width) that are multiples of ``multiple``."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def pad_to_multiple(frames: Tensor, multiple: int = SIZE_MULTIPLE) -> Tensor:
    """Pad the last two dimensions [..., H, W] with zeros, right and bottom, to the next multiple."""
    return pad_to(frames, *padded_dims(frames.shape[-2], frames.shape[-1], multiple))


def pad_to(frames: Tensor, height: int, width: int) -> Tensor:
    """Pad the last two dimensions [..., H, W] with zeros, right and bottom, to ``height`` and ``width``."""
    if frames.shape[-2:] == (height, width):
        return frames
    padded = frames.new_zeros((*frames.shape[:-2], height, width))
    padded[..., : frames.shape[-2], : frames.shape[-1]] = frames
    return padded


class ImagePreprocessor:
    """Resizes and normalises images; holds no state beside its settings.

    Args:
        min_dim, max_dim: see :func:`resize_dims`, in pixels.
        mean, std: of the B, G and R channel, in pixel values (0 to 255, or 0 to 1 with ``unit_scale``).
        unit_scale: divide pixel values by 255 before subtracting the mean.
        bgr_input: the network expects B, G, R; otherwise channels are flipped after normalisation.
    """

    def __init__(
        self,
        *,
        min_dim: int,
        max_dim: int,
        mean: Sequence[float],
        std: Sequence[float],
        unit_scale: bool = False,
        bgr_input: bool = True,
    ) -> None:
        self.min_dim = min_dim
        self.max_dim = max_dim
        values = np.arange(256, dtype=np.float32) / (255.0 if unit_scale else 1.0)
        # normalised value of each pixel value, one table per input channel
        self._tables = [((values - m) / s).astype(np.float32) for m, s in zip(mean, std, strict=True)]
        self._output_channel = (0, 1, 2) if bgr_input else (2, 1, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for an image of this size, before padding."""
        return resize_dims(height, width, self.min_dim, self.max_dim)

    def __call__(self, image: np.ndarray) -> Tensor:
        """Prepare one image, [H, W, 3] uint8 B G R -> [3, h, w] float32."""
        height, width = self.output_size(*image.shape[:2])
        output = np.empty((3, height, width), dtype=np.float32)
        self.write(image, output)
        return torch.from_numpy(output)

    def write(self, image: np.ndarray, output: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Prepare one image into ``output`` [3, h, w] float32, whose size is the target size.

        Where ``valid`` [H, W] is 0, the image counts as zero after normalisation, as padding does.
        """
        size = (output.shape[2], output.shape[1])
        for source, plane in enumerate(cv2.split(image)):
            # normalising first changes nothing, interpolation is linear; it is cheaper on the smaller, byte-sized image
            normalised = cv2.LUT(plane, self._tables[source])
            if valid is not None:
                normalised *= valid
            cv2.resize(normalised, size, dst=output[self._output_channel[source]], interpolation=cv2.INTER_LINEAR)

    def restore(self, frames: Tensor) -> np.ndarray:
        """Undo the normalisation, to look at what the network sees: [T, 3, h, w] -> [T, h, w, 3] uint8, B G R."""
        channels = frames.float().cpu().numpy()[:, self._output_channel]
        first, last = (np.array([table[i] for table in self._tables])[:, None, None] for i in (0, 255))
        values = (channels - first) * (255.0 / (last - first))
        return np.ascontiguousarray(values.clip(0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def build_preprocessor(cfg: Config, *, min_dim: int | None = None, max_dim: int | None = None) -> ImagePreprocessor:
    """The preprocessor of a configuration; ``min_dim`` or ``max_dim`` alone keeps the configured ratio of the two."""
    configured = cfg.INPUT
    if min_dim is None:
        min_dim = configured.MIN_DIM if max_dim is None else round(max_dim * configured.MIN_DIM / configured.MAX_DIM)
    if max_dim is None:
        max_dim = round(min_dim * configured.MAX_DIM / configured.MIN_DIM)
    return ImagePreprocessor(
        min_dim=min_dim,
        max_dim=max_dim,
        mean=configured.IMAGE_MEAN,
        std=configured.IMAGE_STD,
        unit_scale=configured.NORMALIZE_TO_UNIT_SCALE,
        bgr_input=configured.BGR_INPUT,
    )
