"""From an image in pixels to the network's input: resize, normalize, pad (method.md §1); shared with inference.

For training also the last steps of loading: a raw clip is packed, clips are collated to a batch, and the device makes
the network's input of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.data.annotated_frame import AnnotatedClip
from stemseg.data.images import resize_ids, resize_planes
from stemseg.structures.clip import ABSENT, Clip, ClipBatch, PackedTargets

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
    height, width = padded_dims(frames.shape[-2], frames.shape[-1], multiple)
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
        self._unit = 255.0 if unit_scale else 1.0
        self._mean, self._std = tuple(mean), tuple(std)
        values = np.arange(256, dtype=np.float32) / self._unit
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

    def on_device(self, images: Tensor, device: torch.device, multiple: int = 1) -> Tensor:
        """Prepare images of one size where the network is; they travel there as bytes, while the host goes on.

        Args:
            images: [F, H, W, 3] uint8, B G R, on the host.
            device: of the network.
            multiple: of what height and width are padded to, with zeros.

        Returns:
            [F, 3, h, w] float32 on ``device``.
        """
        there = (images.pin_memory() if device.type == "cuda" else images).to(device, non_blocking=True)
        height, width = self.output_size(images.shape[1], images.shape[2])
        prepared = torch.zeros((len(images), 3, *padded_dims(height, width, multiple)), device=device)
        self.write_clip(there, prepared[..., :height, :width])
        return prepared

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

    def write_clip(self, frames: Tensor, output: Tensor, valid: Tensor | None = None) -> None:
        """Prepare a clip on the device that it is on: by OpenCV on a CPU, which takes an eighth of PyTorch's time.

        Args:
            frames: [T, H, W, 3] uint8, B G R.
            output: [T, 3, h, w] float32, whose size is the target size; may be a part of a larger tensor.
            valid: [T, H, W] uint8, see :meth:`write`.
        """
        if frames.device.type == "cpu":
            for t, (image, prepared) in enumerate(zip(frames.numpy(), output.numpy(), strict=True)):
                self.write(image, prepared, None if valid is None else valid[t].numpy())
            return
        output.copy_(resize_planes(self.normalize(frames, valid), *output.shape[-2:]))

    def normalize(self, frames: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalize a clip without resizing it, [T, H, W, 3] uint8 -> [T, 3, H, W] float32, on any device."""
        planes = frames.permute(0, 3, 1, 2).float() / self._unit
        for channel, (mean, std) in enumerate(zip(self._mean, self._std, strict=True)):
            planes[:, channel].sub_(mean).div_(std)
        planes = planes[:, self._output_channel]
        return planes if valid is None else planes * valid[:, None]

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


