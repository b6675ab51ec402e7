"""Pictures of masks: colors, overlays, contact sheets, videos. Images are B G R uint8 [H, W, 3], as in OpenCV."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from stemseg.utils.errors import OutputError
from stemseg.utils.files import replacing, write_bytes
from stemseg.utils.text import first_line

if TYPE_CHECKING:
    from stemseg.utils.captions import CaptionPlacer

# R G B of the colors that pictures use, in the order of the tracks. Searched for by the CIEDE2000 distance of their
# closest pair, the smallest of normal vision and simulated protanopia, deuteranopia and tritanopia (Machado et al.
# 2009): at least 16.8 among the first 8, 8 among all 20; L* is 45 to 89: they show on black and on white.
OVERLAY_COLORS = (
    (255, 210, 0), (60, 90, 240), (210, 0, 105), (195, 180, 255), (0, 165, 165), (225, 135, 90), (165, 240, 180),
    (135, 105, 0), (135, 90, 150), (150, 120, 255), (120, 150, 0), (195, 210, 120), (60, 210, 180), (195, 135, 210),
    (255, 180, 225), (195, 15, 195), (30, 135, 60), (195, 105, 90), (105, 240, 255), (255, 60, 135),
)  # fmt: skip
_LEAST_FREE = 1 << 16  # bytes: with less left after a video, its end may be missing
_VIDEO_CODES = {".webm": "VP80", ".mp4": "mp4v"}
_RIM_MIN_AREA = 150  # pixels: the dark rim would hide what is smaller


def instance_palette(size: int = 256) -> np.ndarray:
    """The color of each id in result files, [size, 3] uint8 in R G B order, as PASCAL VOC and DAVIS spread its bits."""
    ids = np.arange(size)
    palette = np.zeros((size, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette


def overlay_color(instance_id: int) -> tuple[int, int, int]:
    """R G B of an id, from 1, in pictures; after 20 ids the colors start again."""
    return OVERLAY_COLORS[(instance_id - 1) % len(OVERLAY_COLORS)]


def draw_instances(
    image: np.ndarray,
    masks: Mapping[int, np.ndarray],
    captions: Mapping[int, str | Sequence[str]] | None = None,
    *,
    opacity: float = 0.45,
    placer: CaptionPlacer | None = None,
) -> np.ndarray:
    """Paint masks over an image, each in its id's color with an outline on a dark rim, and caption them.

    Captions lie on their own masks, or beside them with a line to them where the mask is small; they never cover each
    other or a small object, and one that finds no room is left out.

    Args:
        image: [H, W, 3] uint8, B G R.
        masks: binary mask [H, W] of each id, ids from 1; later ones are painted over earlier ones.
        captions: text for each id, or texts of which the first that finds room is taken; ids without stay unlabeled.
        opacity: of the paint, 0 to 1.
        placer: keeps captions at their place from frame to frame of a video; None for a single image.

    Returns:
        a new image, [H, W, 3] uint8.
    """
    canvas = image.copy()
    inside = {i: np.ascontiguousarray(np.asarray(mask) != 0, dtype=np.uint8) for i, mask in masks.items()}
    inside = {i: mask for i, mask in inside.items() if mask.any()}
    for instance_id, mask in inside.items():
        _paint(canvas, mask, overlay_color(instance_id)[::-1], opacity)
    for instance_id, mask in inside.items():
        _outline(canvas, mask, overlay_color(instance_id)[::-1])
    if captions:
        from stemseg.utils.captions import CaptionPlacer, draw_captions  # here, since most drawing needs no text

        colors = {i: overlay_color(i)[::-1] for i in inside}
        draw_captions(canvas, inside, captions, colors, placer or CaptionPlacer())
    return canvas


def _paint(canvas: np.ndarray, inside: np.ndarray, color: Sequence[int], opacity: float) -> None:
    """Blend a color over the set pixels, within the rectangle around them."""
    left, top, width, height = cv2.boundingRect(inside)
    box = (slice(top, top + height), slice(left, left + width))
    paint = np.empty_like(canvas[box])
    paint[:] = color
    blended = cv2.addWeighted(canvas[box], 1 - opacity, paint, opacity, 0)
    cv2.copyTo(blended, inside[box], canvas[box])


def _outline(canvas: np.ndarray, inside: np.ndarray, color: Sequence[int]) -> None:
    """Trace the border in the color, on a dark line that is wider by a pixel on either side."""
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    width = max(1, round(min(canvas.shape[:2]) / 400))
    if cv2.countNonZero(inside) < _RIM_MIN_AREA * width:
        cv2.drawContours(canvas, contours, -1, tuple(color), 1)
        return
    cv2.drawContours(canvas, contours, -1, (20, 20, 20), width + 2)
    cv2.drawContours(canvas, contours, -1, tuple(color), width)


def draw_text(canvas: np.ndarray, text: str, position: tuple[int, int]) -> None:
    """Write white text with a dark rim into ``canvas`` at (x, y) of its baseline's start."""
    scale = max(0.35, min(canvas.shape[:2]) / 900)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    x, y = position
    x = int(np.clip(x, 0, max(0, canvas.shape[1] - width)))
    y = int(np.clip(y, height, canvas.shape[0] - 1))
    # the rim is the text shifted all around: OpenCV 5 makes thicker letters wider, so a thick copy would not lie behind
    for dx, dy in [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]:
        cv2.putText(canvas, text, (x + dx, y + dy), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def tile(images: Sequence[np.ndarray], columns: int, *, gap: int = 4) -> np.ndarray:
    """A contact sheet of equally sized images, row by row with white gaps."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def enlarge(image: np.ndarray, min_side: int) -> np.ndarray:
    """An image whose shorter side is at least ``min_side`` pixels; a larger one is returned as it is."""
    factor = min_side / min(image.shape[:2])
    if factor <= 1:
        return image
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


def enlarge_mask(mask: np.ndarray, min_side: int) -> np.ndarray:
    """The same of a binary mask [H, W], with smooth borders; uint8, 0 or 1."""
    shade = enlarge((np.asarray(mask) != 0).astype(np.uint8) * 255, min_side)
    return (shade > 127).astype(np.uint8)


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """An image whose longer side is at most ``max_side`` pixels; a smaller one is returned as it is."""
    factor = max_side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_image(path: str | Path, image: np.ndarray, *, jpeg_quality: int = 95, durable: bool = False) -> None:
    """Write an image, whole or not at all, in the format of its extension, and make its folder.

    Args:
        jpeg_quality: 0 to 100, for .jpg.
        durable: see :func:`stemseg.utils.files.replacing`.

    Raises:
        OutputError: where the file can't be written.
    """
    try:
        suffix = Path(path).suffix
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if suffix.lower() in (".jpg", ".jpeg") else []
        content = cv2.imencode(suffix, image, options)[1]
    except cv2.error as error:
        raise OutputError(
            f"could not encode the image {path}: {first_line(error)}; give it the name *.png or *.jpg"
        ) from error
    write_bytes(path, content.tobytes(), durable=durable)


class VideoWriter:
    """A video file that takes frames one by one in a ``with`` block, at the end of which it is there, whole.

    Args:
        path: ``.webm`` (VP8, which every browser plays) or ``.mp4`` (MPEG-4 part 2, faster to write).
        fps: frames per second.

    Raises:
        OutputError: from the ``with`` block, where the file can't be written.
    """

    def __init__(self, path: str | Path, *, fps: float = 10.0) -> None:
        self._path = Path(path)
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._stack = contextlib.ExitStack()

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, [H, W, 3] uint8, B G R; the first one sets the size.

        Raises:
            OutputError: where the file can't be written.
        """
        if self._writer is None:
            self._writer = self._open(frame.shape[1], frame.shape[0])
        self._writer.write(np.ascontiguousarray(frame))

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        code = cv2.VideoWriter.fourcc(*_VIDEO_CODES[self._path.suffix])
        with _without_native_messages():  # FFmpeg wonders about the code's spelling in WebM, and takes it
            writer = cv2.VideoWriter(str(self._part), code, self._fps, (width, height))
        if not writer.isOpened():
            raise OutputError(
                f"could not open {self._part} for writing; is the folder writable, and does this OpenCV build write "
                f"{self._path.suffix} files? The wheel opencv-python from PyPI does"
            )
        return writer

    def __enter__(self) -> VideoWriter:
        self._part = self._stack.enter_context(replacing(self._path, suffix=self._path.suffix))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if error is None and shutil.disk_usage(self._path.parent).free < _LEAST_FREE:  # OpenCV doesn't say it
                error = OutputError(f"could not write {self._path}: the disk is full; free some space and run again")
                self._stack.__exit__(OutputError, error, None)
                raise error
        self._stack.__exit__(kind, error, trace)


@contextlib.contextmanager
def _without_native_messages() -> Iterator[None]:
    """Keep C libraries from writing to standard error meanwhile."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
