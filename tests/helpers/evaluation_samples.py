"""Small masks, videos and result files for the tests of evaluation, and where the known answers lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stemseg.structures.rle import encode_rle
from tests.helpers.paths import SHARED_DIR

HEIGHT, WIDTH = 24, 40
REAL = SHARED_DIR / "real" / "eval"


def known_answers(name: str) -> Path:
    """The folder of an official tool's input and output; skips the test where it is not on this machine."""
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"the known answers are not on this machine: no folder {folder}")
    return folder


def box(left: int, top: int, width: int, height: int) -> str:
    """RLE counts of a filled rectangle."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top : top + height, left : left + width] = 1
    return encode_rle(mask)


def rle(counts: str | None) -> dict | None:
    """A mask as official JSON files have it."""
    return None if counts is None else {"size": [HEIGHT, WIDTH], "counts": counts}


def write_json(path: Path, content: object) -> Path:
    """Write a JSON file, return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_png(path: Path, ids: np.ndarray) -> None:
    """Write an id map as palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7 * i % 256)])
    image.save(path)


def write_sequence(folder: Path, id_maps: list[np.ndarray]) -> None:
    """Write id maps as ``folder/00000.png`` and so on."""
    for t, ids in enumerate(id_maps):
        write_png(folder / f"{t:05d}.png", ids)


def id_map(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    """An id map with rectangles (left, top, width, height): ``id_map(_1=(0, 0, 5, 5))``; later ones lie in front."""
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for name, (left, top, width, height) in boxes.items():
        ids[top : top + height, left : left + width] = int(name[1:])
    return ids