@dataclass(frozen=True)
class PackedClip:
    """A training sample between its files and the device: bytes, from which the device makes the network's input.

    Attributes:
        frames: [T, H, W, 3] uint8, B G R, at the images' own size.
        valid: [T, H, W] uint8, 0 where pixels count as zero after normalization; None where all are valid.
        targets: ground truth at the network's size.
        size: (height, width) at which the clip enters the network.
        name: where the clip comes from, for pictures and error messages, e.g. "davis/bear 3,5,8".
        preprocessor: resizes and normalizes the frames.
    """

    frames: Tensor
    valid: Tensor | None
    targets: PackedTargets
    size: tuple[int, int]
    name: str
    preprocessor: ImagePreprocessor

    def unpack(self) -> Clip:
        """The sample without padding."""
        frames = torch.empty((len(self.frames), 3, *self.size), device=self.frames.device)
        self.preprocessor.write_clip(self.frames, frames, self.valid)
        return Clip(frames, self.targets.unpack(*self.size), self.name)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedClip:
        """The same clip on another device."""
        return self._mapped(lambda part: part.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedClip:
        """The same clip in page-locked memory."""
        return self._mapped(lambda part: part.pin_memory())

    def _mapped(self, change: Callable[[Any], Any]) -> PackedClip:
        valid = None if self.valid is None else change(self.valid)
        return replace(self, frames=change(self.frames), valid=valid, targets=change(self.targets))


@dataclass(frozen=True)
class PackedBatch:
    """Clips of one forward pass, packed; nothing is copied before they are on the device."""

    clips: list[PackedClip]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """Resize, normalize and pad on the device, all at once: every value of the batch is written a single time.

        Clips of any sizes are padded right and bottom with zeros to the largest, rounded up to a multiple of 32.
        Padding is background, not an ignore region: the network meets the same zeros at inference and must find nothing
        there.
        """
        sizes = [clip.size for clip in self.clips]
        height, width = padded_dims(max(h for h, _ in sizes), max(w for _, w in sizes))
        shape = (len(sizes), len(self.clips[0].frames), 3, height, width)
        frames, targets = torch.zeros(shape, device=device), []
        for clip, output in zip(self.clips, frames, strict=True):
            moved = clip.to(device, non_blocking)
            inner = output[..., : clip.size[0], : clip.size[1]]
            clip.preprocessor.write_clip(moved.frames, inner, moved.valid)
            targets.append(moved.targets.unpack(height, width))
        return ClipBatch(frames, targets, sizes, [clip.name for clip in self.clips])

    def pin_memory(self) -> PackedBatch:
        """The same batch in page-locked memory (called by the data loader)."""
        return PackedBatch([clip.pin_memory() for clip in self.clips])


def collate_clips(clips: Sequence[PackedClip]) -> PackedBatch:
    """Clips of any sizes as one batch."""
    return PackedBatch(list(clips))


def prepare_clip(clip: AnnotatedClip, preprocessor: ImagePreprocessor) -> PackedClip:
    """Stack a raw clip's frames, and bring its ground truth to the network's size.

    Pixels that a warp took from outside the image become zero after normalization, like padding. They are background,
    not an ignore region: at inference the network meets the same zeros beside the image and must find nothing there.
    Instances without any pixel left in the clip are dropped.
    """
    frames = clip.frames
    size = preprocessor.output_size(*frames[0].image.shape[:2])
    return PackedClip(
        frames=torch.from_numpy(np.stack([frame.image for frame in frames])),
        valid=_stack_known([frame.valid for frame in frames], elsewhere=1),
        targets=_pack_targets(clip, size),
        size=size,
        name=clip.name,
        preprocessor=preprocessor,
    )


def _stack_known(planes: Sequence[np.ndarray | None], *, elsewhere: int) -> Tensor | None:
    """Planes [T, H, W], those that are None filled with a value; None where all are."""
    known = next((plane for plane in planes if plane is not None), None)
    if known is None:
        return None
    filled = np.full_like(known, elsewhere)
    return torch.from_numpy(np.stack([filled if plane is None else plane for plane in planes]))


def _pack_targets(clip: AnnotatedClip, size: tuple[int, int]) -> PackedTargets:
    num_frames, num_instances = len(clip.frames), len(clip.category_ids)
    num_layers = max(len(frame.ids.layers) for frame in clip.frames)
    layers = np.zeros((num_layers, num_frames, *size), dtype=np.uint8)
    values = np.full((num_layers, num_instances, num_frames), ABSENT, dtype=np.uint8)
    visible = np.zeros(num_instances, dtype=bool)
    for t, frame in enumerate(clip.frames):
        for layer, resized in zip(frame.ids.layers, layers[:, t], strict=False):
            resize_ids(layer, resized)
        for instance, place in frame.ids.places.items():
            values[place.layer, instance, t] = place.value
            visible[instance] = visible[instance] or (layers[place.layer, t] == place.value).any()
    return PackedTargets(
        layers=torch.from_numpy(layers),
        values=torch.from_numpy(values[:, visible]),
        category_ids=torch.from_numpy(np.asarray(clip.category_ids, dtype=np.int64)[visible]),
        ignore_mask=_resize_ignored(clip, size),
    )


def _resize_ignored(clip: AnnotatedClip, size: tuple[int, int]) -> Tensor | None:
    if all(frame.ignore is None for frame in clip.frames):
        return None
    ignored = np.zeros((len(clip.frames), *size), dtype=np.uint8)
    for frame, output in zip(clip.frames, ignored, strict=True):
        if frame.ignore is not None:
            resize_ids(frame.ignore, output)
    return torch.from_numpy(ignored)
