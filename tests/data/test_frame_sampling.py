from collections import Counter

import numpy as np
import pytest

from stemseg.data.frame_sampling import (
    FrameGap,
    Segment,
    SegmentSampler,
    frames_with_instances,
    sample_frames,
    split_at_empty_stretches,
)
from stemseg.utils.errors import DataError


@pytest.mark.parametrize(
    ("length", "num_frames", "gap"),
    [(20, 8, (16, 16)), (30, 8, (4, 12)), (10, 8, (8, 8)), (12, 16, (8, 40)), (3, 2, (1, 1))],
)
def test_clips_span_what_the_gap_allows(length, num_frames, gap):
    rng = np.random.default_rng(0)
    spans, starts = Counter(), set()
    for _ in range(300):
        frames = sample_frames(length, num_frames, FrameGap(*gap), rng)
        assert len(frames) == num_frames and frames[0] >= 0 and frames[-1] < length and (np.diff(frames) >= 0).all()
        span = int(frames[-1] - frames[0])
        np.testing.assert_array_equal(frames, np.round(np.linspace(frames[0], frames[0] + span, num_frames)))
        spans[span] += 1
        starts.add(int(frames[0]))
    assert set(spans) == set(range(gap[0], min(gap[1], length - 1) + 1))
    assert starts == set(range(length - min(spans)))


def test_frames_without_instances_are_dropped():
    assert frames_with_instances([False, True, True, False, True, False]) == [(1, 2, 4)]
    assert frames_with_instances([False, False]) == []


def test_kitti_mots_splits_at_six_empty_frames_only():
    occupied = [False, True, *[False] * 5, True, *[False] * 6, True, True, False]
    assert split_at_empty_stretches(occupied) == [tuple(range(1, 8)), (14, 15)]
    assert split_at_empty_stretches([False] * 9) == []
    assert split_at_empty_stretches([True]) == [(0,)]


def test_segments_are_drawn_in_proportion_to_their_length():
    segments = [Segment(0, tuple(range(10))), Segment(1, tuple(range(30))), Segment(2, tuple(range(5)))]
    sampler = SegmentSampler(segments, FrameGap(4, 4), where="file")  # 5 frames are not more than 4 + 1
    rng = np.random.default_rng(0)
    drawn = Counter(sampler.draw(rng).sequence for _ in range(4000))
    assert len(sampler) == 40 and set(drawn) == {0, 1}
    assert drawn[1] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("lengths", [(), (4, 9)])
def test_no_sequence_long_enough_says_what_to_do(lengths):
    segments = [Segment(i, tuple(range(n))) for i, n in enumerate(lengths)]
    with pytest.raises(DataError, match=r"train.json: no sequence has more than 9 frames.*FRAME_GAP_LOWER"):
        SegmentSampler(segments, FrameGap(8, 8), where="train.json")


def test_the_suggested_gap_works():
    segment = Segment(0, tuple(range(9)))
    with pytest.raises(DataError, match="to 7 or less"):
        SegmentSampler([segment], FrameGap(8, 8), where="file")
    assert len(SegmentSampler([segment], FrameGap(7, 8), where="file")) == 9
