"""AP with one thing replaced by the truth, on videos small enough to be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.evaluation.youtube_vis.average_precision import evaluate_average_precision
from stemseg.evaluation.youtube_vis.oracle import (
    OracleReport,
    evaluate_oracles,
    true_identities,
    true_masks,
    true_order,
)
from stemseg.structures.tracks import Track, VideoTracks
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box

LEFT, RIGHT, NOWHERE = box(2, 2, 10, 10), box(25, 2, 10, 10), box(2, 15, 6, 6)
LEFT_WIDE = box(2, 2, 15, 10)  # IoU 100 / 150 with LEFT
FRAMES = ["0.jpg", "1.jpg"]


def _truth(*objects: tuple[int, list[str | None]]) -> GroundTruth:
    tracks = [GroundTruthTrack(i, *values) for i, values in enumerate(objects, 1)]
    video = GroundTruthVideo("1", HEIGHT, WIDTH, FRAMES, tracks)
    return GroundTruth(Path("truth.json"), {1: "one", 2: "two"}, [video])


def _results(*tracks: tuple[int, float, list[str | None]]) -> VideoTracks:
    return VideoTracks("1", HEIGHT, WIDTH, 2, ["0", "1"], [Track(i, *track) for i, track in enumerate(tracks, 1)])


def _oracles(result: VideoTracks, truth: GroundTruth, **options: bool) -> OracleReport:
    found = evaluate_average_precision([result], truth, **options)
    return evaluate_oracles([result], truth, found, **options)


def _gains(report: OracleReport) -> dict[str, float]:
    return {name: row[-1] for name, row in report.tables()[-1].rows.items()}


def test_a_perfect_result_has_nothing_to_gain() -> None:
    truth = _truth((1, [LEFT] * 2), (2, [RIGHT, None]))
    report = _oracles(_results((1, 0.5, [LEFT] * 2), (2, 0.5, [RIGHT, None])), truth)
    assert report.found.overall.ap == pytest.approx(1)
    assert _gains(report) == pytest.approx(dict.fromkeys(["nothing", "order", "identity", "masks", "classes"], 0))


def test_order() -> None:
    """A false track before a true one halves the precision at every recall; the true order puts it last."""
    truth = _truth((1, [LEFT] * 2))
    result = _results((1, 0.9, [NOWHERE] * 2), (1, 0.5, [LEFT] * 2))
    assert _gains(_oracles(result, truth)) == pytest.approx(
        {"nothing": 0, "order": 0.5, "identity": 0, "masks": 0, "classes": 0}
    )
    assert [track.score for track in true_order(result, truth.videos[0], False)] == [0, 1]


def test_the_order_counts_objects_of_a_track_s_class_only() -> None:
    truth, result = _truth((1, [LEFT] * 2)), _results((2, 0.9, [LEFT] * 2))
    assert [track.score for track in true_order(result, truth.videos[0], False)] == [0]
    assert [track.score for track in true_order(result, truth.videos[0], True)] == [1]


def test_classes() -> None:
    truth = _truth((1, [LEFT] * 2))
    result = _results((2, 0.9, [LEFT] * 2))
    assert _gains(_oracles(result, truth)) == pytest.approx(
        {"nothing": 0, "order": 0, "identity": 0, "masks": 0, "classes": 1}
    )
    assert "classes" not in _oracles(result, truth, class_agnostic=True).oracles


def test_masks() -> None:
    """An IoU of 2/3 counts at the thresholds .5, .55, .6 and .65 of ten."""
    truth = _truth((1, [LEFT] * 2))
    report = _oracles(_results((1, 0.9, [LEFT_WIDE] * 2)), truth)
    assert report.found.overall.ap == pytest.approx(0.4)
    assert _gains(report) == pytest.approx({"nothing": 0, "order": 0, "identity": 0, "masks": 0.6, "classes": 0})


def test_masks_keep_their_identities_and_frames() -> None:
    truth = _truth((1, [LEFT, LEFT]), (1, [RIGHT, RIGHT]))
    switched = _results((1, 0.9, [LEFT_WIDE, RIGHT]), (1, 0.8, [None, NOWHERE]))
    tracks = true_masks(switched, truth.videos[0], False)
    assert [track.segmentations for track in tracks] == [[LEFT, RIGHT], [None, NOWHERE]]


def test_identity() -> None:
    """Two tracks that swap their objects have an IoU of 1/3 with each."""
    truth = _truth((1, [LEFT] * 2), (1, [RIGHT] * 2))
    result = _results((1, 0.9, [LEFT, RIGHT]), (1, 0.8, [RIGHT, LEFT]))
    report = _oracles(result, truth)
    assert report.found.overall.ap == 0
    assert _gains(report) == pytest.approx({"nothing": 0, "order": 0, "identity": 1, "masks": 0, "classes": 0})


def test_joined_masks_have_the_score_of_most_and_what_is_left_stays() -> None:
    truth = _truth((1, [LEFT, LEFT]))
    result = _results((1, 0.3, [LEFT_WIDE, NOWHERE]), (2, 0.8, [LEFT, LEFT]))
    joined, rest = true_identities(result, truth.videos[0], False)
    assert (joined.category_id, joined.score, joined.segmentations) == (2, 0.8, [LEFT, LEFT])
    assert (rest.category_id, rest.score, rest.segmentations) == (1, 0.3, [LEFT_WIDE, NOWHERE])


def test_nothing_found_or_nothing_there() -> None:
    assert _gains(_oracles(_results(), _truth((1, [LEFT] * 2))))["masks"] == 0
    result, video = _results((1, 0.9, [LEFT, None])), _truth((1, [None, None])).videos[0]
    assert true_identities(result, video, False) == result.tracks == true_masks(result, video, False)


def test_scalars_name_every_oracle() -> None:
    report = _oracles(_results((1, 0.9, [LEFT_WIDE] * 2)), _truth((1, [LEFT] * 2)))
    assert report.scalars()["AP, true masks"] == pytest.approx(1)
    assert report.scalars()["AP"] == pytest.approx(0.4)
