"""Timers count what they should and nothing else."""

import time

import pytest

from stemseg.utils.timing import RecentMedian, Stopwatch, format_duration


def test_stages_add_up_and_survive_errors(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    with watch.stage("load"):
        pass
    with watch.stage("load"):
        pass
    with pytest.raises(ValueError, match="broken"), watch.stage("save"):
        raise ValueError("broken")
    assert watch.seconds == {"load": 4.0, "save": 5.0}


def test_recent_median_forgets_what_leaves_the_window():
    rate = RecentMedian(window=3)
    assert rate.median == 0.0
    for value in (100.0, 1.0, 2.0, 3.0):
        rate.add(value)
    assert rate.median == 2.0
    assert RecentMedian(3, rate.values).values == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (41.6, "0:42"), (3723, "1:02:03"), (2 * 86400 + 3723, "2 d 01:02:03"), (-5, "0:00")],
)
def test_durations_are_written_for_people(seconds, text):
    assert format_duration(seconds) == text
