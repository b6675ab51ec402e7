"""Independent jobs shared among processes or threads, their results in order and never too many of them waiting."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from stemseg.utils.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, max_ahead: int
) -> Iterator[Result]:
    """``map`` in threads; with 0 workers everything happens in place. For work that releases the interpreter.

    Args:
        max_ahead: results, at most, that wait to be asked for.

    Raises:
        whatever ``function`` raises, where its result would have come; the threads have ended then.
    """
    if workers < 1:
        return map(function, jobs)
    return _in_order(ThreadPoolExecutor(workers), function, jobs, max_ahead)


def map_in_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, max_ahead: int
) -> Iterator[Result]:
    """``map`` in processes; with 1 worker, or 0, everything happens in place.

    Args:
        function: must be importable by name.
        max_ahead: results, at most, that wait to be asked for.

    Raises:
        whatever ``function`` raises, where its result would have come; the processes have ended then.
    """
    if workers < 2:
        return map(function, jobs)
    # fresh processes, not forks: those would inherit the thread pools of OpenCV and torch without their threads, and
    # could wait forever; and this process may hold gigabytes
    context = multiprocessing.get_context("spawn")
    pool: Executor = ProcessPoolExecutor(workers, context, _use_one_thread)
    if b"__main__" not in pickle.dumps(function):
        pool = _WithoutMain(pool)
    return _in_order(pool, function, jobs, max_ahead)


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    sizes: Sequence[int],
    workers: int,
    progress: str | None = None,
) -> list[Result]:
    """``[function(job) for job in jobs]`` in ``workers`` processes.

    Args:
        function: must be importable by name.
        sizes: how much work each job is; the largest start first, so that none begins when all others are done.
        progress: text of a progress bar; None: show none.
    """
    order = sorted(range(len(jobs)), key=lambda i: -sizes[i])
    workers = min(workers, len(jobs))
    found = map_in_processes(function, [jobs[i] for i in order], workers=workers, max_ahead=len(jobs))
    results: dict[int, Result] = {}
    with tqdm(total=len(jobs), desc=progress, disable=progress is None, unit="video") as bar:
        for index, result in zip(order, found, strict=True):
            results[index] = result
            bar.update()
    return [results[i] for i in range(len(jobs))]


class _WithoutMain(Executor):
    """Processes of another executor that don't run the main file again when they start, as fresh ones would.

    They import what they do. There need be no main file (``python < script``), and one without
    ``if __name__ == "__main__":`` would start processes of its own.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool

    def submit(self, *job: Any, **options: Any) -> Future[Any]:
        """See :class:`concurrent.futures.Executor`; a job may start a process."""
        main = vars(sys.modules["__main__"])
        told: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
        try:
            main.update(dict.fromkeys(told))
            return self._pool.submit(*job, **options)
        finally:
            main.update(told)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See :class:`concurrent.futures.Executor`."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


def _in_order(
    pool: Executor, function: Callable[[Job], Result], jobs: Iterable[Job], max_ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) > max_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenExecutor:
        raise DataError(
            "a worker process was killed, most likely since the memory does not suffice; give a smaller --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _use_one_thread() -> None:
    """Called in a new process: the processes already share out the cores."""
    cv2.setNumThreads(1)


class BackgroundWorker:
    """Does jobs one after another, in order, in a thread of its own. Use it in a ``with`` block, or call finish.

    Args:
        max_waiting: jobs, at most, that wait for the one that is being done.
        in_place: no thread: a job is done when it is given.
    """

    def __init__(self, *, max_waiting: int, in_place: bool = False) -> None:
        self._pool = None if in_place else ThreadPoolExecutor(1)
        self._max_waiting = max_waiting
        self._jobs: deque[Future[object]] = deque()

    def do(self, job: Callable[[], object]) -> None:
        """Give a job; waits while too many others do.

        Raises:
            whatever an earlier job raised; those behind it are not done.
        """
        if self._pool is None:
            job()
            return
        self._wait(self._max_waiting)
        self._jobs.append(self._pool.submit(job))

    def finish(self) -> None:
        """Wait for all jobs; raises as :meth:`do`."""
        self._wait(0)

    def _wait(self, left: int) -> None:
        """Wait until at most ``left`` jobs are not done."""
        try:
            while self._jobs and (len(self._jobs) > left or self._jobs[0].done()):
                self._jobs.popleft().result()
        except BaseException:
            while self._jobs:
                self._jobs.pop().cancel()
            raise

    def __enter__(self) -> BackgroundWorker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish; after an error elsewhere too, what was given is still done, and that error goes on."""
        try:
            if kind is None:
                self.finish()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True)
