"""KITTI-MOTS: the official tool's counts, HOTA against TrackEval and by its definition, file formats, broken input."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.evaluation.ground_truth import ground_truth_from_annotations, read_sequence_names
from stemseg.evaluation.kitti_mots.clear_mots import ClassFrame, ClearCounts, count_matches
from stemseg.evaluation.kitti_mots.files import (
    MotsObject,
    MotsSequence,
    mots_from_ground_truth,
    read_mots,
    read_mots_pngs,
    read_mots_txt,
)
from stemseg.evaluation.kitti_mots.hota import HotaSums, sum_hota
from stemseg.evaluation.kitti_mots.measures import (
    MOTS_COLUMNS,
    LoadedPair,
    MotsPair,
    MotsReport,
    class_frames,
    evaluate_mots,
    open_mots,
)
from stemseg.evaluation.video_tracks import evaluate_mots_tracks
from stemseg.structures.annotations import VideoAnnotations, VideoSequence, save_video_annotations
from stemseg.structures.rle import decode_rle, encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, known_answers
from tests.helpers.paths import GOLDEN_DIR

CAR, OTHER = box(2, 2, 10, 10), box(20, 2, 10, 10)


def _line(frame: int, track: int, class_id: int, counts: str, height: int = HEIGHT) -> str:
    return f"{frame} {track} {class_id} {height} {WIDTH} {counts}\n"


def _write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def _evaluate(tmp_path: Path, truth: list[str], result: list[str], last_frame: int | None = None) -> MotsReport:
    paths = _write(tmp_path / "truth.txt", *truth), _write(tmp_path / "result.txt", *result)
    return evaluate_mots([MotsPair("one", *paths, last_frame)])


def _frames(*matches: int | None) -> list[ClassFrame]:
    """One object, matched by the given track in each frame, or by none."""
    return [
        ClassFrame(
            np.array([7]), np.array([] if m is None else [m], dtype=int), np.full((1, 0 if m is None else 1), 0.8)
        )
        for m in matches
    ]


def test_figures_of_generated_sequences_equal_trackevals(tmp_path: Path) -> None:
    golden = json.loads((GOLDEN_DIR / "official_kitti_mots.json").read_text())
    pairs = [
        MotsPair(
            name,
            _write(tmp_path / "truth" / f"{name}.txt", entry["truth"]),
            _write(tmp_path / "result" / f"{name}.txt", entry["result"]),
            entry["length"] - 1,
        )
        for name, entry in golden["sequences"].items()
    ]
    for name, scores in evaluate_mots(pairs).per_class().items():
        found = dict(zip(MOTS_COLUMNS, scores.row(), strict=True))
        expected = golden["expected"][name]
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12)


def test_figures_of_real_results_equal_the_official_tools() -> None:
    folder = known_answers("kitti_mots_bdd")
    sequences = read_sequence_names([str(folder / "val.seqmap")])
    assert sequences == {"0000": 99}
    report = evaluate_mots(open_mots(folder / "results", folder / "gt", sequences=sequences))
    printed = re.findall(r"^ all (.*)$", (folder / "mots_tools_output.txt").read_text(), flags=re.MULTILINE)
    for scores, line in zip(report.per_class().values(), printed, strict=True):
        values = [float(v) for v in line.split()]
        counts = scores.clear
        assert [counts.tp, counts.fp, counts.fn, counts.ids, counts.frag] == values[13:18]
        assert [round(100 * v, 1) for v in (counts.smotsa, counts.motsa, counts.motsp)] == values[:3]
        tracks = counts.mt + counts.pt + counts.ml
        assert [round(100 * n / tracks, 1) for n in (counts.mt, counts.pt, counts.ml)] == values[10:13]


@pytest.mark.parametrize(
    ("matches", "ids", "frag"),
    [
        ((1, 1, 1), 0, 0),
        ((1, 2, 2), 1, 1),
        ((1, None, 2, 2), 1, 1),  # a switch over a gap counts
        ((1, None, 1, 1), 0, 1),
        ((1, None, 1, None), 0, 0),  # a match of one frame is no fragment ...
        ((1, None, 1), 0, 1),  # ... but at the end it is
        ((None, None, 1), 0, 1),  # the official code counts a first match in the last frame, too
        ((None, 1, 1), 0, 0),
        ((1,), 0, 0),
    ],
)
def test_identity_switches_and_fragmentations(matches: tuple, ids: int, frag: int) -> None:
    counts = count_matches(_frames(*matches))
    assert (counts.ids, counts.frag) == (ids, frag)


@pytest.mark.parametrize(("covered", "expected"), [(9, "mt"), (8, "pt"), (2, "pt"), (1, "ml")])
def test_mostly_tracked_and_mostly_lost(covered: int, expected: str) -> None:
    counts = count_matches(_frames(*[1] * covered, *[None] * (10 - covered)))
    assert {name: getattr(counts, name) for name in ("mt", "pt", "ml")} == {
        name: int(name == expected) for name in ("mt", "pt", "ml")
    }


def test_a_match_needs_more_than_half(tmp_path: Path) -> None:
    half = _evaluate(tmp_path, [_line(0, 1, 1, CAR)], [_line(0, 1, 1, box(2, 2, 10, 5))])
    assert half.per_class()["car"].clear == ClearCounts(fp=1, fn=1, ml=1)
    more = _evaluate(tmp_path, [_line(0, 1, 1, CAR)], [_line(0, 1, 1, box(2, 2, 10, 6))])
    clear = more.per_class()["car"].clear
    assert (clear.tp, clear.soft_tp) == (1, pytest.approx(0.6))
    assert clear.smotsa == pytest.approx(0.6)


def test_results_in_the_ignore_region_count_only_where_they_match(tmp_path: Path) -> None:
    """More than half inside: gone; exactly half: a false positive; a match stays a match wherever it lies."""
    truth = [_line(0, 1001, 1, CAR), _line(0, 10000, 10, OTHER)]
    inside = _evaluate(tmp_path, truth, [_line(0, 1, 1, CAR), _line(0, 2, 1, box(16, 2, 10, 10))])
    assert (inside.per_class()["car"].clear.tp, inside.per_class()["car"].clear.fp) == (1, 0)
    half = _evaluate(tmp_path, truth, [_line(0, 1, 1, CAR), _line(0, 2, 1, box(15, 2, 10, 10))])
    assert (half.per_class()["car"].clear.tp, half.per_class()["car"].clear.fp) == (1, 1)
    assert half.per_class()["car"].hota.fp.tolist() == [1.0] * 19


def test_classes_are_apart(tmp_path: Path) -> None:
    report = _evaluate(tmp_path, [_line(0, 1001, 1, CAR)], [_line(0, 2001, 2, CAR)])
    assert report.per_class()["car"].clear == ClearCounts(fn=1, ml=1)
    assert report.per_class()["pedestrian"].clear == ClearCounts(fp=1)
    assert math.isnan(report.per_class()["pedestrian"].clear.smotsa)
    assert report.scalars()["mean sMOTSA"] == report.scalars()["car sMOTSA"] == 0.0


def test_empty_results_and_empty_truth(tmp_path: Path) -> None:
    nothing_found = _evaluate(tmp_path, [_line(3, 1001, 1, CAR)], [])
    assert nothing_found.per_class()["car"].clear == ClearCounts(fn=1, ml=1)
    assert nothing_found.per_class()["car"].hota.hota == 0.0
    nothing_there = _evaluate(tmp_path, [], [_line(3, 1001, 1, CAR)])
    assert nothing_there.per_class()["car"].clear == ClearCounts(fp=1)
    assert _evaluate(tmp_path, [], []).per_class()["car"].clear == ClearCounts()


def _random_frames(seed: int) -> list[ClassFrame]:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(12):
        truth, result = (np.sort(rng.choice(6, rng.integers(0, 5), replace=False)) for _ in range(2))
        same = truth[:, None] == result[None, :]
        ious = np.where(same, rng.random(same.shape), 0.4 * rng.random(same.shape) * (rng.random(same.shape) < 0.4))
        frames.append(ClassFrame(10 * truth, 5 * result, ious))
    return frames


def _naive_hota(frames: list[ClassFrame], matches: list[list[tuple[int, int]]]) -> float:
    """sqrt(DetA * AssA) at one threshold, from pairs of ids that match in each frame, after the paper's definition."""
    tp = [(t, pair) for t, pairs in enumerate(matches) for pair in pairs]
    num_truth, num_result = (sum(len(f[i]) for f in frames) for i in (0, 1))
    association = 0.0
    for _, (g, p) in tp:
        tpa = sum(pair == (g, p) for _, pair in tp)
        in_truth, in_result = sum(g in f.truth_ids for f in frames), sum(p in f.result_ids for f in frames)
        association += tpa / (in_truth + in_result - tpa)
    return math.sqrt(association / (num_truth + num_result - len(tp)))


