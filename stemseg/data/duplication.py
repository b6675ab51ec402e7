"""Showing a clip's only instance twice: single-object clips then teach to tell instances apart (METHOD section 10)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stemseg.data.id_maps import pack_masks
from stemseg.data.masks import mask_box
from stemseg.data.raw_clip import Frame, RawClip

_SIDEWAYS = (0.75, 1.0)  # of the instance's width
_VERTICAL = 0.25  # of its height, up or down
_LARGEST = 0.3  # of the image's side


class _Extent(NamedTuple):
    """The box around the instance in all frames, and its largest size in one frame."""

    rows: slice
    columns: slice
    height: int
    width: int


class _Move(NamedTuple):
    """Where the copy goes, in pixels, and whether it is mirrored."""

    dy: int
    dx: int
    flip: bool


def duplicate_instance(clip: RawClip, rng: np.random.Generator) -> RawClip:
    """Paste a copy of the clip's only instance beside it, in front; the same shift in all frames.

    Returns:
        the clip with a second instance; unchanged where the copy would leave the image at either side.
    """
    masks = [frame.ids.mask(0) for frame in clip.frames]
    extent = _extent(masks)
    move = _choose_move(extent, masks[0].shape, rng) if extent else None
    if move is None:
        return clip
    frames = [_paste(frame, mask, extent, move) for frame, mask in zip(clip.frames, masks, strict=True)]
    return replace(clip, frames=frames, category_ids=clip.category_ids * 2)


def _extent(masks: list[np.ndarray]) -> _Extent | None:
    boxes = [box for box in map(mask_box, masks) if box is not None]
    if not boxes:
        return None
    rows, columns = (slice(min(b[i].start for b in boxes), max(b[i].stop for b in boxes)) for i in (0, 1))
    height, width = (max(b[i].stop - b[i].start for b in boxes) for i in (0, 1))
    return _Extent(rows, columns, height, width)


def _choose_move(extent: _Extent, size: tuple[int, int], rng: np.random.Generator) -> _Move | None:
    height, width = size
    sideways = min(rng.uniform(*_SIDEWAYS) * extent.width, _LARGEST * width)
    vertical = np.clip(rng.uniform(-_VERTICAL, _VERTICAL) * extent.height, -_LARGEST * height, _LARGEST * height)
    directions, flip = rng.permutation((-1, 1)), bool(rng.random() < 0.5)
    dy = int(np.clip(round(vertical), -extent.rows.start, height - extent.rows.stop))
    for dx in (round(sideways) * int(direction) for direction in directions):
        if extent.columns.start + dx >= 0 and extent.columns.stop + dx <= width:
            return _Move(dy, dx, flip)
    return None


def _paste(frame: Frame, mask: np.ndarray, extent: _Extent, move: _Move) -> Frame:
    source = (extent.rows, extent.columns)
    target = tuple(slice(s.start + d, s.stop + d) for s, d in zip(source, (move.dy, move.dx), strict=True))
    step = -1 if move.flip else 1
    shape = mask[source][:, ::step].astype(bool)
    image, copy = frame.image.copy(), np.zeros_like(mask)
    image[target][shape] = frame.image[source][:, ::step][shape]
    copy[target][shape] = 1
    ids = pack_masks([(0, mask & ~copy & 1), (1, copy)], *mask.shape)
    ignore = None if frame.ignore is None else frame.ignore & ~copy & 1
    return replace(frame, image=image, ids=ids, ignore=ignore)
