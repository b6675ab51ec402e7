"""Sources of a video's frames: a dataset's sequence, a folder of images, or a video file."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from stemseg.data.images import read_image
from stemseg.inference.mp4_edits import shown_share
from stemseg.structures.annotations import VideoSequence
from stemseg.utils.errors import DataError
from stemseg.utils.files import files_fingerprint, list_images, open_file, user_path
from stemseg.utils.parallel import map_in_threads


class Frame(NamedTuple):
    """One image of a video: its name without extension, and its pixels [H, W, 3] uint8, B G R."""

    name: str
    image: np.ndarray


_logger = logging.getLogger("stemseg.inference")
_COUNTED = (".avi", ".mp4", ".m4v", ".mov")  # of these the header counts the frames; of others their time
_BROKEN = "frames that could not be decoded"
_MAX_BROKEN = 250  # in a row, before a file is taken to end there

FrameReader = Callable[[], Frame]
Prepared = TypeVar("Prepared")


class FrameSource(ABC):
    """A video that can be read from its start any number of times.

    Attributes:
        sequence_id: the sequence's id as in the annotation file, or the stem of a user's own video.
        description: what error messages call the video.
        left_out: how much of the input is no part of the video, by reason, as far as it was read.
        lost: how much of the video could not be read, by reason; its results can't be trusted then.
    """

    empty_hint = "copy or convert it again"  # what a user can do where there is no frame

    def __init__(self, sequence_id: str | int, description: str) -> None:
        self.sequence_id = sequence_id
        self.description = description
        self.left_out: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def fingerprint(self) -> str:
        """A text that changes with the video's files (names, sizes, times); empty where nothing tells of a change."""
        return ""

    @property
    def frames_per_second(self) -> float | None:
        """The frame rate, where the video has one."""
        return None

    @abstractmethod
    def readers(self) -> Iterator[FrameReader]:
        """A function per frame, in order, that reads the frame. Different frames' readers may run at the same time."""

    @property
    @abstractmethod
    def expected_length(self) -> int | None:
        """Number of frames for progress bars, as far as it is known without reading."""

    def file_name(self, frame_name: str) -> str:
        """Name of the image file that annotation tools know a frame by; for videos as CVAT extracts them."""
        return f"frame_{int(frame_name):06d}.PNG"

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order; see :meth:`load`."""
        return (frame for frame, _ in self.load(lambda frame: None))

    def load(self, prepare: Callable[[Frame], Prepared], *, num_workers: int = 0) -> Iterator[tuple[Frame, Prepared]]:
        """All frames in order, each with what ``prepare`` makes of it, read and prepared ahead by several threads.

        Raises:
            DataError: where a frame can't be read or has another size than the first, or where there is none.
        """

        def read(reader: FrameReader) -> tuple[Frame, Prepared]:
            frame = reader()
            return frame, prepare(frame)

        size = None
        results = map_in_threads(read, self.readers(), workers=num_workers, max_ahead=2 * num_workers)
        for index, (frame, prepared) in enumerate(results):
            size = size or frame.image.shape[:2]
            if frame.image.shape[:2] != size:
                raise DataError(
                    f"{self.description}, frame {index} ({frame.name}) is {_size(frame.image.shape)}, but the first "
                    f"frame is {_size(size)}; all frames of a video must have one size"
                )
            yield frame, prepared
        if size is None:
            raise DataError(f"{self.description} holds no frame that can be read; {self.empty_hint}")


class ImageSequence(FrameSource):
    """A video whose frames are image files.

    Args:
        sequence_id: see :class:`FrameSource`.
        paths: one image per frame, in order.
        expected_size: (height, width) that an annotation file promises, or None.
        turned: turn the images as their orientation tags say.

    Raises:
        DataError: where ``paths`` is empty.
    """

    def __init__(
        self,
        sequence_id: str | int,
        paths: Sequence[Path],
        *,
        expected_size: tuple[int, int] | None = None,
        turned: bool = False,
    ) -> None:
        super().__init__(sequence_id, f"sequence '{sequence_id}'")
        if not paths:
            raise DataError(f"{self.description} has no frames")
        self._paths = list(paths)
        self._expected_size = expected_size
        self._turned = turned

    def fingerprint(self) -> str:
        """See :class:`FrameSource`."""
        return f"{files_fingerprint(self._paths)} {self._expected_size}"

    @property
    def expected_length(self) -> int:
        """The number of image files."""
        return len(self._paths)

    def file_name(self, frame_name: str) -> str:
        """The name of the frame's own file."""
        return next(path.name for path in self._paths if path.stem == frame_name)

    def readers(self) -> Iterator[FrameReader]:
        """See :meth:`FrameSource.readers`."""
        for index in range(len(self._paths)):
            yield partial(self._read, index)

    def _read(self, index: int) -> Frame:
        path = self._paths[index]
        where = f"{self.description}, frame {index}"
        image = read_image(path, where, expected_size=self._expected_size, turned=self._turned)
        return Frame(path.stem, image)


