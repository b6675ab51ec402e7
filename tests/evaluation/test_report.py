"""The report that a person sees: tables, charts, worst cases, lists of sequences."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.evaluation.charts import bar_chart, line_chart
from stemseg.evaluation.davis.files import open_davis
from stemseg.evaluation.davis.measures import UNSUPERVISED, evaluate_davis
from stemseg.evaluation.failure_cases import worst_mots_tracks, worst_objects, worst_tracks
from stemseg.evaluation.ground_truth import GroundTruth, GroundTruthTrack, GroundTruthVideo, read_sequence_names
from stemseg.evaluation.kitti_mots.files import MotsObject, MotsSequence
from stemseg.evaluation.kitti_mots.measures import MotsPair
from stemseg.evaluation.report import MetricTable, draw_worst_cases
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError
from stemseg.utils.parallel import run_jobs
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, id_map, write_sequence

LEFT, RIGHT = box(2, 2, 10, 10), box(25, 2, 10, 10)


def test_tables_are_aligned_and_exported() -> None:
    table = MetricTable("class", ("AP", "TP"), {"mean": [0.12345, 12], "a long name": [math.nan, 3], "c": [-1e-9, 0]})
    lines = str(table).splitlines()
    assert lines[0] == "class           AP  TP"
    assert lines[2:] == ["mean         0.123  12", "a long name      -   3", "c            0.000   0"]
    assert table.to_csv().splitlines() == ["class,AP,TP", "mean,0.12345,12", "a long name,,3", "c,-1e-09,0"]
    assert table.to_dict()["a long name"] == {"AP": None, "TP": 3}


def test_bars_are_as_long_as_their_values() -> None:
    chart = np.asarray(bar_chart("title", ("J",), {"half": [0.5], "full": [1.0], "none": [math.nan], "less": [-0.5]}))
    blue = np.abs(chart.astype(int) - (31, 111, 180)).max(axis=2) < 12
    lengths = np.array([blue[y].sum() for y in (84 + 6 + 23 * i for i in range(4))])
    assert lengths[1] == pytest.approx(480, abs=3)
    assert lengths[0] == pytest.approx(240, abs=3)
    assert lengths[2:].max() <= 2


def test_a_line_leaves_out_what_is_undefined() -> None:
    def ink(ys: list[float]) -> int:
        chart = np.asarray(line_chart("title", "x", "y", [0.5, 0.7, 0.9], ys)).astype(int)
        return int((np.abs(chart - (31, 111, 180)).max(axis=2) < 12).sum())

    assert ink([0.2, 0.5, 0.9]) > ink([0.2, math.nan, math.nan]) > 0
    assert ink([math.nan] * 3) == 0


def test_the_worst_track_is_the_one_without_a_match() -> None:
    truths = [GroundTruthTrack(1, 1, [LEFT, LEFT]), GroundTruthTrack(2, 2, [None, RIGHT])]
    video = GroundTruthVideo("v", HEIGHT, WIDTH, ["v/0.jpg", "v/1.jpg"], truths)
    truth = GroundTruth(Path("truth.json"), {1: "cat", 2: "dog"}, [video])
    tracks = [Track(1, 1, 0.9, [LEFT, box(2, 2, 10, 5)]), Track(2, 1, 0.8, [None, RIGHT])]
    results = [VideoTracks("v", HEIGHT, WIDTH, 2, ["0", "1"], tracks)]
    cases = worst_tracks(results, truth, 5)
    assert [case.title for case in cases] == ["dog, frame 1", "cat, frame 1"]
    assert [case.score for case in cases] == [0.0, 0.75]
    assert cases[0].captions == {1: "cat 0.90", 2: "cat 0.80"}
    assert worst_tracks(results, truth, 1, class_agnostic=True)[0].title == "cat, frame 1"
    assert worst_tracks([], truth, 1)[0].results == {}


def test_the_worst_object_of_davis_is_drawn(tmp_path: Path) -> None:
    good, bad = id_map(_1=(2, 2, 8, 8), _2=(20, 2, 8, 8)), id_map(_1=(2, 2, 8, 8))
    write_sequence(tmp_path / "truth" / "one", [good] * 3)
    write_sequence(tmp_path / "found" / "one", [good, good, bad])
    videos = open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED)
    (case,) = worst_objects(evaluate_davis(videos), videos, 1)
    assert (case.title, case.score) == ("object 2, frame 2", pytest.approx(2 / 3))
    with pytest.raises(DataError, match=r"image .*00002\.jpg does not exist"):
        draw_worst_cases([case], tmp_path / "images", tmp_path / "worst")
    (tmp_path / "images" / "one").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images" / "one" / "00002.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (path,) = draw_worst_cases([case], tmp_path / "images", tmp_path / "worst")
    assert path.name == "01_one_00002.png"
    picture = cv2.imread(str(path))
    factor = 480 / HEIGHT  # enlarged until it can be read
    width = round(WIDTH * factor)
    left, right = (
        cv2.resize(panel, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for panel in (picture[-480:, :width], picture[-480:, -width:])
    )
    assert left[6, 24].any() and not left[6, 6].any(), "the missed object is painted, the other is not"
    assert right[6, 6].any() and not right[6, 24].any(), "the results are painted"
    cv2.imwrite(str(tmp_path / "images" / "one" / "00002.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match="is 9 x 9"):
        draw_worst_cases([case], tmp_path / "images", tmp_path / "worst")


def test_the_worst_mots_track_is_shown_where_it_is_missed() -> None:
    car, person = MotsObject(1001, 1, LEFT), MotsObject(2001, 2, RIGHT)
    truth = MotsSequence("0001", HEIGHT, WIDTH, {0: [car, person], 1: [car, person], 2: [car]})
    result = MotsSequence("0001", HEIGHT, WIDTH, {0: [car, person], 1: [person], 2: [car]})
    (case,) = worst_mots_tracks([MotsPair("0001", truth, result)], 4)
    assert (case.title, case.image_path, case.score) == ("car 1001, frame 1", "0001/000001.png", pytest.approx(2 / 3))
    assert case.results == {}, "the pedestrian is of another class"


def test_sequences_are_named_or_listed(tmp_path: Path) -> None:
    assert read_sequence_names(["a", "b"]) == {"a": None, "b": None}
    (tmp_path / "val.txt").write_text("a\n\nb\n")
    assert read_sequence_names([str(tmp_path / "val.txt")]) == {"a": None, "b": None}
    (tmp_path / "seqmap").write_text("0002 empty 000000 000233\n")
    assert read_sequence_names([str(tmp_path / "seqmap")]) == {"0002": 233}
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(DataError, match="names no sequence"):
        read_sequence_names([str(tmp_path / "empty")])


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_keep_their_order(workers: int) -> None:
    assert run_jobs(abs, [-3, 1, -2], sizes=[3, 1, 2], workers=workers) == [3, 1, 2]
