"""Share independent jobs among processes."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")


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
        function: must be importable by name, as for any process pool.
        sizes: how much work each job is; the largest start first, so that none begins when all others are done.
        progress: text of a progress bar; None: show none.
    """
    order = sorted(range(len(jobs)), key=lambda i: -sizes[i])
    results: dict[int, Result] = {}
    with tqdm(total=len(jobs), desc=progress, disable=progress is None, unit="video") as bar:
        for index, result in zip(order, _results(function, [jobs[i] for i in order], workers), strict=True):
            results[index] = result
            bar.update()
    return [results[i] for i in range(len(jobs))]


def _results(function: Callable[[Job], Result], jobs: Sequence[Job], workers: int):
    if workers <= 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    # a forked process would inherit the thread pools of OpenCV and torch without their threads, and could wait forever
    with ProcessPoolExecutor(min(workers, len(jobs)), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, jobs)


# Work ahead in threads, in order and by a bounded amount, while the network is busy.


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int, max_ahead: int
) -> Iterator[Result]:
    """``map`` in ``num_workers`` threads: results in order, never more than ``max_ahead`` of them waiting.

    OpenCV and file reading release the interpreter, so threads suffice. With 0 workers everything happens in place. An
    error in ``function`` is raised where its result would have come.
    """
    if num_workers == 0:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > max_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
