"""Random changes of single frames: one warp for image, instances, ignore and validity region, then color and blur.

Everything is drawn from the generator that is passed in; no global random state is read or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from stemseg.data.annotated_frame import AnnotatedFrame

if TYPE_CHECKING:
    from imgaug.augmenters import Augmenter


_HUE_STEPS = 180  # of the full circle in OpenCV's 8-bit images


@dataclass(frozen=True)
class AugmentationRange:
    """Limits of the random changes of a frame.

    Attributes:
        perspective: standard deviation of the inward shift of each corner, as a share of the image's sides.
        translation: largest shift, as a share of the image's sides.
        rotation: largest angle, in degrees.
        brightness, hue, saturation: largest change of the HSV channels, each on a scale of 0 to 255.
        blur_probability: of motion blur.
        blur_kernels: its possible sizes, in pixels.
    """

    perspective: float
    translation: float
    rotation: float
    brightness: int = 40
    hue: int = 5
    saturation: int = 5
    blur_probability: float = 0.25
    blur_kernels: tuple[int, ...] = (9, 11)


class FrameAugmenter:
    """Applies one random warp, color change and blur to a frame."""

    def __init__(self, ranges: AugmentationRange) -> None:
        self._ranges = ranges

    def __call__(self, frame: AnnotatedFrame, rng: np.random.Generator) -> AnnotatedFrame:
        """A changed copy of ``frame``; ``rng`` decides how."""
        height, width = frame.image.shape[:2]
        warped = warp_frame(frame, self.sample_homography(height, width, rng))
        return AnnotatedFrame(self.change_colors(warped.image, rng), warped.ids, warped.ignore, warped.valid)

    def sample_homography(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """A random matrix [3, 3] that takes pixel positions (x, y, 1) of the image to those of the warped one."""
        r = self._ranges
        rotation: np.ndarray = cv2.getRotationMatrix2D(
            (width / 2, height / 2), rng.uniform(-r.rotation, r.rotation), 1.0
        )
        rotation[:, 2] += rng.uniform(-r.translation, r.translation, size=2) * (width, height)
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
        inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        shift = np.minimum(np.abs(rng.normal(0, r.perspective, size=(4, 2))), 0.4)
        moved = corners + inward * shift * (width, height)
        perspective = cv2.getPerspectiveTransform(moved.astype(np.float32), corners)
        return perspective @ np.vstack([rotation, (0, 0, 1)])

    def change_colors(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Random brightness, hue and saturation, and sometimes motion blur, of [H, W, 3] uint8."""
        r = self._ranges
        limits = (round(r.hue * _HUE_STEPS / 255), r.saturation, r.brightness)
        changed = shift_colors(image, *(int(rng.integers(-limit, limit, endpoint=True)) for limit in limits))
        if rng.random() >= r.blur_probability:
            return changed
        self._blur.seed_(int(rng.integers(2**31)))
        return self._blur(image=changed)

    @cached_property
    def _blur(self) -> Augmenter:
        """Motion blur of a random size, direction and strength."""
        from stemseg.data.imgaug_import import iaa  # takes a second: import it only where something is augmented

        # the seed is replaced before use; without one, imgaug would draw it from its global state
        return iaa.MotionBlur(k=list(self._ranges.blur_kernels), seed=0)


def shift_colors(image: np.ndarray, hue: int, saturation: int, brightness: int) -> np.ndarray:
    """Add to the HSV channels of an image [H, W, 3] uint8, B G R.

    The hue, of 180 steps, goes around; the others stop at 0 and 255.
    """
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    turned = ((np.arange(256) + hue) % _HUE_STEPS).astype(np.uint8)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), turned), hsv, 0)
    cv2.add(hsv, np.array((0, saturation, brightness, 0), dtype=np.float64), dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv)


def warp_frame(frame: AnnotatedFrame, homography: np.ndarray) -> AnnotatedFrame:
    """Warp all of a frame by one homography [3, 3].

    Beyond the image the instances and the ignore region end, ``valid`` is 0, and the image repeats its border, so that
    no foreign color bleeds in when it is resized later.
    """
    size = frame.image.shape[1::-1]
    valid = np.ones(frame.image.shape[:2], dtype=np.uint8) if frame.valid is None else frame.valid
    ignored = [] if frame.ignore is None else [frame.ignore]
    valid, *planes = _warp_planes([valid, *ignored, *frame.ids.layers], homography)
    ignore = planes.pop(0) if ignored else None
    image = cv2.cvtColor(frame.image, cv2.COLOR_BGR2BGRA)  # four channels take OpenCV less time than three
    image = cv2.warpPerspective(image, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return AnnotatedFrame(
        cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), replace(frame.ids, layers=tuple(planes)), ignore, valid
    )


def _warp_planes(planes: Sequence[np.ndarray], homography: np.ndarray) -> list[np.ndarray]:
    """Warp planes [H, W] uint8 without mixing their values, four at a time: finding the way is most of the work."""
    warped: list[np.ndarray] = []
    for i in range(0, len(planes), 4):
        group = list(planes[i : i + 4])
        if len(group) == 2:
            group.append(group[0])  # OpenCV takes twice as long for two as for three
        stacked = cv2.merge(group)
        size = (stacked.shape[1], stacked.shape[0])
        warped += cv2.split(cv2.warpPerspective(stacked, homography, size, flags=cv2.INTER_NEAREST))
    return warped[: len(planes)]
