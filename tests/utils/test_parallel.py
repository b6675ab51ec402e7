"""Working ahead keeps the order, stays within its bound and passes errors on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stemseg.utils.parallel import map_ahead


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_results_come_in_order(num_workers: int) -> None:
    assert list(map_ahead(lambda x: x * x, range(50), num_workers=num_workers, max_ahead=3)) == [
        x * x for x in range(50)
    ]


def test_items_are_taken_only_a_bounded_amount_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = map_ahead(lambda x: x, items(), num_workers=2, max_ahead=5)
    for expected in range(10):
        assert next(results) == expected
        assert len(taken) <= expected + 1 + 5
    results.close()


def test_an_error_comes_in_its_place_and_ends_the_threads() -> None:
    def fail_at_three(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x

    before = threading.active_count()
    results = map_ahead(fail_at_three, range(10), num_workers=2, max_ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert threading.active_count() == before
