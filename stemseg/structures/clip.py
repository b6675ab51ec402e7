"""Training clips: what the data room hands to the training room.

On their way through processes and to the device ground truth is packed: one byte per pixel for all instances that do
not overlap, instead of one for each.
"""

from __future__ import annotations

from collections.abc import Callable
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


ABSENT = 255  # the value of an instance that is not in a layer; no pixel has it


@dataclass(frozen=True)
class PackedTargets:
    """Ground truth of one clip on its way to the device.

    Attributes:
        layers: [L, T, h, w] uint8, id maps; where instances overlap they are in different layers.
        values: [L, I, T] uint8, the value that instance i has in frame t of a layer, or ``ABSENT``.
        category_ids: as in :class:`ClipTargets`.
        ignore_mask: the same; None where nothing is ignored.
    """

    layers: Tensor
    values: Tensor
    category_ids: Tensor
    ignore_mask: Tensor | None

    def unpack(self, height: int, width: int) -> ClipTargets:
        """A mask for each instance, padded right and bottom to ``height`` and ``width``, on the same device."""
        (num_frames, inner_height, inner_width), num_instances = self.layers.shape[1:], len(self.category_ids)
        masks = self.layers.new_zeros((num_instances, num_frames, height, width), dtype=torch.bool)
        inside = masks[..., :inner_height, :inner_width]
        for i, (layer, values) in enumerate(zip(self.layers, self.values, strict=True)):
            if i == 0:
                torch.eq(layer, values[..., None, None], out=inside)  # written once
            else:
                inside |= layer == values[..., None, None]
        ignore_mask = self.layers.new_zeros((num_frames, height, width))
        if self.ignore_mask is not None:
            ignore_mask[:, :inner_height, :inner_width] = self.ignore_mask
        return ClipTargets(masks.view(torch.uint8), self.category_ids, ignore_mask)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedTargets:
        """The same targets on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PackedTargets:
        """The same targets in page-locked memory."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> PackedTargets:
        ignore_mask = None if self.ignore_mask is None else change(self.ignore_mask)
        return PackedTargets(change(self.layers), change(self.values), change(self.category_ids), ignore_mask)


@dataclass(frozen=True)
class Clip:
    """One training sample as the network and its losses see it.

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
    """Several clips on the device, padded right and bottom with zeros to one size, a multiple of 32.

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
