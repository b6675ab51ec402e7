"""Training clips: what the data room hands to the training room."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClipTargets:
    """Ground truth of one clip.

    Attributes:
        masks: [I, T, H, W] uint8, 1 inside the instance.
        category_ids: [I] int64, category of each instance in the training category space (1 ... NUM_CLASSES - 1).
        ignore_mask: [T, H, W] uint8, 1 where pixels belong to nothing known and no loss may be taken from them.
    """

    masks: Tensor
    category_ids: Tensor
    ignore_mask: Tensor

    @property
    def num_instances(self) -> int:
        """I, the number of instances, visible or not."""
        return self.masks.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipTargets:
        """The same targets on another device."""
        move = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in self.__dataclass_fields__}
        return replace(self, **move)

    def pin_memory(self) -> ClipTargets:
        """The same targets in page-locked memory (called by the data loader)."""
        return ClipTargets(self.masks.pin_memory(), self.category_ids.pin_memory(), self.ignore_mask.pin_memory())


@dataclass(frozen=True)
class Clip:
    """One preprocessed training sample.

    Attributes:
        frames: [T, 3, H, W] float32, normalized; H and W are the resized image's, not padded.
        targets: its ground truth at the same H and W.
        name: where the clip comes from, for pictures and error messages, e.g. "davis/bear 3,5,8".
    """

    frames: Tensor
    targets: ClipTargets
    name: str


@dataclass(frozen=True)
class ClipBatch:
    """Several clips padded right and bottom with zeros to one size, a multiple of 32.

    Attributes:
        frames: [N, T, 3, H, W] float32.
        targets: N targets, masks and ignore masks padded to the same H and W.
        image_sizes: N pairs (height, width) of the clips without padding.
        names: N clip names.
    """

    frames: Tensor
    targets: list[ClipTargets]
    image_sizes: list[tuple[int, int]]
    names: list[str]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """The same batch on another device."""
        return replace(
            self,
            frames=self.frames.to(device, non_blocking=non_blocking),
            targets=[t.to(device, non_blocking=non_blocking) for t in self.targets],
        )

    def pin_memory(self) -> ClipBatch:
        """The same batch in page-locked memory (called by the data loader)."""
        return replace(self, frames=self.frames.pin_memory(), targets=[t.pin_memory() for t in self.targets])
