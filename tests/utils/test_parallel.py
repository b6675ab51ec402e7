"""Jobs in threads and processes: results in order, within a bound, errors in their place."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemseg.utils.parallel import BackgroundWorker, map_in_processes, map_in_threads, run_jobs
from tests.helpers.paths import ROOT

MAPS = {"threads": map_in_threads, "processes": map_in_processes}


def square(x: int) -> int:
    return x * x


def fail_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", MAPS)
def test_results_come_in_order(kind: str, workers: int) -> None:
    results = MAPS[kind](square, range(20), workers=workers, max_ahead=3)
    assert list(results) == [x * x for x in range(20)]


def test_items_are_taken_only_a_bounded_amount_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = map_in_threads(lambda x: x, items(), workers=2, max_ahead=5)
    for expected in range(10):
        assert next(results) == expected
        assert len(taken) <= expected + 1 + 5
    results.close()


@pytest.mark.parametrize("kind", MAPS)
def test_an_error_comes_in_its_place_and_ends_the_workers(kind: str) -> None:
    before = threading.active_count()
    results = MAPS[kind](fail_at_three, range(10), workers=2, max_ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threading.active_count() == before


def test_the_largest_jobs_start_first_and_results_keep_their_order() -> None:
    started: list[int] = []
    assert run_jobs(lambda x: started.append(x) or -x, [1, 3, 2], sizes=[1, 3, 2], workers=1) == [-1, -3, -2]
    assert started == [3, 2, 1]
    assert run_jobs(abs, [-3, 1, -2], sizes=[3, 1, 2], workers=2) == [3, 1, 2]


def process_of(x: int) -> int:
    return os.getpid()


def test_processes_are_other_processes() -> None:
    assert os.getpid() not in set(map_in_processes(process_of, range(4), workers=2, max_ahead=2))


@pytest.mark.parametrize("way", ["no main file", "a main file without a guard"])
def test_processes_do_not_run_the_main_file_again(tmp_path: Path, way: str) -> None:
    script = (
        "from tests.utils import test_parallel as t\nprint(t.run_jobs(t.square, [0, 1, 2], sizes=[1] * 3, workers=2))"
    )
    path = tmp_path / "own.py"
    path.write_text(script)
    command = [sys.executable, str(path)] if way.startswith("a main") else [sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, input=script, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "[0, 1, 4]\n", result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("in_place", [False, True])
def test_a_background_worker_does_its_jobs_in_order(in_place):
    done = []
    with BackgroundWorker(max_waiting=2, in_place=in_place) as worker:
        for i in range(20):
            worker.do(lambda i=i: done.append(i))
    assert done == list(range(20))


def test_few_jobs_wait():
    gate, begun = threading.Event(), []
    with BackgroundWorker(max_waiting=1) as worker:
        worker.do(lambda: begun.append(0) or gate.wait(5))
        worker.do(lambda: begun.append(1))
        threading.Timer(0.05, gate.set).start()
        worker.do(lambda: begun.append(2))  # waits until the first is done
        assert gate.is_set()
    assert begun == [0, 1, 2]


def test_an_error_in_the_background_is_raised_at_the_next_call():
    def fail():
        raise ValueError("broken")

    worker = BackgroundWorker(max_waiting=0)
    worker.do(fail)
    with pytest.raises(ValueError, match="broken"):
        worker.do(lambda: None)
    with pytest.raises(ValueError, match="broken"), BackgroundWorker(max_waiting=3) as other:
        other.do(fail)


def test_after_an_error_elsewhere_what_was_given_is_still_done():
    done, gate = [], threading.Event()
    with pytest.raises(KeyboardInterrupt), BackgroundWorker(max_waiting=3) as worker:
        worker.do(lambda: gate.wait(5) and done.append(0))
        worker.do(lambda: done.append(1))
        gate.set()
        raise KeyboardInterrupt
    assert done == [0, 1]
