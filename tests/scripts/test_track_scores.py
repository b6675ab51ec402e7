"""The comparison of track scores: its AP is the official one, and its tables are those of the results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.experiments import track_scores
from stemseg.evaluation.ground_truth import ground_truth_from_annotations
from stemseg.evaluation.youtube_vis.average_precision import evaluate_average_precision
from stemseg.inference.result_folder import ResultFolder
from stemseg.structures.annotations import VideoSequence, load_video_annotations, save_video_annotations
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, TrackStatistics, VideoTracks

SIZE, NUM_FRAMES = (20, 30), 3


def _box(rng: np.random.Generator, near: tuple[int, int] | None = None) -> tuple[str, tuple[int, int]]:
    top, left = (
        rng.integers(0, (12, 20)) if near is None else np.clip(np.add(near, rng.integers(-2, 3, 2)), 0, (12, 20))
    )
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + 8, left : left + 10] = 1
    return encode_rle(mask), (int(top), int(left))


def _statistics(rng: np.random.Generator) -> TrackStatistics:
    values = rng.random(4)
    return TrackStatistics(
        pixels=int(rng.integers(1, 99)), share=0.1, life=1.0, seen=1.0,
        seediness=values[0], posterior=values[1], foreground=values[2], class_probability=values[3],
    )  # fmt: skip


@pytest.fixture(params=[True, False], ids=["class_agnostic", "classes"])
def case(request, tmp_path: Path) -> tuple[track_scores.VideoSet, list[VideoTracks], Path, bool]:
    """Six videos of two objects, four tracks near them and one video without any."""
    rng, sequences, results = np.random.default_rng(0), [], []
    folder = ResultFolder(tmp_path / "out")
    folder.open({})
    for number in range(7):
        boxes = [_box(rng) for _ in range(2)]
        frames = [{i: counts for i, (counts, _) in enumerate(boxes, 1)}] * NUM_FRAMES
        paths = [f"{number}/{t}.jpg" for t in range(NUM_FRAMES)]
        sequences.append(VideoSequence(str(number), *SIZE, paths, {1: 1, 2: 2}, frames))
        tracks = [
            Track(i, 1 + i % 2, 0.0, [_box(rng, boxes[i % 3 % 2][1])[0]] * NUM_FRAMES, _statistics(rng))
            for i in range(1, 5 if number else 1)
        ]
        results.append(VideoTracks(str(number), *SIZE, NUM_FRAMES, [str(t) for t in range(NUM_FRAMES)], tracks))
        if number < 6:  # one is not segmented
            folder.save(results[-1])
    save_video_annotations(tmp_path / "val.json", sequences, {1: "one", 2: "two"})
    text = f"mine={tmp_path / 'out'}:{tmp_path / 'val.json'}"
    return track_scores.load_set(text, class_agnostic=request.param), results[:6], tmp_path / "val.json", request.param


@pytest.mark.parametrize("rule", ["confidence", "posterior", "pixels"])
def test_ap_is_the_official_one(case, rule: str) -> None:
    videos, results, truth_path, class_agnostic = case
    truth = ground_truth_from_annotations(load_video_annotations(truth_path))
    truth = replace(truth, videos=truth.videos[:6])
    scored = []
    for result in results:
        largest = max((t.statistics.pixels for t in result.tracks), default=1)
        score = {"pixels": lambda t, n=largest: t.pixels / n}.get(rule, track_scores.RULES.get(rule))
        scored.append(replace(result, tracks=[replace(t, score=score(t.statistics)) for t in result.tracks]))
    expected = evaluate_average_precision(scored, truth, class_agnostic=class_agnostic).overall.ap
    found = track_scores.average_precision(videos.groups, track_scores.scores_of(videos, rule))
    assert 0 < expected < 1
    assert found == pytest.approx(expected)


def test_the_oracle_is_not_beaten_and_pixels_have_no_error(case) -> None:
    rows = track_scores.compare(case[0], ["pixels", "confidence", "oracle"])
    assert rows["oracle"][0] > max(rows["pixels"][0], rows["confidence"][0])
    assert rows["pixels"][1] == 0 < rows["oracle"][1]


def test_the_command_writes_both_tables(case, tmp_path: Path, capsys) -> None:
    command = ["--sets", f"mine={tmp_path / 'out'}:{tmp_path / 'val.json'}", "--output", str(tmp_path / "table.md")]
    assert track_scores.main(command) == 0
    assert "| rule | mine (6 videos, 20 tracks) |" in capsys.readouterr().out
    assert track_scores.main([*command, "--limits", "0", "1"]) == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 4
    assert lines[2].split(" | ")[2] == "3.3"  # tracks of a video
    assert lines[3].split(" | ")[1:] == ["0.0", "0.0", "0 |"]  # J&F, tracks, good tracks: nothing is left
    assert track_scores.main(["--sets", "mine"]) == 1
