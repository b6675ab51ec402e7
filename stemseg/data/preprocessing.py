"""From an image in pixels to the network's input: resize, normalize, pad (method.md §1); shared with inference.

For training also the last steps of loading: from a raw clip to the tensors of a sample, and from samples to a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.data.annotated_frame import AnnotatedClip
from stemseg.data.images import resize_mask_into
from stemseg.structures.clip import Clip, ClipBatch, ClipTargets

SIZE_MULTIPLE = 32  # the coarsest feature map has stride 32


def resize_dims(height: int, width: int, min_dim: int, max_dim: int) -> tuple[int, int]:
    """(height, width) at which an image enters the network, (1.1).

    The shorter side becomes ``min_dim`` unless that makes the longer one exceed ``max_dim``, which then decides; of an
    image as thin as a line a side stays 1 pixel.
    """
    shorter, longer = min(height, width), max(height, width)
    scale = min_dim / shorter
    if longer * scale > max_dim:
        scale = max_dim / longer
    return max(1, round(scale * height)), max(1, round(scale * width))


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
    """Resizes and normalizes images; holds no state beside its settings.

    Args:
        min_dim, max_dim: see :func:`resize_dims`, in pixels.
        mean, std: of the B, G and R channel, in pixel values (0 to 255, or 0 to 1 with ``unit_scale``).
        unit_scale: divide pixel values by 255 before subtracting the mean.
        bgr_input: the network expects B, G, R; otherwise channels are flipped after normalization.
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
        # normalized value of each pixel value, one table per input channel
        self._tables = [((values - m) / s).astype(np.float32) for m, s in zip(mean, std, strict=True)]
        self._output_channel = (0, 1, 2) if bgr_input else (2, 1, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for an image of this size, before padding."""
        return resize_dims(height, width, self.min_dim, self.max_dim)

    def __call__(self, image: np.ndarray, multiple: int = 1) -> Tensor:
        """Prepare one image, [H, W, 3] uint8 B G R -> [3, h, w] float32, padded with zeros to a ``multiple``."""
        height, width = self.output_size(*image.shape[:2])
        output = np.zeros((3, *padded_dims(height, width, multiple)), dtype=np.float32)
        self.write(image, output[:, :height, :width])
        return torch.from_numpy(output)

    def write(self, image: np.ndarray, output: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Prepare one image into ``output`` [3, h, w] float32, whose size is the target size.

        Where ``valid`` [H, W] is 0, the image counts as zero after normalization, as padding does.
        """
        size = (output.shape[2], output.shape[1])
        for source, plane in enumerate(cv2.split(image)):
            # normalizing first changes nothing, interpolation is linear; it is cheaper on the smaller, byte-sized image
            normalized: np.ndarray = cv2.LUT(plane, self._tables[source])
            if valid is not None:
                normalized *= valid
            cv2.resize(normalized, size, dst=output[self._output_channel[source]], interpolation=cv2.INTER_LINEAR)

    def restore(self, frames: Tensor) -> np.ndarray:
        """Undo the normalization, to look at what the network sees: [T, 3, h, w] -> [T, h, w, 3] uint8, B G R."""
        channels = frames.float().cpu().numpy()[:, self._output_channel]  # [T, 3, h, w], B G R
        first, last = (np.array([table[i] for table in self._tables])[:, None, None] for i in (0, 255))
        values = (channels - first) * (255.0 / (last - first))
        return np.ascontiguousarray(values.clip(0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def build_preprocessor(cfg: Config, *, min_dim: int | None = None, max_dim: int | None = None) -> ImagePreprocessor:
    """The preprocessor of a configuration; ``min_dim`` or ``max_dim`` alone keeps the configured ratio of the two."""
    configured = cfg.INPUT
    if min_dim is None:
        ratio = configured.MIN_DIM / configured.MAX_DIM
        min_dim = configured.MIN_DIM if max_dim is None else max(1, round(max_dim * ratio))
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


def prepare_clip(clip: AnnotatedClip, preprocessor: ImagePreprocessor) -> Clip:
    """Resize and normalize a raw clip.

    Pixels that a warp took from outside the image become zero after normalization, like padding. They are background,
    not an ignore region: at inference the network meets the same zeros beside the image and must find nothing there.
    Instances without any pixel left in the clip are dropped.
    """
    height, width = preprocessor.output_size(*clip.frames[0].image.shape[:2])
    num_frames, num_instances = len(clip.frames), len(clip.category_ids)
    frames = np.empty((num_frames, 3, height, width), dtype=np.float32)
    masks = np.zeros((num_instances, num_frames, height, width), dtype=np.uint8)
    ignore = np.zeros((num_frames, height, width), dtype=np.uint8)
    visible = np.zeros(num_instances, dtype=bool)
    for t, frame in enumerate(clip.frames):
        preprocessor.write(frame.image, frames[t], frame.valid)
        for instance in frame.ids.places:
            visible[instance] |= resize_mask_into(frame.ids.mask(instance), masks[instance, t])
        if frame.ignore is not None:
            resize_mask_into(frame.ignore, ignore[t])
    categories = np.asarray(clip.category_ids, dtype=np.int64)[visible]
    kept_masks = masks if visible.all() else masks[visible]
    targets = ClipTargets(*(torch.from_numpy(array) for array in (kept_masks, categories, ignore)))
    return Clip(torch.from_numpy(frames), targets, clip.name)


def collate_clips(clips: Sequence[Clip]) -> ClipBatch:
    """Pad clips of any sizes right and bottom with zeros to the batch's largest, rounded up to a multiple of 32.

    Padding is background, not an ignore region: the network meets the same zeros at inference and must find nothing
    there.
    """
    sizes = [(clip.frames.shape[-2], clip.frames.shape[-1]) for clip in clips]
    height, width = padded_dims(max(h for h, _ in sizes), max(w for _, w in sizes))
    frames = torch.stack([pad_to(clip.frames, height, width) for clip in clips])  # [N, T, 3, H, W]
    return ClipBatch(frames, [_pad_targets(c.targets, height, width) for c in clips], sizes, [c.name for c in clips])


def _pad_targets(targets: ClipTargets, height: int, width: int) -> ClipTargets:
    return ClipTargets(
        masks=pad_to(targets.masks, height, width),
        category_ids=targets.category_ids,
        ignore_mask=pad_to(targets.ignore_mask, height, width),
    )
