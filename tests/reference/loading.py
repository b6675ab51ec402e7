"""Loading of training samples written plainly: float images, one full-size resize and one warp per instance mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stemseg.data.augmentation import FrameAugmenter
from stemseg.structures.annotations import StillImage, VideoSequence
from stemseg.structures.rle import decode_rle


def load_video_clip(
    sequence: VideoSequence, frame_indices: Sequence[int], image_dir: Path, size: tuple[int, int], mean: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Frames [T, 3, h, w] float32 and the masks [I, T, h, w] uint8 of a sequence's instances, by ascending id."""
    frames, masks = [], []
    for t in frame_indices:
        image = cv2.imread(str(image_dir / sequence.image_paths[t])).astype(np.float32)
        frames.append(_resize(image.transpose(2, 0, 1) - mean[:, None, None], size))
        masks.append(torch.stack([_resize_mask(_decoded(sequence, t, i), size) for i in sorted(sequence.categories)]))
    return torch.stack(frames), torch.stack(masks, dim=1)


def load_still_clip(
    still: StillImage,
    image_dir: Path,
    num_frames: int,
    size: tuple[int, int],
    mean: np.ndarray,
    augmenter: FrameAugmenter,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """A still as T frames: every instance mask and the validity region warped alone, colors changed one by one."""
    image = cv2.imread(str(image_dir / still.image_path))
    instances = [decode_rle(counts, still.height, still.width) for counts in still.segmentations]
    frames, masks = [], []
    for t in range(num_frames):
        frame, warped, valid = image, instances, np.ones(image.shape[:2], dtype=np.float32)
        if t > 0:
            homography = augmenter.sample_homography(*image.shape[:2], rng)
            frame = _change_colors(_warp(image.astype(np.float32), homography), int(rng.integers(2**31)))
            warped = [_warp(mask.astype(np.float32), homography) > 0.5 for mask in instances]
            valid = (_warp(valid, homography) > 0.5).astype(np.float32)
        normalized = (frame.astype(np.float32).transpose(2, 0, 1) - mean[:, None, None]) * valid
        frames.append(_resize(normalized, size))
        masks.append(torch.stack([_resize_mask(mask, size) for mask in warped]))
    return torch.stack(frames), torch.stack(masks, dim=1)


def _decoded(sequence: VideoSequence, t: int, instance: int) -> np.ndarray:
    counts = sequence.segmentations[t].get(instance)
    size = (sequence.height, sequence.width)
    return np.zeros(size, dtype=np.uint8) if counts is None else decode_rle(counts, *size)


def _resize(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    batch = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
    return functional.interpolate(batch, size, mode="bilinear", align_corners=False)[0]


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> Tensor:
    return (_resize(mask[None], size)[0] > 0.5).to(torch.uint8)


def _warp(image: np.ndarray, homography: np.ndarray) -> np.ndarray:
    return cv2.warpPerspective(image, homography, image.shape[1::-1], flags=cv2.INTER_LINEAR)


def _change_colors(image: np.ndarray, seed: int) -> np.ndarray:
    from stemseg.data.imgaug_import import iaa

    steps = [
        iaa.AddToBrightness((-40, 40), from_colorspace="BGR", seed=seed),
        iaa.AddToHueAndSaturation((-5, 5), from_colorspace="BGR", seed=seed),
        iaa.Sometimes(0.25, iaa.MotionBlur(k=[9, 11], seed=seed), seed=seed),
    ]
    return iaa.Sequential(steps, seed=seed)(image=np.clip(image, 0, 255).astype(np.uint8))
