"""The check of a training's data before it starts: images are there, decode and have the annotated size; masks fit.

What was checked is remembered beside the annotation file, by names, sizes and times of all files: the next start of any
training needs only to look at these.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from stemseg.data.images import read_image
from stemseg.data.sources import OpenedStills, OpenedVideos
from stemseg.structures.annotations import StillAnnotations, mask_problems
from stemseg.utils import distributed
from stemseg.utils.arguments import DEFAULT_WORKERS
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import DataError, OutputError
from stemseg.utils.files import files_fingerprint, write_text
from stemseg.utils.parallel import map_in_threads
from stemseg.utils.text import shorten_list

_logger = logging.getLogger("stemseg.training")
_SHOWN = 10  # problems of a dataset in a message


class _Image(NamedTuple):
    """An image that annotations name: its file, (height, width), and where it is named."""

    path: Path
    size: tuple[int, int]
    where: str


def check_training_data(
    opened: Iterable[OpenedVideos | OpenedStills],
    held_out: OpenedVideos | None = None,
    *,
    process: ProcessInfo,
    tolerant: bool = False,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> bool:
    """Look at every image and mask of the training sets and the held-out videos; the processes share the images.

    Args:
        opened: the training sets.
        held_out: the videos that the run is measured on, where it is.
        process: which of the processes this is; all of them must call this together.
        tolerant: warn of what is found in the training sets, instead of raising an error.
        is_cancelled: asked again and again; True ends the check.

    Returns:
        whether the check went on to its end.

    Raises:
        DataError: with the images and masks that can't be used.
    """
    for data in [*opened, *([] if held_out is None else [held_out])]:
        images, memory = _images(data), _memory(data)
        seen = (
            files_fingerprint([data.annotations.source, *(image.path for image in images)]) if process.is_main else ""
        )
        if distributed.gather(process.is_main and _read(memory) == seen)[0]:
            _logger.info("%s: images and masks are as they were when they were checked", data.annotations.source)
            continue
        share = images[process.rank :: process.world_size]
        found = list(_check(share, f"checking {data.annotations.source.name}", process, is_cancelled))
        found += mask_problems(data.annotations) if process.is_main else []
        parts = distributed.gather((found, is_cancelled()))
        if any(cancelled for _, cancelled in parts):
            return False
        problems = [problem for part, _ in parts for problem in part]
        if problems:
            may_skip = data is not held_out  # samples to skip are those of the training
            _tell(problems, len(images), data, tolerant=tolerant and may_skip, may_skip=may_skip)
        elif process.is_main:
            _remember(memory, seen)
    return True


def _images(data: OpenedVideos | OpenedStills) -> list[_Image]:
    source = data.annotations.source
    if isinstance(data.annotations, StillAnnotations):
        return [
            _Image(data.image_dir / s.image_path, (s.height, s.width), f"{source}: image '{s.image_path}'")
            for s in data.annotations.images
        ]
    return [
        _Image(data.image_dir / path, (s.height, s.width), f"{source}: sequence '{s.id}', frame {t}")
        for s in data.annotations
        for t, path in enumerate(s.image_paths)
    ]


def _check(
    images: Sequence[_Image], title: str, process: ProcessInfo, is_cancelled: Callable[[], bool]
) -> Iterator[str]:
    """The problems of images, read in threads: decoding leaves the interpreter to others."""
    workers = max(1, DEFAULT_WORKERS // process.world_size)
    results = map_in_threads(_problem, images, workers=workers, max_ahead=4 * workers)
    for problem in tqdm(results, title, len(images), unit="image", disable=not process.is_main, leave=False):
        if problem:
            yield problem
        if is_cancelled():
            return


def _problem(image: _Image) -> str:
    """A message on an image that can't be used; empty where it can."""
    try:
        read_image(image.path, image.where, expected_size=image.size)
    except DataError as error:
        return str(error)
    return ""


def _tell(
    problems: Sequence[str], num_images: int, data: OpenedVideos | OpenedStills, *, tolerant: bool, may_skip: bool
) -> None:
    head = f"{data.annotations.source}: {len(problems)} problems among {num_images} images and their masks:"
    listing = f"{head}\n{shorten_list(problems, _SHOWN, separator=chr(10))}"
    if not tolerant:
        skip = ", or go past samples that have them by --skip_bad_samples N" if may_skip else ""
        raise DataError(f"{listing}\nMend them, or take them out of the annotation file{skip}")
    _logger.warning("%s", listing)


def _memory(data: OpenedVideos | OpenedStills) -> Path:
    """The file that remembers what was checked."""
    source = data.annotations.source
    return source.with_name(f".{source.name}.checked")


def _read(memory: Path) -> str:
    try:
        return memory.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _remember(memory: Path, seen: str) -> None:
    try:
        write_text(memory, seen)
    except OutputError as error:  # a dataset that others own: it is checked again at the next start
        _logger.info("the check is not remembered: %s", error)
