"""One owner per folder: a lock file that says who writes there."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stemseg.utils.errors import OutputError
from stemseg.utils.files import make_folder

LOCK_NAME = "lock.json"
_REFRESH_SECONDS = 60.0
_SILENT_SECONDS = 600.0  # a lock of another machine that was not refreshed for so long is stale
_WRITING_SECONDS = 10.0  # between a lock file's creation and its content


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it does not exist, in a ``with`` block.

    ``lock.json`` in it names machine, process id and start. A stale one is taken over: its process is gone from this
    machine, or it is of another machine and was not refreshed for ten minutes.

    Raises:
        OutputError: where another process holds the folder, with what is known about it, or it can't be written to.
    """
    path = make_folder(folder) / LOCK_NAME
    _take(path)
    done = threading.Event()
    refresher = threading.Thread(target=_refresh, args=(path, done), daemon=True)
    refresher.start()
    try:
        yield
    finally:
        done.set()
        refresher.join()
        if _is_own(_read(path)):
            with suppress(OSError):
                path.unlink()


def _take(path: Path) -> None:
    content = json.dumps(_identity(os.getpid()) | {"started": time.strftime("%Y-%m-%d %H:%M:%S")})
    for _ in range(2):
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
            return
        except FileExistsError:
            _remove_stale(path)
        except OSError as error:
            raise OutputError(f"could not write {path}: {error.strerror}; choose another folder") from error
    raise OutputError(f"another process took {path.parent} at the same moment; choose another folder")


def _remove_stale(path: Path) -> None:
    """Remove the lock of a process that is gone; raise an OutputError where it may still run."""
    holder = _read(path)
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    if holder is None:
        is_stale, who = age > _WRITING_SECONDS, "a process that just started"
    else:
        here = holder.get("host") == socket.gethostname()
        is_stale = not _is_running(holder) if here else age > _SILENT_SECONDS
        who = f"process {holder.get('process')} on {holder.get('host')} since {holder.get('started')}"
    if not is_stale:
        raise OutputError(
            f"the folder {path.parent} is in use by {who}; wait for it or end it, or choose another folder. If that "
            f"process is gone, delete {path}"
        )
    with suppress(OSError):
        path.unlink()


def _read(path: Path) -> dict[str, Any] | None:
    """The holder that a lock file names; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"host", "process", "started"} <= content.keys() else None


def _identity(process: int) -> dict[str, Any]:
    """Machine, process id, and the process's start in the kernel's own count, as ids are given anew."""
    return {"host": socket.gethostname(), "process": process, "process_start": _kernel_start(process)}


def _is_own(holder: Mapping[str, Any] | None) -> bool:
    return holder is not None and _identity(os.getpid()).items() <= holder.items()


def _is_running(holder: Mapping[str, Any]) -> bool:
    """Whether the holder's process, and no later one of the same id, runs on this machine."""
    process = holder.get("process")
    if not isinstance(process, int) or process <= 0:
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it runs, as another user's
    return holder.get("process_start") == _kernel_start(process)


def _kernel_start(process: int) -> int | None:
    """The start of a process in clock ticks since the machine's; None where it has ended, or without /proc."""
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        fields = state.rpartition(")")[2].split()
        return int(fields[19]) if fields[0] != "Z" else None
    except (OSError, ValueError, IndexError):
        return None


def _refresh(path: Path, done: threading.Event) -> None:
    """Show other machines that the holder still runs."""
    while not done.wait(_REFRESH_SECONDS):
        with suppress(OSError):
            os.utime(path)
