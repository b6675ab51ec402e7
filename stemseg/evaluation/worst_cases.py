"""Pictures of what fails: the objects with the lowest score, each in its worst frame, ground truth beside results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from stemseg.utils.drawing import draw_instances, tile, write_image, write_text
from stemseg.utils.errors import DataError

_IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg")
_HEADER = 26  # pixels above each picture for its caption


@dataclass(frozen=True)
class WorstCase:
    """One object in one frame.

    Attributes:
        sequence: its video.
        image_path: of the frame, relative to the images' folder; its extension may differ.
        score: the figure by which it is among the worst, lower is worse ...
        measure: ... and what that is, such as "J&F".
        title: what is wrong, for the caption.
        truth: mask [H, W] of the object in question.
        results: masks [H, W] of the results in this frame, by id.
        captions: text for some of these ids.
    """

    sequence: str
    image_path: str
    score: float
    measure: str
    title: str
    truth: np.ndarray
    results: Mapping[int, np.ndarray]
    captions: Mapping[int, str] = field(default_factory=dict)


def draw_worst_cases(cases: Sequence[WorstCase], images: str | Path, output: str | Path) -> list[Path]:
    """Write ``<rank>_<sequence>_<frame>.png`` for each case: the object on the left, the results on the right.

    Raises:
        DataError: where a frame's image is not in ``images``, or has another size than the masks.
    """
    paths = []
    for rank, case in enumerate(cases, start=1):
        frame = Path(case.image_path).stem
        path = Path(output) / f"{rank:02d}_{quote(case.sequence, safe=' ')}_{frame}.png"
        write_image(path, draw_case(case, find_image(Path(images), case.image_path)))
        paths.append(path)
    return paths


def draw_case(case: WorstCase, image: np.ndarray) -> np.ndarray:
    """The picture of one case, B G R uint8."""
    if image.shape[:2] != case.truth.shape:
        raise DataError(
            f"sequence '{case.sequence}', image {case.image_path} is {image.shape[0]} x {image.shape[1]} (height x "
            f"width), its masks are {case.truth.shape[0]} x {case.truth.shape[1]}; is --images of another resolution?"
        )
    left = draw_instances(image, {1: case.truth})
    right = draw_instances(image, case.results, case.captions)
    panels = []
    for panel, text in ((left, f"truth: {case.title}"), (right, f"results: {case.measure} {case.score:.3f}")):
        panels.append(cv2.copyMakeBorder(panel, _HEADER, 0, 0, 0, cv2.BORDER_CONSTANT, value=(64, 64, 64)))
        write_text(panels[-1], text, (6, _HEADER - 9))
    return tile(panels, 2)


def find_image(folder: Path, relative: str) -> np.ndarray:
    """The image of a frame, B G R uint8, whichever extension it has.

    Raises:
        DataError: where it is missing or damaged.
    """
    base = folder / relative
    for candidate in [base, *(base.with_suffix(suffix) for suffix in _IMAGE_SUFFIXES)]:
        if candidate.is_file():
            image = cv2.imread(str(candidate), cv2.IMREAD_COLOR)
            if image is None:
                raise DataError(f"{candidate} is not a readable image; extract it again")
            return image
    raise DataError(
        f"image {base} does not exist (nor with {', '.join(_IMAGE_SUFFIXES)}); let --images name the folder that the "
        "annotations' image paths are relative to"
    )