class VideoFile(FrameSource):
    """A video file in any format that OpenCV's FFmpeg reads. Frames are named by their number, "00000".

    Raises:
        DataError: where the file is missing or can't be opened as a video.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem, f"video {path}")
        self._path = path
        capture = self._open()
        self._shown_share = shown_share(path)
        count = round(capture.get(cv2.CAP_PROP_FRAME_COUNT) * self._shown_share)
        self._frames_per_second = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        self._expected_length = count if count > 0 else None

    @property
    def expected_length(self) -> int | None:
        """The number in the file's header; some files say nothing, or too much."""
        return self._expected_length

    @property
    def frames_per_second(self) -> float | None:
        """The frame rate that the file's header gives, or None."""
        return self._frames_per_second if 0 < self._frames_per_second < 1000 else None

    def fingerprint(self) -> str:
        """See :class:`FrameSource`."""
        return files_fingerprint([self._path])

    def readers(self) -> Iterator[FrameReader]:
        """See :meth:`FrameSource.readers`. Frames are decoded one after another, as the iterator advances.

        Behind frames that can't be decoded the others keep their numbers.
        """
        capture, expected = self._open(), self._expected_length or 0
        number, num_read, num_broken = 0, 0, 0  # in a row
        try:
            while True:
                found, image = capture.read()
                if found:
                    number = max(number, self._number(capture))
                    yield partial(Frame, f"{number:05d}", image)
                    num_read, num_broken = num_read + 1, 0
                elif number >= expected or num_broken == _MAX_BROKEN:
                    self._note_lost(num_read)
                    return
                else:
                    num_broken += 1
                number += 1
        finally:
            capture.release()

    def _number(self, capture: cv2.VideoCapture) -> int:
        """The number that the time of the frame just read means, where all frames of a file last equally long."""
        if self._path.suffix.lower() != ".avi":
            return 0
        return round(capture.get(cv2.CAP_PROP_POS_MSEC) * self._frames_per_second / 1000)

    def _note_lost(self, num_read: int) -> None:
        """Compare the frames that came with those that the header promises, which is exact in some formats only."""
        missing = (self._expected_length or 0) - num_read
        is_exact = self._path.suffix.lower() in _COUNTED and self._shown_share == 1
        if missing > (0 if is_exact else 1 + num_read // 50):
            self.lost[_BROKEN] = missing
            _logger.warning(
                "%s: %d frames could be decoded, but its header says %d; convert or copy it again",
                self.description, num_read, self._expected_length,
            )  # fmt: skip

    def _open(self) -> cv2.VideoCapture:
        open_file(self._path, next_step="give a video file or a folder of images").close()
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise DataError(
                f"cannot open {self._path} as a video; it is damaged or in a format that this OpenCV build does not "
                f"read. Convert it, for example: ffmpeg -i {self._path.name} -c:v libx264 converted.mp4"
            )
        return capture


def open_sequence(sequence: VideoSequence, image_dir: Path) -> ImageSequence:
    """The frames of a dataset's sequence, whose image paths are relative to ``image_dir``."""
    paths = [image_dir / path for path in sequence.image_paths]
    return ImageSequence(sequence.id, paths, expected_size=(sequence.height, sequence.width))


def open_path(path: str | Path) -> FrameSource:
    """A user's own video: a video file, or a folder with one image per frame, taken in natural order of their names.

    Raises:
        DataError: where nothing is there, the folder holds no images, or the file is no video.
    """
    path = user_path(path)
    if path.is_dir():
        left_out: Counter[str] = Counter()
        source = ImageSequence(path.resolve().name, list_images(path, left_out), turned=True)
        source.left_out = left_out
        return source
    if not path.exists():
        raise DataError(f"the input {path} does not exist; give a video file or a folder of images")
    return VideoFile(path)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]} pixels (height x width)"