def test_hota_by_its_definition() -> None:
    """No two pairs of a frame share an id, so the assignment is known."""
    frames = [
        f._replace(ious=np.where(f.truth_ids[:, None] // 2 == f.result_ids, f.ious, 0.0)) for f in _random_frames(1)
    ]
    expected = []
    for alpha in np.arange(0.05, 0.99, 0.05):
        matches = [
            [(int(f.truth_ids[g]), int(f.result_ids[p])) for g, p in np.argwhere(f.ious >= alpha)] for f in frames
        ]
        expected.append(_naive_hota(frames, matches))
    assert sum_hota(frames).hota == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hota_and_counts_equal_trackeval(seed: int) -> None:
    metrics = pytest.importorskip("trackeval", reason="the optional extra 'eval' is not installed").metrics
    frames = _random_frames(seed)
    ids = [np.unique(np.concatenate([f[i] for f in frames])) for i in (0, 1)]
    data = {
        "num_timesteps": len(frames), "num_gt_ids": len(ids[0]), "num_tracker_ids": len(ids[1]),
        "num_gt_dets": sum(len(f.truth_ids) for f in frames),
        "num_tracker_dets": sum(len(f.result_ids) for f in frames),
        "gt_ids": [np.searchsorted(ids[0], f.truth_ids) for f in frames],
        "tracker_ids": [np.searchsorted(ids[1], f.result_ids) for f in frames],
        "similarity_scores": [f.ious for f in frames],
    }  # fmt: skip
    hota, sums = metrics.HOTA().eval_sequence(data), sum_hota(frames)
    theirs = [hota[name].mean() for name in ("HOTA", "DetA", "AssA", "LocA")]
    assert [sums.hota, sums.det_a, sums.ass_a, sums.loc_a] == pytest.approx(theirs, abs=1e-12)
    clear, counts = metrics.CLEAR().eval_sequence(data), count_matches(frames)
    theirs = [clear[name] for name in ("CLR_TP", "CLR_FP", "CLR_FN", "IDSW", "MT", "PT", "ML")]
    assert [counts.tp, counts.fp, counts.fn, counts.ids, counts.mt, counts.pt, counts.ml] == theirs
    assert counts.smotsa == pytest.approx(clear["sMOTA"], abs=1e-12)


def test_sums_over_sequences_weigh_by_matches() -> None:
    parts = [sum_hota(_random_frames(seed)) for seed in (3, 4)]
    total = parts[0] + parts[1]
    assert min(p.ass_a for p in parts) < total.ass_a < max(p.ass_a for p in parts)
    assert (total + HotaSums()).hota == total.hota


def test_txt_pngs_and_standard_json_are_the_same(tmp_path: Path) -> None:
    masks = {1001: CAR, 2002: OTHER, 10000: box(30, 15, 8, 8)}
    lines = [_line(t, i, i // 1000, counts) for t in (0, 1) for i, counts in masks.items()]
    from_txt = read_mots_txt(_write(tmp_path / "0005.txt", *lines))
    for t in (0, 1):
        ids = np.zeros((HEIGHT, WIDTH), np.uint16)
        for i, counts in masks.items():
            ids[decode_rle(counts, HEIGHT, WIDTH) > 0] = i
        (tmp_path / "0005").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "0005" / f"{t:06d}.png"), ids)
    assert read_mots(tmp_path / "0005") == read_mots(tmp_path / "0005.txt") == from_txt
    paths = [f"0005/{t:06d}.png" for t in (0, 1)]
    sequence = VideoSequence("0005", HEIGHT, WIDTH, paths, {1001: 1, 2002: 2, 10000: 3}, [masks, masks])
    labels = {1: "car", 2: "pedestrian", 3: "ignore"}
    annotations = VideoAnnotations(tmp_path / "val.json", labels, [sequence])
    assert mots_from_ground_truth(ground_truth_from_annotations(annotations)) == [from_txt]
    save_video_annotations(tmp_path / "val.json", [sequence], labels)
    _write(tmp_path / "results" / "0005.txt", *lines)
    for truth in (tmp_path / "val.json", tmp_path):
        (pair,) = open_mots(tmp_path, truth, sequences={"0005": None})
        assert evaluate_mots([pair]).scalars()["mean HOTA"] == pytest.approx(1.0)

    tracks = [Track(1, 1, 1.0, [CAR, CAR]), Track(2, 2, 0.5, [OTHER, None])]
    video = VideoTracks("0005", HEIGHT, WIDTH, 2, ["000000", "000001"], tracks)
    scalars = evaluate_mots_tracks([video], annotations).scalars()
    assert (scalars["car sMOTSA"], scalars["pedestrian sMOTSA"]) == (1.0, 0.5)


def test_several_processes_give_the_same(tmp_path: Path) -> None:
    for name in ("0001", "0002"):
        _write(tmp_path / "gt" / f"{name}.txt", *(_line(t, 1001, 1, CAR) for t in range(int(name))))
        _write(tmp_path / "out" / f"{name}.txt", _line(0, 1005, 1, CAR))
    pairs = open_mots(tmp_path / "out", tmp_path / "gt")
    tables = [evaluate_mots(pairs, workers=workers).tables() for workers in (1, 2)]
    assert tables[0][1] == tables[1][1]
    assert dict(zip(MOTS_COLUMNS, tables[0][1].rows["0002"], strict=True))["FN"] == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0 1 1 24 40\n"], r"line 1: found '0 1 1 24 40', expected 'frame track class height width rle'"),
        ([_line(0, 1, 3, CAR)], r"line 1: class is 3, expected 1 \(car\)"),
        ([_line(0, 1, 1, CAR), _line(1, 1, 1, CAR, height=30)], r"masks of different sizes .* 24 x 40 .* 30 x 40"),
        ([_line(0, 1, 1, CAR + "1")], r"frame 0, track 1: RLE counts .* expected 24 x 40"),
        ([_line(4, 1, 1, CAR), _line(4, 1, 1, OTHER)], r"frame 4: track 1 has two masks"),
        ([_line(4, 1, 1, CAR), _line(4, 2, 2, box(11, 11, 5, 5))], r"frame 4: tracks 1 and 2 share 1 pixels"),
    ],
)
def test_broken_results_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _evaluate(tmp_path, [], lines)


