"""Official YouTube-VIS and OVIS files, in every form that masks have, sound and broken."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from stemseg.evaluation.ground_truth import GroundTruth
from stemseg.evaluation.youtube_vis.average_precision import evaluate_average_precision
from stemseg.evaluation.youtube_vis.files import load_ground_truth, load_results
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.structures.rle import rle_run_lengths
from stemseg.utils.errors import DataError
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, rle, write_json

MASK = box(4, 6, 9, 5)


def _official(**changes: object) -> dict:
    video = {"id": 7, "height": HEIGHT, "width": WIDTH, "length": 2, "file_names": ["a/0.jpg", "a/5.jpg"]}
    annotation = {"id": 31, "video_id": 7, "category_id": 3, "segmentations": [rle(MASK), None], "areas": [45, None]}
    return {"videos": [video], "categories": [{"id": 3, "name": "cat"}], "annotations": [annotation | changes]}


def _results(**changes: object) -> list[dict]:
    return [{"video_id": 7, "category_id": 3, "score": 0.5, "segmentations": [rle(MASK), None]} | changes]


@pytest.fixture
def truth(tmp_path: Path) -> GroundTruth:
    return load_ground_truth(write_json(tmp_path / "truth.json", _official()))


def test_masks_in_every_form_are_the_same(tmp_path: Path, truth: GroundTruth) -> None:
    runs = {"size": [HEIGHT, WIDTH], "counts": rle_run_lengths(MASK)}
    polygon = [[4.0, 6.0, 13.0, 6.0, 13.0, 11.0, 4.0, 11.0]]
    for mask in (runs, polygon):
        path = write_json(tmp_path / "other.json", _official(segmentations=[mask, None]))
        assert load_ground_truth(path).videos == truth.videos
    assert truth.videos[0].tracks[0].area == 45.0
    assert truth.category_labels == {3: "cat"}


def test_official_and_standard_ground_truth_give_the_same_figures(tmp_path: Path, truth: GroundTruth) -> None:
    sequence = VideoSequence(7, HEIGHT, WIDTH, ["a/0.jpg", "a/1.jpg"], {1: 3}, [{1: MASK}, {}])
    save_video_annotations(tmp_path / "standard.json", [sequence], {3: "cat"})
    standard = load_ground_truth(tmp_path / "standard.json")
    path = write_json(tmp_path / "results.json", _results(segmentations=[rle(box(4, 6, 9, 4)), None]))
    rows = [evaluate_average_precision(load_results(path, t), t).overall.row() for t in (truth, standard)]
    assert rows[0][:3] == rows[1][:3]
    assert 0 < rows[0][0] < 1


def test_results_are_found_in_a_folder_and_in_a_zip(tmp_path: Path, truth: GroundTruth) -> None:
    path = write_json(tmp_path / "results.json", _results())
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.write(path, "results.json")
    loaded = load_results(path, truth)
    assert load_results(tmp_path, truth) == load_results(tmp_path / "results.zip", truth) == loaded
    assert loaded[0].tracks[0].segmentations == [MASK, None]


@pytest.mark.parametrize("annotations", ["absent", None, []])
def test_public_validation_files_have_no_annotations(tmp_path: Path, annotations: object) -> None:
    content = _official() | {"annotations": annotations}
    if annotations == "absent":
        del content["annotations"]
    with pytest.raises(DataError, match=r"can't be computed locally.*upload the results\.zip"):
        load_ground_truth(write_json(tmp_path / "valid.json", content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": 8}, r"entry 0: video_id 8 is unknown: .*truth\.json has 1 videos, 7"),
        ({"segmentations": [None]}, r"entry 0 \(video 7\): found 1 segmentations, expected .* each of the 2 frames"),
        (
            {"segmentations": [{"size": [9, 9], "counts": MASK}, None]},
            "frame 0: mask is 9 x 9, but its image is 24 x 40",
        ),
        ({"segmentations": [None, rle(MASK + "1")]}, r"frame 1: RLE counts .* cover \d+ pixels, expected 24 x 40"),
        (
            {"segmentations": [{"size": [24, 40], "counts": [3, 4]}, None]},
            "frame 0: RLE counts cover 7 pixels, expected 24 x 40 = 960",
        ),
    ],
)
def test_broken_results_are_named(tmp_path: Path, truth: GroundTruth, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_results(write_json(tmp_path / "results.json", _results(**changes)), truth)


def test_missing_keys_and_wrong_files_are_named(tmp_path: Path, truth: GroundTruth) -> None:
    entry = _results()[0]
    del entry["score"]
    with pytest.raises(DataError, match="key 'score' is missing; found video_id"):
        load_results(write_json(tmp_path / "results.json", [entry]), truth)
    with pytest.raises(DataError, match=r"results\.json is \{\} \(an object\), expected a list"):
        load_results(write_json(tmp_path / "results.json", {}), truth)
    with pytest.raises(DataError, match=r"nothing\.json does not exist; give the results\.json"):
        load_results(tmp_path / "nothing.json", truth)
    with pytest.raises(DataError, match=r"nothing\.zip does not exist"):
        load_results(tmp_path / "nothing.zip", truth)
    with pytest.raises(DataError, match="found images, annotations, expected an official YouTube-VIS"):
        load_ground_truth(write_json(tmp_path / "coco.json", {"images": [], "annotations": []}))
    (tmp_path / "cut.json").write_text('{"videos": [')
    with pytest.raises(DataError, match=r"cut\.json is not valid JSON"):
        load_ground_truth(tmp_path / "cut.json")
    with pytest.raises(DataError, match=r"annotation 31: found 1 segmentations, expected .* 2 frames"):
        load_ground_truth(write_json(tmp_path / "truth.json", _official(segmentations=[None])))
