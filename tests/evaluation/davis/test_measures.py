"""DAVIS J and F: the official code's answers, its protocols' rules, and broken input."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stemseg.evaluation.davis.files import open_davis
from stemseg.evaluation.davis.measures import (
    SEMI_SUPERVISED,
    UNSUPERVISED,
    DavisProtocol,
    DavisReport,
    evaluate_davis,
    statistics,
)
from stemseg.evaluation.masks import PaintedIdMaps, PngIdMaps
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.structures.rle import encode_rle
from stemseg.utils.errors import DataError
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, id_map, known_answers, write_png, write_sequence

A, B = (2, 2, 8, 8), (20, 4, 10, 10)
BOTH = id_map(_1=A, _2=B)


def _evaluate(
    tmp_path: Path,
    truth: list[np.ndarray],
    prediction: list[np.ndarray],
    protocol: DavisProtocol = UNSUPERVISED,
    **options,
) -> DavisReport:
    write_sequence(tmp_path / "truth" / "one", truth)
    write_sequence(tmp_path / "found" / "one", prediction)
    return evaluate_davis(open_davis(tmp_path / "found", tmp_path / "truth", protocol, **options), protocol)


def test_known_answers_of_the_official_code() -> None:
    folder = known_answers("davis_semi_osvos6")
    report = evaluate_davis(open_davis(folder / "pred", folder / "gt", SEMI_SUPERVISED), SEMI_SUPERVISED)
    rows = list(csv.DictReader((folder / "expected_per_sequence.csv").open()))
    ours = {scores.name: (f"{scores.region.mean():.3f}", f"{scores.boundary.mean():.3f}") for scores in report.objects}
    assert ours == {row["Sequence"]: (row["J-Mean"], row["F-Mean"]) for row in rows}


def test_proposals_are_matched_to_objects(tmp_path: Path) -> None:
    swapped = id_map(_2=A, _5=B, _1=(0, 20, 4, 4))
    report = _evaluate(tmp_path, [BOTH] * 3, [swapped] * 3)
    assert [scores.prediction_id for scores in report.objects] == [2, 5]
    assert report.scalars()["J&F-Mean"] == 1.0


def test_matching_weighs_j_and_f_of_the_whole_video(tmp_path: Path) -> None:
    """A proposal on one object for two frames and on the other for one belongs to the first."""
    truth = [BOTH] * 3
    prediction = [id_map(_1=A), id_map(_1=A), id_map(_1=B)]
    report = _evaluate(tmp_path, truth, prediction)
    assert [scores.region.tolist() for scores in report.objects] == [[1, 1, 0], [0, 0, 0]]


def test_fewer_predictions_than_objects_are_compared_with_nothing(tmp_path: Path) -> None:
    report = _evaluate(tmp_path, [BOTH, id_map(_1=A)], [id_map(_1=A)] * 2)
    assert report.objects[0].region.tolist() == [1, 1]
    assert report.objects[1].region.tolist() == [0, 1], "nothing there and nothing found is right"
    assert report.objects[1].boundary.tolist() == [0, 1]


def test_empty_frames_of_truth_and_of_prediction(tmp_path: Path) -> None:
    truth, empty = id_map(_1=A), id_map()
    report = _evaluate(tmp_path, [truth, truth, empty, empty], [truth, empty, truth, empty])
    assert report.objects[0].region.tolist() == [1, 0, 0, 1]
    assert report.objects[0].boundary.tolist() == [1, 0, 0, 1]


def test_void_counts_in_neither_protocol_the_same(tmp_path: Path) -> None:
    """Void hides half of the prediction: left out where the protocol knows void, background where it does not."""
    truth = [id_map(_1=(2, 2, 8, 8), _255=(10, 2, 8, 8))] * 3
    prediction = [id_map(_1=(2, 2, 16, 8))] * 3
    assert _evaluate(tmp_path, truth, prediction).objects[0].region.tolist() == [1, 1, 1]
    semi = _evaluate(tmp_path, truth, prediction, SEMI_SUPERVISED)
    assert semi.objects[0].region.tolist() == [0.5]


def test_semi_supervised_leaves_out_first_and_last_frame(tmp_path: Path) -> None:
    truth, wrong = id_map(_1=A), id_map(_1=B)
    prediction = [wrong, truth, truth, wrong]
    assert _evaluate(tmp_path, [truth] * 4, prediction, SEMI_SUPERVISED).scalars()["J-Mean"] == 1.0
    assert _evaluate(tmp_path, [truth] * 4, prediction).scalars()["J-Mean"] == 0.5
    write_sequence(tmp_path / "short" / "one", [truth] * 2)
    with pytest.raises(DataError, match="has 2 frames, expected at least 3"):
        videos = open_davis(tmp_path / "short", tmp_path / "short", SEMI_SUPERVISED)
        evaluate_davis(videos, SEMI_SUPERVISED)


def test_semi_supervised_ids_are_taken_as_they_are(tmp_path: Path) -> None:
    swapped = id_map(_2=A, _1=B)
    assert _evaluate(tmp_path, [BOTH] * 3, [swapped] * 3, SEMI_SUPERVISED).scalars()["J-Mean"] == 0.0
    with pytest.raises(DataError, match=r"holds id 3, expected ids up to 2.*the sequence's 2 objects"):
        _evaluate(tmp_path, [BOTH] * 3, [id_map(_3=A)] * 3, SEMI_SUPERVISED)


def test_only_objects_of_the_first_frame_count_unless_all_are_wanted(tmp_path: Path) -> None:
    truth = [id_map(_1=A), BOTH]
    assert len(_evaluate(tmp_path, truth, [id_map(_1=A)] * 2).objects) == 1
    report = _evaluate(tmp_path, truth, [id_map(_1=A)] * 2, all_objects=True)
    assert [scores.object_id for scores in report.objects] == [1, 2]
    assert report.objects[1].region.tolist() == [1, 0]


def test_more_than_twenty_proposals_are_refused(tmp_path: Path) -> None:
    assert _evaluate(tmp_path, [id_map(_1=A)], [id_map(_20=A)]).scalars()["J-Mean"] == 1.0
    with pytest.raises(DataError, match="frame 0: the prediction holds id 21, expected ids up to 20"):
        _evaluate(tmp_path, [id_map(_1=A)], [id_map(_21=A)])
    with pytest.raises(DataError, match="255 is no id in predictions"):
        _evaluate(tmp_path, [id_map(_1=A)], [id_map(_255=A)])


def test_standard_json_gives_the_same_as_pngs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = [np.roll(BOTH, 2 * t, axis=1) for t in range(4)]
    prediction = [np.roll(map_, int(rng.integers(-2, 3)), axis=1) for map_ in truth]
    from_pngs = _evaluate(tmp_path, truth, prediction)
    segmentations = [{i: encode_rle(map_ == i) for i in (1, 2)} for map_ in truth]
    paths = [f"one/{t:05d}.jpg" for t in range(4)]
    sequence = VideoSequence("one", HEIGHT, WIDTH, paths, {1: 1, 2: 1}, segmentations)
    save_video_annotations(tmp_path / "val.json", [sequence], {1: "object"})
    from_json = evaluate_davis(open_davis(tmp_path / "found", tmp_path / "val.json", UNSUPERVISED))
    assert from_json.scalars() == from_pngs.scalars()
    assert 0 < from_json.scalars()["J-Mean"] < 1


def test_the_root_of_davis_is_its_validation_set_in_several_processes(tmp_path: Path) -> None:
    for name, length in (("a", 2), ("b", 5), ("c", 3)):
        write_sequence(tmp_path / "DAVIS" / "Annotations_unsupervised" / "480p" / name, [BOTH] * length)
        write_sequence(tmp_path / "out" / "results" / name, [id_map(_1=A)] * length)
    (tmp_path / "DAVIS" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "DAVIS" / "ImageSets" / "2017" / "val.txt").write_text("b\na\n")
    videos = open_davis(tmp_path / "out", tmp_path / "DAVIS", UNSUPERVISED)
    assert [video.name for video in videos] == ["a", "b"]
    reports = [evaluate_davis(videos, workers=workers) for workers in (1, 2)]
    assert reports[0].scalars() == reports[1].scalars()
    assert list(reports[1].per_sequence()) == ["a", "b"]


def test_statistics_are_mean_recall_and_decay() -> None:
    values = np.array([1.0, 1.0, 0.6, 0.5, 0.4, 0.2, 0.2, 0.1])
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(0.5)
    assert recall == 3 / 8, "0.5 itself is not above 0.5"
    # quarters of 8 frames, sharing borders: frames 0-2 and 5-7
    assert decay == pytest.approx(values[:3].mean() - values[5:].mean())
    assert statistics(np.linspace(1, 0, 300))[2] == pytest.approx(0.75, abs=0.01), "more frames than 8 bits count"


def test_missing_strange_and_wrong_files_are_named(tmp_path: Path) -> None:
    truth = [id_map(_1=A)] * 3
    _evaluate(tmp_path, truth, truth)
    folder = tmp_path / "found" / "one"
    (folder / "00001.png").unlink()
    with pytest.raises(DataError, match=r"00001\.png does not exist; each of the 3 frames of sequence 'one'"):
        evaluate_davis(open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED))
    write_png(folder / "00001.png", np.zeros((9, 9)))
    with pytest.raises(DataError, match=r"frame 1: the predicted id map is 9 x 9 .* expected 24 x 40"):
        evaluate_davis(open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED))
    (folder / "00001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"00001\.png is no image"):
        evaluate_davis(open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED))
    write_png(folder / "00003.png", truth[0])
    with pytest.raises(DataError, match=r"holds 00003\.png, but the sequence's 3 frames"):
        open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED)


def test_only_maps_of_ids_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "00000.png")
    Image.new("1", (WIDTH, HEIGHT), 1).save(tmp_path / "00001.png")
    maps = PngIdMaps(tmp_path, ["00000", "00001"])
    with pytest.raises(DataError, match="is a picture of mode RGB, expected one number per pixel"):
        maps.read(0)
    assert (maps.read(1) == 1).all()


def test_later_tracks_are_painted_over_earlier_ones() -> None:
    wide, narrow = encode_rle(id_map(_1=(0, 0, 20, 10))), encode_rle(id_map(_1=(10, 0, 20, 10)))
    painted = PaintedIdMaps(HEIGHT, WIDTH, 2, {300: [wide, None], 7: [narrow, narrow]})
    assert [painted.read(0)[0, x] for x in (5, 15, 25, 35)] == [300, 7, 7, 0]
    assert not (painted.read(1) == 300).any()


def test_unknown_and_missing_sequences_are_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_sequence(tmp_path / "truth" / name, [BOTH])
    write_sequence(tmp_path / "found" / "one", [BOTH])
    with pytest.raises(DataError, match="has no results of 'two'"):
        open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED)
    assert len(open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED, sequences=["one"])) == 1
    with pytest.raises(DataError, match="--sequences names 'three', which the ground truth lacks"):
        open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED, sequences=["three"])
    write_sequence(tmp_path / "found" / "four", [BOTH])
    with pytest.raises(DataError, match="holds results of 'four', which the ground truth lacks"):
        open_davis(tmp_path / "found", tmp_path / "truth", UNSUPERVISED)


@pytest.mark.parametrize("place", ["Annotations/480p", "Annotations", "Annotations_unsupervised/Full-Resolution"])
def test_ground_truth_is_found_in_the_root_of_davis(tmp_path: Path, place: str) -> None:
    write_sequence(tmp_path / "found" / "one", [BOTH])
    (tmp_path / "DAVIS/JPEGImages/480p/one").mkdir(parents=True)
    write_sequence(tmp_path / "DAVIS" / place / "one", [BOTH])
    for given in ("DAVIS", f"DAVIS/{place}", f"DAVIS/{place.partition('/')[0]}"):
        (video,) = open_davis(tmp_path / "found", tmp_path / given, UNSUPERVISED)
        assert video.name == "one"


def test_a_root_without_annotations_says_which_folder_is_expected(tmp_path: Path) -> None:
    write_sequence(tmp_path / "found" / "dog", [BOTH])
    write_sequence(tmp_path / "DAVIS/JPEGImages/480p/dog", [BOTH])
    (tmp_path / "DAVIS/ImageSets").mkdir()
    for given in ("DAVIS", "DAVIS/JPEGImages"):
        with pytest.raises(
            DataError, match=r"holds no ground truth: no folder Annotations_unsupervised or Annotations"
        ):
            open_davis(tmp_path / "found", tmp_path / given, UNSUPERVISED)
    with pytest.raises(DataError, match=r"no folder Annotations with .* found ImageSets, JPEGImages"):
        open_davis(tmp_path / "found", tmp_path / "DAVIS", SEMI_SUPERVISED)
