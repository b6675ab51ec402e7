"""Videos of a user's own: files, folders and patterns of them, frames from memory, and parts of all these."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from stemseg.inference.frame_sources import Frame, FrameReader, FrameSource, open_path
from stemseg.structures.frame_range import FrameRange
from stemseg.utils.errors import DataError
from stemseg.utils.files import IMAGE_SUFFIXES, is_hidden, is_image, natural_key, no_input_reason, user_path

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".mts", ".ogv")


class FrameSelection(FrameSource):
    """A part of another video. Frames keep the names that they have there.

    Args:
        source: the whole video.
        frames: which of its frames.
    """

    def __init__(self, source: FrameSource, frames: FrameRange) -> None:
        super().__init__(source.sequence_id, f"{source.description}, frames {frames}")
        self._source = source
        self._frames = frames
        self.left_out, self.lost = source.left_out, source.lost
        self.empty_hint = f"the whole has {source.expected_length or 'an unknown number of'} frames; choose others"

    def fingerprint(self) -> str:
        """See :class:`FrameSource`."""
        return f"{self._source.fingerprint()} {self._frames}"

    @property
    def frames_per_second(self) -> float | None:
        """The video's own, less where frames are left out."""
        rate = self._source.frames_per_second
        return None if rate is None else rate / self._frames.step

    @property
    def expected_length(self) -> int | None:
        """See :class:`FrameSource`."""
        return self._frames.count(self._source.expected_length)

    def readers(self) -> Iterator[FrameReader]:
        """See :meth:`FrameSource.readers`."""
        return islice(self._source.readers(), self._frames.start, self._frames.stop, self._frames.step)

    def file_name(self, frame_name: str) -> str:
        """See :meth:`FrameSource.file_name`."""
        return self._source.file_name(frame_name)


class MemoryVideo(FrameSource):
    """Frames from memory. Those of an iterator are kept compressed, without loss, since a video may be read again.

    Args:
        frames: images [H, W, 3] uint8, R G B: an array [T, H, W, 3], a sequence, or any iterable.
        name: its sequence id.
        fps: frames per second, where known.

    Raises:
        DataError: where an item is no such image.
    """

    def __init__(self, frames: Iterable[np.ndarray], *, name: str = "video", fps: float | None = None) -> None:
        super().__init__(name, f"video '{name}'")
        if not (fps is None or (isinstance(fps, int | float) and 0 < fps < 1000)):
            raise DataError(f"fps is {fps!r}, expected a number above 0 and below 1000, or None")
        self._fps = fps
        self._frames: Sequence[np.ndarray] | np.ndarray = frames if isinstance(frames, Sequence | np.ndarray) else ()
        self._coded = [] if isinstance(frames, Sequence | np.ndarray) else self._keep(frames)
        if not self.expected_length:
            raise DataError(f"{self.description} has no frames")

    @property
    def frames_per_second(self) -> float | None:
        """As given."""
        return self._fps

    @property
    def expected_length(self) -> int:
        """The number of frames."""
        return len(self._frames) or len(self._coded)

    def readers(self) -> Iterator[FrameReader]:
        """See :meth:`FrameSource.readers`."""
        return (partial(self._read, index) for index in range(self.expected_length))

    def _read(self, index: int) -> Frame:
        if len(self._frames):
            image = rgb_to_bgr(self._frames[index], f"{self.description}, frame {index}")
        else:
            image = np.asarray(cv2.imdecode(self._coded[index], cv2.IMREAD_COLOR))
        return Frame(f"{index:05d}", image)

    def _keep(self, frames: Iterable[np.ndarray]) -> list[np.ndarray]:
        images = (rgb_to_bgr(frame, f"{self.description}, frame {i}") for i, frame in enumerate(frames))
        return [cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1] for image in images]


def rgb_to_bgr(frame: np.ndarray, where: str) -> np.ndarray:
    """A user's image [H, W, 3] uint8, R G B, as the package has images: B G R.

    Raises:
        DataError: where it is not such an image; says what it is.
    """
    image = np.asarray(frame)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(
            f"{where} is {image.dtype} of shape {list(image.shape)}, expected uint8 [height, width, 3], R G B, 0 to 255"
        )
    return np.ascontiguousarray(image[..., ::-1])


def open_own_videos(
    patterns: Sequence[str | Path], frames: FrameRange | None = None, left_out: dict[str, Counter[str]] | None = None
) -> list[FrameSource]:
    """The videos that a user's inputs mean, each with an id of its own.

    Args:
        patterns: video files, folders of images, folders of such, and patterns such as "holiday/*.mp4".
        frames: the part of each video that is taken; None: all.
        left_out: receives by input how many files beside its videos were left out, by reason.

    Raises:
        DataError: naming an input that means no video.
    """
    if not all(map(str, patterns)):
        raise DataError("an input is an empty text; give a video file or a folder ('.' is the current one)")
    others = {str(pattern): Counter[str]() for pattern in patterns}
    sources = [open_path(path) for pattern in patterns for path in find_videos(pattern, others[str(pattern)])]
    if left_out is not None:
        left_out.update(others)
    _make_ids_unique(sources)
    return sources if frames is None or frames.is_whole else [FrameSelection(source, frames) for source in sources]


def find_videos(pattern: str | Path, left_out: Counter[str] | None = None) -> list[Path]:
    """The video files and folders of images that one input means, in natural order of their names.

    Args:
        left_out: receives how many files and folders beside them were left out, by reason.

    Raises:
        DataError: where there are none.
    """
    path = user_path(pattern)
    if path.is_dir():
        return _videos_in(path, left_out)
    if path.exists():
        return [path]
    # Path.glob wants a folder to start in, which a pattern need not name
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)), key=lambda p: natural_key(str(p)))  # noqa: PTH207
    videos = _videos_among(matches, left_out)
    if not videos:
        hint = "none of the matches is a video or a folder of images" if matches else "it does not exist"
        raise DataError(
            f"the input {pattern}: {hint}; give a video file, a folder of images or of videos, or a pattern"
        )
    return videos


def _videos_among(paths: Sequence[Path], left_out: Counter[str] | None) -> list[Path]:
    videos = [path for path in paths if _is_video(path) and not is_hidden(path)]
    if left_out is not None:
        left_out.update(no_input_reason(path, "videos") for path in {*paths} - {*videos})
    return videos


def _videos_in(folder: Path, left_out: Counter[str] | None) -> list[Path]:
    """The folder itself where it holds images, else the videos and folders of images in it."""
    if _holds_images(folder):
        return [folder]
    videos = _videos_among(sorted(folder.iterdir(), key=lambda path: natural_key(path.name)), left_out)
    if not videos:
        raise DataError(
            f"the folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)}), no videos "
            f"({', '.join(VIDEO_SUFFIXES)}) and no folders of images; give the one that directly holds them"
        )
    return videos


def _is_video(path: Path) -> bool:
    return _holds_images(path) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES


def _holds_images(folder: Path) -> bool:
    return any(is_image(path) and not path.is_dir() for path in folder.iterdir())


def _make_ids_unique(sources: Sequence[FrameSource]) -> None:
    """Number the ids that several videos share, from the second one on."""
    seen: Counter[str] = Counter()
    taken = {str(source.sequence_id) for source in sources}
    for source in sources:
        name = str(source.sequence_id)
        seen[name] += 1
        while seen[name] > 1 and f"{name}_{seen[name]}" in taken:
            seen[name] += 1
        if seen[name] > 1:
            source.sequence_id = f"{name}_{seen[name]}"
            taken.add(f"{name}_{seen[name]}")
