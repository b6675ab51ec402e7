"""Files: written whole or not at all, read within bounds, named after anything, listed in the order people count in."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import quote, unquote

from stemseg.utils.errors import DataError, OutputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_IMAGE_PIXELS = 1 << 26  # of one image, 8192 x 8192: a larger one is a mistake or an attack on the memory
_MAX_TEXT_BYTES = 1 << 28

_PERMISSIONS = "choose another folder, or change the permissions of this one"
_FILE_IN_PATH = "a part of the path is a file, expected a folder; move that file away, or choose another path"
_NEXT_STEPS = {
    errno.ENOSPC: "free some space there, or choose another disk",
    errno.EDQUOT: "your share of that disk is used up; delete something, or choose another disk",
    errno.EROFS: _PERMISSIONS,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "a folder has this name; move it away, or choose another name",
    errno.EEXIST: _FILE_IN_PATH,
    errno.ENOTDIR: _FILE_IN_PATH,
}


@contextmanager
def replacing(path: str | Path, *, suffix: str = "", durable: bool = True) -> Iterator[Path]:
    """A file beside ``path`` to write to in a ``with`` block, at the end of which it takes the place of ``path``.

    Whoever opens ``path`` finds what was there before or, once the block is over, the whole new file. Where the block
    raises, nothing is left of the file beside it. Folders are made as needed.

    Args:
        suffix: extension of the file beside ``path``, for writers that go by it.
        durable: wait until the disk has it, so that it is whole even if the power fails. Takes some milliseconds, which
            add up over many small files.

    Raises:
        OutputError: with the path and the operating system's reason, where the file can't be written.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part{suffix}")
    make_folder(path.parent)
    try:
        yield part
        if durable:
            _sync(part)
        part.replace(path)
        if durable:
            with suppress(OSError):  # some network disks can't do this for folders
                _sync(path.parent)
    except OSError as error:
        # errors of other files are none of ours: what is written may be read from somewhere at the same time
        if error.errno is None or error.filename not in (None, str(part), str(path)):
            raise
        raise _output_error("write", path, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_file(path: str | Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Let ``write`` fill a file, whole or not at all; see :func:`replacing`."""
    with replacing(path, durable=durable) as part, part.open("wb") as file:
        write(file)


def write_bytes(path: str | Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file, whole or not at all; see :func:`replacing`."""
    write_file(path, lambda file: file.write(content), durable=durable)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; see :func:`replacing`."""
    write_bytes(path, text.encode("utf-8"))


def read_bytes(path: str | Path, *, max_bytes: int, next_step: str = "") -> bytes:
    """The content of a file.

    Args:
        max_bytes: a larger file is refused, before it is read.
        next_step: what a user can do where it is missing.

    Raises:
        DataError: where it is missing, too large, unreadable, or no file but a folder, a pipe or a device.
    """
    with open_file(path, next_step=next_step) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise DataError(
                f"{path} has {size} bytes, expected at most {max_bytes} in a file of its kind; is it the right file?"
            )
        try:
            return file.read()
        except OSError as error:
            _read_error(path, error, next_step)


def open_file(path: str | Path, *, next_step: str = "") -> BinaryIO:
    """Open a file to read its bytes; never waits, as opening a named pipe does.

    Raises:
        DataError: where it is missing, unreadable, or no file but a folder, a pipe or a device.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "a pipe or a device"
            raise DataError(f"{path} is {kind}, expected a file{_then(next_step)}")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        _read_error(path, error, next_step)


def read_text(path: str | Path, *, next_step: str = "") -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: where it can't be read (see :func:`read_bytes`) or has another encoding.
    """
    return decode_text(read_bytes(path, max_bytes=_MAX_TEXT_BYTES, next_step=next_step), path)


def decode_text(content: bytes, where: str | Path) -> str:
    """Bytes as text in UTF-8, less a byte order mark.

    Raises:
        DataError: naming the line that is no UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{where} is not UTF-8 (line {line}); save it with that encoding") from None


def _read_error(path: str | Path, error: Exception, next_step: str) -> NoReturn:
    if isinstance(error, FileNotFoundError):
        raise DataError(f"{path} does not exist{_then(next_step or 'check the path')}") from None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    raise DataError(f"{path} can't be read: {reason}{_then(next_step or 'check its name and permissions')}") from None


def _then(next_step: str) -> str:
    return f"; {next_step}" if next_step else ""


def user_path(text: str | Path) -> Path:
    """The path that a user writes, ``~`` replaced by a home folder.

    Raises:
        DataError: where it can be none.
    """
    if "\0" in str(text):
        raise DataError(f"the path {str(text)!r} holds a zero byte, expected a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise DataError(f"the path {text} begins with the home folder of an unknown user; write it out") from None


def make_folder(path: str | Path) -> Path:
    """Make a folder, and those above it, where they do not exist; returns it.

    Raises:
        OutputError: with the path and the operating system's reason, where it can't be made.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _output_error("make the folder", path, error) from error
    return path


def file_name(name: str | int) -> str:
    """A name of anything, such as a sequence's id, as the name of a file or folder; usual ones stay as they are."""
    quoted = quote(str(name), safe=" ")
    # names of dots alone mean folders: "..", of all things
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")


def name_of_file(stem: str) -> str:
    """The name that :func:`file_name` made a file's stem of."""
    return unquote(stem)


def list_images(folder: str | Path, left_out: Counter[str] | None = None) -> list[Path]:
    """The images directly in a folder, ordered by name with numbers counted as numbers ("2" before "10").

    Args:
        left_out: receives how many files were left out, by reason.

    Raises:
        DataError: where the folder is missing or holds none, an image is a link to nothing, or two differ in their
            extension alone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the folder {folder} does not exist; expected one that directly holds images")
    entries = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
    files = [path for path in entries if not path.is_dir()]
    images = [path for path in files if is_image(path)]
    if not images:
        raise DataError(
            f"the folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)}); give the one that directly holds them"
        )
    _check_images(images)
    if left_out is not None:
        left_out.update(no_input_reason(path, "images") for path in {*entries} - {*images})
    return images


def is_image(path: Path) -> bool:
    """Whether a file's name is that of an image, and not that of a hidden one or of macOS's companion of one (._x)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(path)


def is_hidden(path: Path) -> bool:
    """Whether systems hide a file or folder, or macOS made it beside the real one."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def _check_images(images: Sequence[Path]) -> None:
    by_stem: dict[str, Path] = {}
    for path in images:
        if not path.is_file():
            what = "a link to nothing" if path.is_symlink() else "no regular file"
            raise DataError(f"the image {path} is {what}; put the image there, or remove it")
        if not _is_unicode(path.name):
            raise DataError(f"the image {str(path)!a} has a name that is no UTF-8, expected one; rename it")
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise DataError(f"{other} and {path.name} would be the same frame; remove one of the two")


def _is_unicode(name: str) -> bool:
    return os.fsencode(name).decode("utf-8", "ignore") == name


def no_input_reason(path: Path, expected: str) -> str:
    """The reason why what lies beside the ``expected`` ("images") is left out, in words that count several."""
    if is_hidden(path):
        return "hidden files"
    suffix = path.suffix.lower() or "without extension"
    return "folders" if path.is_dir() else f"files that are no {expected} ({suffix})"


def files_fingerprint(paths: Iterable[Path]) -> str:
    """A digest of names, sizes and times of change of files."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            text = f"{path.name} {status.st_size} {status.st_mtime_ns}"
        except OSError:
            text = f"{path.name} is missing"
        digest.update(os.fsencode(f"{text}\n"))
    return digest.hexdigest()


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """A key to sort names by as people count: "2" before "10"."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _output_error(action: str, path: Path, error: OSError) -> OutputError:
    next_step = _NEXT_STEPS.get(error.errno or 0, "choose another place")
    return OutputError(f"could not {action} {path}: {error.strerror}; {next_step}")
