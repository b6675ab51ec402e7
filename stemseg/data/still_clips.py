"""Clips from still images: the image and warped copies of it, in random order (method.md §10)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from stemseg.data.annotated_frame import AnnotatedClip, AnnotatedFrame, pack_masks
from stemseg.data.augmentation import FrameAugmenter
from stemseg.data.categories import CategoryRule
from stemseg.data.images import decode_mask, read_image
from stemseg.data.sources import OpenedStills
from stemseg.structures.annotations import StillImage
from stemseg.structures.rle import rle_area
from stemseg.utils.errors import DataError


class StillClips:
    """Makes training clips of the stills that show at least one instance that is trained.

    Args:
        name: of the dataset, for clip names.
        stills: its annotations and image folder.
        rule: which categories are trained, and the limits on instances.
        num_frames: T.
        augmenter: warps the copies.

    Raises:
        DataError: where a category is unknown, or no image shows an instance that is trained.
    """

    def __init__(
        self, *, name: str, stills: OpenedStills, rule: CategoryRule, num_frames: int, augmenter: FrameAugmenter
    ) -> None:
        self.name = name
        self._stills = stills
        self._rule = rule
        self._num_frames = num_frames
        self._augmenter = augmenter
        self._images = [image for image in stills.annotations.images if self._trained(image)]
        if not self._images:
            raise DataError(
                f"{stills.annotations.source}: none of its {len(stills.annotations.images)} images shows an instance "
                "of a category that is trained; check the file's categories"
            )

    def __len__(self) -> int:
        """Number of usable images."""
        return len(self._images)

    def draw(self, position: int, rng: np.random.Generator) -> AnnotatedClip:
        """The clip of image ``position`` (0 to len - 1); ``rng`` decides the warps and the order of the frames."""
        image = self._images[position]
        still = self.load(position)
        frames = [still] + [self._augmenter(still, rng) for _ in range(self._num_frames - 1)]
        clip = AnnotatedClip(frames, tuple(self._trained(image).values()), f"{self.name}/{image.image_path}")
        return clip.reordered(rng.permutation(self._num_frames).tolist())

    def load(self, position: int) -> AnnotatedFrame:
        """Image ``position`` with its instances, as it is.

        Raises:
            DataError: naming the file of a damaged image or mask.
        """
        image = self._images[position]
        path = self._stills.image_dir / image.image_path
        pixels = read_image(path, self._where(image), expected_size=(image.height, image.width))
        trained = self._trained(image)
        masks = ((number, self._decode(image, i)) for number, i in enumerate(trained))
        ids = pack_masks(masks, image.height, image.width)
        return AnnotatedFrame(pixels, ids, self._ignore_region(image, trained))

    def _ignore_region(self, image: StillImage, trained: Collection[int]) -> np.ndarray | None:
        """The union of what the file marks, what the rule ignores, and the instances beyond its limits."""
        masks = [self._decode(image, i) for i in range(len(image.categories)) if self._is_ignored(image, i, trained)]
        if image.ignore:
            size = (image.height, image.width)
            masks.append(decode_mask(image.ignore, size, f"{self._where(image)}, ignore region"))
        return np.bitwise_or.reduce(masks) if masks else None

    def _is_ignored(self, image: StillImage, i: int, trained: Collection[int]) -> bool:
        if image.categories[i] in self._rule.ignored:
            return True
        return i not in trained and self._target(image, i) is not None

    def _trained(self, image: StillImage) -> dict[int, int]:
        """Training category of each instance that is trained, by its index, ascending."""
        targets = {i: t for i in range(len(image.categories)) if (t := self._target(image, i)) is not None}
        areas = {i: rle_area(image.segmentations[i], image.height, image.width) for i in targets}
        kept = [i for i in targets if areas[i] >= max(1, self._rule.min_instance_area)]
        if self._rule.max_instances is not None:
            kept = sorted(sorted(kept, key=lambda i: -areas[i])[: self._rule.max_instances])
        return {i: targets[i] for i in kept}

    def _target(self, image: StillImage, i: int) -> int | None:
        return self._rule.target(image.categories[i], f"{self._where(image)}, instance {i}")

    def _decode(self, image: StillImage, i: int) -> np.ndarray:
        size = (image.height, image.width)
        return decode_mask(image.segmentations[i], size, f"{self._where(image)}, instance {i}")

    def _where(self, image: StillImage) -> str:
        return f"{self._stills.annotations.source}: image '{image.image_path}'"
