from collections import Counter

import numpy as np
import pytest

from stemseg.data.dataset import MixSchedule, share_out


def test_shares_are_exact():
    weights = (0.25, 0.1, 0.35, 0.3)
    schedule = MixSchedule([1000, 7, 40, 3], weights, 200, seed=0)
    assert len(schedule) == 200
    assert Counter(schedule[i][0] for i in range(200)) == {0: 50, 1: 20, 2: 70, 3: 60}


@pytest.mark.parametrize("total", [1, 7, 100, 101])
def test_shares_add_up(total):
    counts = share_out(total, (1, 1, 1))
    assert counts.sum() == total and counts.max() - counts.min() <= 1


def test_a_small_set_passes_evenly_through_its_elements():
    schedule = MixSchedule([5, 3], (0.5, 0.5), 64, seed=1)
    for dataset, length in ((0, 5), (1, 3)):
        positions = [p for d, p in (schedule[i] for i in range(64)) if d == dataset]
        counts = Counter(positions)
        assert set(counts) == set(range(length)) and max(counts.values()) - min(counts.values()) <= 1
        first, second = positions[:length], positions[length : 2 * length]
        assert sorted(first) == sorted(second) == list(range(length)) and (length < 5 or first != second)


def test_every_element_of_a_large_set_can_be_drawn():
    drawn = set()
    for seed in range(60):
        schedule = MixSchedule([100, 100], (0.2, 0.8), 50, seed=seed)
        drawn |= {p for d, p in (schedule[i] for i in range(50)) if d == 0}
    assert drawn == set(range(100))


def test_the_order_is_shuffled_and_belongs_to_the_seed():
    def order(seed):
        return [MixSchedule([9, 9], (1, 1), 40, seed)[i] for i in range(40)]

    assert order(3) == order(3) != order(4)
    datasets = np.array([d for d, _ in order(3)])
    assert (np.diff(datasets) != 0).sum() > 5  # not one dataset after the other
