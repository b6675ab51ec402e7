"""The in-memory interface: tracks against annotated videos."""

from pathlib import Path

import numpy as np
import pytest

from stemseg.evaluation.video_tracks import evaluate_video_tracks
from stemseg.structures.annotations import VideoAnnotations, VideoSequence
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError

HEIGHT, WIDTH, LENGTH = 40, 50, 4


def _square(left, top, size=10):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top : top + size, left : left + size] = 1
    return encode_rle(mask)


MOVING = [_square(2 + 3 * t, 5) for t in range(LENGTH)]
LATE = [None, None, _square(30, 25), _square(28, 25)]


def _annotations(segmented=True):
    frames = [{1: MOVING[t]} | ({7: LATE[t]} if LATE[t] else {}) for t in range(LENGTH)]
    sequence = VideoSequence(
        id=3,
        height=HEIGHT,
        width=WIDTH,
        image_paths=[f"a/{t:05d}.jpg" for t in range(LENGTH)],
        categories={1: 1, 7: 2} if segmented else None,
        segmentations=frames if segmented else None,
    )
    return VideoAnnotations(Path("truth.json"), {1: "disk", 2: "star"}, [sequence])


def _result(*tracks, sequence_id="3", height=HEIGHT):
    ranked = [Track(i, category, score, masks) for i, (category, score, masks) in enumerate(tracks, start=1)]
    return VideoTracks(sequence_id, height, WIDTH, LENGTH, [f"{t:05d}" for t in range(LENGTH)], ranked)


def test_perfect_tracks_score_one_everywhere():
    metrics = evaluate_video_tracks([_result((1, 0.9, MOVING), (2, 0.8, LATE))], _annotations())
    scalars = metrics.scalars()
    assert scalars["AP"] == pytest.approx(1.0)
    assert scalars["AR1"] == scalars["J&F-Mean"] == scalars["J-Recall"] == 1.0
    assert scalars["J-Decay"] == 0.0
    assert [scores.name for scores in metrics.davis.objects] == ["3_1", "3_7"]


def test_wrong_class_costs_ap_only():
    swapped = [_result((2, 0.9, MOVING), (1, 0.8, LATE))]
    metrics = evaluate_video_tracks(swapped, _annotations()).scalars()
    assert metrics["AP"] == 0.0
    assert metrics["J&F-Mean"] == 1.0
    agnostic = evaluate_video_tracks(swapped, _annotations(), class_agnostic=True)
    assert agnostic.scalars()["AP"] == pytest.approx(1.0)
    assert agnostic.average_precision.per_class == {}


def test_a_missed_late_object_counts_where_it_is_absent_too():
    """Nothing predicted: J of the late object is 1 in the two frames without it and 0 in the two with it."""
    metrics = evaluate_video_tracks([_result((1, 0.9, MOVING))], _annotations())
    assert metrics.scalars()["J-Mean"] == pytest.approx((1.0 + 0.5) / 2)
    assert metrics.average_precision.per_class["disk"].ap == pytest.approx(1.0)
    assert metrics.average_precision.per_class["star"].ap == 0.0


def test_later_ranked_tracks_hide_earlier_ones():
    metrics = evaluate_video_tracks([_result((1, 0.9, MOVING), (2, 0.8, LATE), (1, 0.1, MOVING))], _annotations())
    assert metrics.scalars()["J-Mean"] == 1.0, "the copy in front takes all pixels and is the one that is matched"


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([_result(sequence_id="4")], "video '4'"),
        ([_result(height=41)], "41 x 50"),
        ([_result((1, 0.9, MOVING[:3]))], "3 segmentations"),
        ([_result(), _result()], "twice"),
        ([], "lack 1 of the 1 videos"),
    ],
)
def test_results_that_do_not_fit_are_named(results, message):
    with pytest.raises(DataError, match=message):
        evaluate_video_tracks(results, _annotations())


def test_ground_truth_without_annotations_says_how_to_submit():
    with pytest.raises(DataError, match=r"can't be computed locally.*results\.zip"):
        evaluate_video_tracks([_result()], _annotations(segmented=False))
