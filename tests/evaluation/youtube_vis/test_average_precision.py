"""AP over videos: the official tool's answers, and the edge cases that it defines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo
from stemseg.evaluation.masks import mask_intersections, video_ious
from stemseg.evaluation.youtube_vis.average_precision import ApReport, evaluate_average_precision
from stemseg.evaluation.youtube_vis.files import load_ground_truth, load_results
from stemseg.structures.rle import decode_rle, encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, known_answers, write_json
from tests.helpers.paths import GOLDEN_DIR

LEFT, RIGHT = box(2, 2, 10, 10), box(25, 2, 10, 10)


def _truth(*videos: list[GroundTruthTrack], num_classes: int = 2) -> GroundTruth:
    length = max((len(t.segmentations) for tracks in videos for t in tracks), default=1)
    paths = [f"{t}.jpg" for t in range(length)]
    entries = [GroundTruthVideo(str(i), HEIGHT, WIDTH, paths, tracks) for i, tracks in enumerate(videos, 1)]
    return GroundTruth(Path("truth.json"), {k: f"class {k}" for k in range(1, num_classes + 1)}, entries)


def _results(video: int, *tracks: tuple[int, float, list[str | None]]) -> VideoTracks:
    length = len(tracks[0][2]) if tracks else 1
    entries = [Track(i, *track) for i, track in enumerate(tracks, 1)]
    return VideoTracks(str(video), HEIGHT, WIDTH, length, [str(t) for t in range(length)], entries)


def test_figures_of_generated_videos_equal_the_official_tools(tmp_path: Path) -> None:
    golden = json.loads((GOLDEN_DIR / "official_youtube_vis.json").read_text())
    truth = load_ground_truth(write_json(tmp_path / "truth.json", golden["ground_truth"]))
    results = load_results(write_json(tmp_path / "results.json", golden["results"]), truth)
    report, expected = evaluate_average_precision(results, truth), golden["expected"]
    assert report.ap_per_threshold.tolist() == pytest.approx(expected.pop("AP_per_threshold"), abs=1e-12)
    assert report.scalars() == pytest.approx(expected, abs=1e-12)
    assert len(set(expected.values())) == len(expected)  # so that no figure passes for another


def test_figures_of_real_detections_equal_the_official_tools() -> None:
    folder = known_answers("ytvis_coco100")
    truth = load_ground_truth(folder / "ytvis_gt_withcrowd.json")
    report = evaluate_average_precision(load_results(folder / "ytvis_results.json", truth), truth)
    expected = json.loads((folder / "expected.json").read_text())["withcrowd"]["ytvis"]
    names = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP_S": "AP_s", "AP_M": "AP_m", "AP_L": "AP_l",
             "AR1": "AR1", "AR10": "AR10", "AR100": "AR100"}  # fmt: skip
    for ours, theirs in names.items():
        assert report.scalars()[ours] == pytest.approx(expected[theirs], abs=1e-9), ours
    assert report.ap_per_threshold.mean() == pytest.approx(expected["AP"], abs=1e-9)
    assert report.ap_per_threshold[5] == pytest.approx(expected["AP75"], abs=1e-9)


def test_iou_is_of_the_whole_video() -> None:
    """One of two frames fits, the other is missed: IoU 0.5, which counts at threshold 0.5 alone."""
    truth = _truth([GroundTruthTrack(1, 1, [LEFT, LEFT])])
    report = evaluate_average_precision([_results(1, (1, 0.9, [LEFT, None]))], truth)
    assert report.overall.ap50 == pytest.approx(1.0)
    assert report.overall.ap == pytest.approx(0.1)
    assert report.ap_per_threshold == pytest.approx([1.0] + [0.0] * 9)


def test_a_false_positive_ranked_first_costs_precision() -> None:
    truth = _truth([GroundTruthTrack(1, 1, [LEFT])])
    report = evaluate_average_precision([_results(1, (1, 0.9, [RIGHT]), (1, 0.8, [LEFT]))], truth)
    assert report.overall.ap == pytest.approx(0.5)
    assert (report.overall.ar1, report.overall.ar10) == (0.0, 1.0)


@pytest.mark.parametrize(("crowd", "expected"), [(True, 1.0), (False, 0.5)])
def test_what_matches_a_crowd_counts_for_nothing(crowd: bool, expected: float) -> None:
    """Two detections on a crowd region, ranked before the only object: both are ignored."""
    truth = _truth([GroundTruthTrack(1, 1, [LEFT]), GroundTruthTrack(2, 1, [RIGHT], is_crowd=crowd)], num_classes=1)
    detections = [(1, 0.9, [RIGHT]), (1, 0.8, [RIGHT]), (1, 0.7, [LEFT])]
    report = evaluate_average_precision([_results(1, *detections)], truth)
    if crowd:
        assert report.overall.ap == pytest.approx(expected)
        assert report.overall.ar100 == 1.0
    else:
        assert report.overall.ap < 1.0, "the second detection of an object that is already matched is a false positive"


def test_a_crowd_is_matched_by_plain_iou() -> None:
    """A part of a crowd is no match, unlike in COCO: it stays a false positive."""
    wide = box(0, 0, 40, 24)
    truth = _truth([GroundTruthTrack(1, 1, [LEFT]), GroundTruthTrack(2, 1, [wide], is_crowd=True)], num_classes=1)
    report = evaluate_average_precision([_results(1, (1, 0.9, [RIGHT]), (1, 0.8, [LEFT]))], truth)
    assert report.overall.ap == pytest.approx(0.5)


def test_area_is_the_mean_over_visible_frames() -> None:
    """The stated area decides: 130^2 pixels are medium; without one the masks' own 100 pixels are small."""
    stated = _truth([GroundTruthTrack(1, 1, [LEFT, None], area=130.0**2)])
    counted = _truth([GroundTruthTrack(1, 1, [LEFT, None])])
    results = [_results(1, (1, 0.9, [LEFT, None]))]
    report = evaluate_average_precision(results, stated).overall
    assert math.isnan(report.ap_small) and report.ap_medium == pytest.approx(1.0)
    report = evaluate_average_precision(results, counted).overall
    assert report.ap_small == pytest.approx(1.0) and math.isnan(report.ap_medium)


