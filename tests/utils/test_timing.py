"""Timers count what they should and nothing else."""

import time

import pytest
import torch

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


class _FakeEvent:
    """Stands for a mark in a GPU's queue: events are a second apart."""

    count = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        type(self).count += 1
        self.time = type(self).count

    def elapsed_time(self, other):
        return 1000.0 * (other.time - self.time)


def test_a_gpu_is_waited_for_only_where_its_seconds_are_asked_for(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "Event", _FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    watch = Stopwatch(torch.device("cuda"))
    for name in ("heads", "heads", "masks"):
        with watch.stage(name):
            pass
    assert not waits
    assert watch.seconds == {"heads": 2.0, "masks": 1.0}
    assert watch.seconds == {"heads": 2.0, "masks": 1.0}
    assert len(waits) == 1


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
