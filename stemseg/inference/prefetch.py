"""Work ahead in threads, in order and by a bounded amount, while the network is busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