def test_classes_without_ground_truth_are_left_out_of_the_mean() -> None:
    truth = _truth([GroundTruthTrack(1, 1, [LEFT])])
    report = evaluate_average_precision([_results(1, (1, 0.9, [LEFT]), (2, 0.8, [RIGHT]))], truth)
    assert report.overall.ap == pytest.approx(1.0)
    assert math.isnan(report.per_class["class 2"].ap)


def test_nothing_predicted_and_nothing_there() -> None:
    truth = _truth([GroundTruthTrack(1, 1, [LEFT])])
    assert evaluate_average_precision([], truth).overall.ap == 0.0
    empty = evaluate_average_precision([_results(1)], _truth([]))
    assert math.isnan(empty.overall.ap) and math.isnan(empty.ap_per_threshold[0])
    all_none = evaluate_average_precision([_results(1, (1, 0.9, [None]))], truth)
    assert all_none.overall.ap == 0.0


def test_at_most_a_hundred_detections_count_per_video() -> None:
    truth = _truth([GroundTruthTrack(1, 1, [LEFT])])
    wrong = [(1, 0.9, [RIGHT])] * 100
    assert evaluate_average_precision([_results(1, *wrong, (1, 0.1, [LEFT]))], truth).overall.ar100 == 0.0
    assert evaluate_average_precision([_results(1, *wrong[1:], (1, 0.1, [LEFT]))], truth).overall.ar100 == 1.0


def test_equal_scores_are_ranked_by_numeric_video_id() -> None:
    """Videos 2 and 10 tie: the official files' order by number puts the true positive of 2 first."""
    truth = _truth(*([GroundTruthTrack(1, 1, [LEFT])] for _ in range(10)), num_classes=1)
    truth = GroundTruth(truth.source, truth.category_labels, [truth.videos[9], truth.videos[1]])

    def ap(of_2: str, of_10: str) -> ApReport:
        return evaluate_average_precision([_results(2, (1, 0.5, [of_2])), _results(10, (1, 0.5, [of_10]))], truth)

    assert ap(LEFT, RIGHT).overall.ap > ap(RIGHT, LEFT).overall.ap


def test_unknown_categories_are_left_out_with_a_word() -> None:
    truth = _truth([GroundTruthTrack(1, 1, [LEFT])])
    with pytest.warns(UserWarning, match=r"categories \[9\] are left out"):
        report = evaluate_average_precision([_results(1, (9, 0.9, [LEFT]))], truth)
    assert report.overall.ap == 0.0
    report = evaluate_average_precision([_results(1, (9, 0.9, [LEFT]))], truth, class_agnostic=True)
    assert report.overall.ap == pytest.approx(1.0)


def test_overlaps_equal_those_of_decoded_masks() -> None:
    rng = np.random.default_rng(0)
    masks = [encode_rle(rng.random((HEIGHT, WIDTH)) < p) for p in (0.0, 0.02, 0.5, 0.9, 1.0)]
    decoded = [decode_rle(m, HEIGHT, WIDTH).astype(bool) for m in masks]
    expected = [[(a & b).sum() for b in decoded] for a in decoded]
    assert mask_intersections(masks, masks, HEIGHT, WIDTH).tolist() == expected
    tracks = [[masks[1], None, masks[2]], [masks[3], masks[4], None], [None, masks[0], None]]
    stacks = [
        np.stack([np.zeros((HEIGHT, WIDTH), bool) if m is None else decoded[masks.index(m)] for m in t]) for t in tracks
    ]
    ious = [[(a & b).sum() / max(1, (a | b).sum()) for b in stacks] for a in stacks]
    assert video_ious(tracks, tracks, HEIGHT, WIDTH).tolist() == ious