def test_results_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"result masks are 24 x 40 .* expected 30 x 40"):
        _evaluate(tmp_path, [_line(0, 1, 1, encode_rle(np.ones((30, WIDTH))), height=30)], [_line(0, 1, 1, CAR)])
    with pytest.raises(DataError, match="reach frame 9, but the last frame is 8"):
        _evaluate(tmp_path, [], [_line(9, 1, 1, CAR)], last_frame=8)
    _write(tmp_path / "gt" / "0001.txt")
    _write(tmp_path / "out" / "0002.txt")
    with pytest.raises(DataError, match="holds results of '0002', which the ground truth lacks"):
        open_mots(tmp_path / "out", tmp_path / "gt")
    with pytest.raises(DataError, match=r"missing\.txt does not exist"):
        read_mots_txt(tmp_path / "missing.txt")
    (tmp_path / "0001").mkdir()
    cv2.imwrite(str(tmp_path / "0001" / "000000.png"), np.full((4, 4), 77, np.uint8))
    with pytest.raises(DataError, match="pixels hold 77"):
        read_mots_pngs(tmp_path / "0001")


def test_class_frames_span_frames_without_masks() -> None:
    sequence = MotsSequence("one", HEIGHT, WIDTH, {2: [MotsObject(1001, 1, CAR)]})
    frames = class_frames(LoadedPair(sequence, sequence, 4), 1)
    assert [len(f.truth_ids) for f in frames] == [0, 0, 1, 0, 0]
