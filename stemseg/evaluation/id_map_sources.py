"""Where the id maps of a video come from: palette PNGs on disk, or tracks in memory painted frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask

from stemseg.utils.errors import DataError

VOID = 255  # the id of pixels that count neither for nor against, in ground truth


class IdMapSource(Protocol):
    """The id maps of one video, read one by one: 0 is background, objects count from 1."""

    def __len__(self) -> int:
        """Number of frames."""

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] unsigned integers."""


@dataclass(frozen=True)
class PngIdMaps:
    """Id maps as ``folder/<frame name>.png``, palette or grey."""

    folder: Path
    frame_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.frame_names)

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] uint8.

        Raises:
            DataError: where the file is missing, damaged or not an 8-bit map of ids.
        """
        path = self.folder / f"{self.frame_names[frame]}.png"
        try:
            with Image.open(path) as image:
                if image.mode not in ("P", "L", "1"):
                    raise DataError(
                        f"{path} is a {image.mode} image, expected ids as palette (P) or grey (L) values, one per pixel"
                    )
                return np.array(image).astype(np.uint8)
        except FileNotFoundError:
            raise DataError(
                f"{path} does not exist: frame {frame} of the {len(self)} of sequence '{self.folder.name}' has no PNG. "
                "Every frame needs one, also where nothing is found; did inference stop early?"
            ) from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise DataError(f"{path} is not a readable PNG: {error}; write it again") from error


@dataclass(frozen=True)
class PaintedIdMaps:
    """Tracks in memory as id maps: each paints its masks (counts or None, one per frame) in its id, in their order."""

    height: int
    width: int
    num_frames: int
    tracks: Mapping[int, Sequence[str | None]]

    def __len__(self) -> int:
        return self.num_frames

    def read(self, frame: int) -> np.ndarray:
        """The id map of a frame, [H, W] uint32."""
        id_map = np.zeros((self.height, self.width), dtype=np.uint32)
        for track_id, segmentations in self.tracks.items():
            if segmentations[frame]:
                rle = {"size": [self.height, self.width], "counts": segmentations[frame].encode("ascii")}
                id_map[coco_mask.decode(rle) != 0] = track_id
        return id_map
