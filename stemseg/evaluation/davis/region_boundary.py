"""Region similarity J and boundary accuracy F of one frame, for all its objects at once.

J is the Jaccard index of two masks. F is the F-measure of their boundary pixels, a pixel counting as found where the
other boundary lies within 0.8 % of the image diagonal (Perazzi et al., CVPR 2016). Boundaries follow the official
code to the pixel: a boundary pixel differs from its right, lower or lower right neighbor, borders repeat.

All objects of a frame are treated together: bit i of a pixel's word says whether the pixel belongs to object i (or to
its boundary, or to its dilated boundary), so that one shift or one OR works on up to 64 objects.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_BOUND_TOLERANCE = 0.008  # of the image diagonal
_WORDS: tuple[np.dtype, ...] = tuple(np.dtype(f"uint{width}") for width in (8, 16, 32, 64))  # that hold objects as bits


class PairScores(NamedTuple):
    """J and F of each prediction with each ground-truth object of a frame, both [P, G] float64 in [0, 1]."""

    region: np.ndarray
    boundary: np.ndarray


def pair_scores(prediction: np.ndarray, truth: np.ndarray, num_predictions: int, num_objects: int) -> PairScores:
    """Compare every predicted with every true object of one frame.

    Args:
        prediction, truth: id maps [H, W] of unsigned integers; 0 is background, objects count from 1. Void pixels
            must be 0 in both.
        num_predictions, num_objects: P and G; ids above them must not occur.

    Returns:
        J and F; both are 1 where neither mask has a pixel, and 0 where only one has.
    """
    tolerance = math.ceil(_BOUND_TOLERANCE * math.hypot(*truth.shape))
    prediction, truth = _crop(prediction, truth)
    return PairScores(
        _region_scores(prediction, truth, num_predictions, num_objects),
        _boundary_scores(
            _boundaries(_to_bits(prediction, num_predictions)), _boundaries(_to_bits(truth, num_objects)), tolerance
        )[:num_predictions, :num_objects],
    )


def _crop(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both maps cut to the box around all objects and one pixel more, which leaves every boundary as it was."""
    occupied = prediction | truth
    box = []
    for axis in (1, 0):
        inside = np.flatnonzero(occupied.any(axis=axis))
        box.append(slice(max(inside[0] - 1, 0), inside[-1] + 2) if inside.size else slice(0, 1))
    return prediction[tuple(box)], truth[tuple(box)]


def _region_scores(prediction: np.ndarray, truth: np.ndarray, num_predictions: int, num_objects: int) -> np.ndarray:
    joint = prediction.astype(np.int32) * (num_objects + 1) + truth
    counts = np.bincount(joint.ravel(), minlength=(num_predictions + 1) * (num_objects + 1))
    counts = counts.reshape(num_predictions + 1, num_objects + 1)  # [P + 1, G + 1], background first
    intersections = counts[1:, 1:]
    unions = counts.sum(axis=1)[1:, None] + counts.sum(axis=0)[None, 1:] - intersections
    return np.divide(intersections, unions, out=np.ones(unions.shape), where=unions > 0)


def _to_bits(id_map: np.ndarray, num_objects: int) -> np.ndarray:
    """Membership of each pixel as bits, [L, H, W], object i in bit (i - 1) % width of layer (i - 1) // width."""
    dtype = next((t for t in _WORDS if num_objects <= 8 * t.itemsize), _WORDS[-1])
    width = 8 * dtype.itemsize
    offsets = 1 + width * np.arange(max(1, -(-num_objects // width)))  # one layer, where the narrow types suffice
    # NumPy shifts to 0 by the width or more, and an unsigned difference below 0 is huge: other layers, background
    return np.left_shift(dtype.type(1), id_map.astype(dtype) - offsets.astype(dtype)[:, None, None])


def _boundaries(bits: np.ndarray) -> np.ndarray:
    """Boundary pixels of each object, as bits, [L, H, W]."""
    padded = np.pad(bits, ((0, 0), (0, 1), (0, 1)), mode="edge")
    right, lower, diagonal = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (bits ^ right) | (bits ^ lower) | (bits ^ diagonal)


def _dilate(bits: np.ndarray, radius: int) -> np.ndarray:
    """Bits that are set anywhere within ``radius`` pixels (Euclidean, a disk), [L, H, W].

    A disk is a stack of horizontal runs: the runs are widened pixel by pixel, and each width is ORed into the rows at
    the heights where the disk is that wide.
    """
    height, width = bits.shape[1:]
    half_widths = [math.isqrt(radius * radius - dy * dy) for dy in range(radius + 1)]
    widened, dilated = bits.copy(), np.zeros_like(bits)
    for half_width in range(radius + 1):
        if 0 < half_width < width:
            widened[:, :, half_width:] |= bits[:, :, : width - half_width]
            widened[:, :, : width - half_width] |= bits[:, :, half_width:]
        for dy in (dy for dy, wide in enumerate(half_widths) if wide == half_width and dy < height):
            dilated[:, dy:] |= widened[:, : height - dy]
            if dy:
                dilated[:, : height - dy] |= widened[:, dy:]
    return dilated


def _boundary_scores(prediction: np.ndarray, truth: np.ndarray, tolerance: int) -> np.ndarray:
    """F-measure of all pairs of boundaries, given as bits; [P', G'] with P' and G' rounded up to whole words."""
    matched_prediction, num_prediction = _matches(prediction, _dilate(truth, tolerance))
    matched_truth, num_truth = _matches(truth, _dilate(prediction, tolerance))
    empty_prediction, empty_truth = num_prediction[:, None] == 0, num_truth[None, :] == 0
    # nothing predicted: precision 1; nothing there: recall 1; both: F is 1, one of the two: F is 0
    precision = np.where(empty_prediction, 1.0, matched_prediction / np.maximum(num_prediction[:, None], 1))
    recall = np.where(empty_truth, 1.0, matched_truth.T / np.maximum(num_truth[None, :], 1))
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros(total.shape), where=total > 0)


def _matches(boundary: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each boundary that lie in each other mask, [A, B], and pixels of each boundary, [A]."""
    places = np.flatnonzero(boundary.any(axis=0))
    own, other = (_unpack(words.reshape(len(words), -1)[:, places]) for words in (boundary, others))  # [n, A], [n, B]
    return (own.T @ other).astype(np.float64), own.sum(axis=0, dtype=np.float64)


def _unpack(words: np.ndarray) -> np.ndarray:
    """Bits of [L, n] words as 0 and 1, [n, L * bits per word]; float32 is exact for counts below 2^24."""
    little_endian = np.ascontiguousarray(words.T).astype(words.dtype.newbyteorder("<"), copy=False)
    return np.unpackbits(little_endian.view(np.uint8), axis=1, bitorder="little").astype(np.float32)
