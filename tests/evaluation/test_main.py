"""The command ``stemseg-evaluate``, from result files to tables, JSON, CSV, charts and pictures."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.evaluation.main import main
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.structures.rle import encode_rle

SIZE = (30, 50)


def _mask(left: int) -> str:
    mask = np.zeros(SIZE, np.uint8)
    mask[5:20, left : left + 15] = 1
    return encode_rle(mask)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A video of two frames with a car and a pedestrian: annotations, images, and results in all three formats."""
    car, person, found = _mask(2), _mask(30), _mask(4)
    paths = ["one/00000.jpg", "one/00001.jpg"]
    sequence = VideoSequence("one", *SIZE, paths, {1: 1, 2: 2}, [{1: car, 2: person}] * 2)
    save_video_annotations(tmp_path / "val.json", [sequence], {1: "car", 2: "pedestrian"})
    results = tmp_path / "out" / "results" / "one"
    results.mkdir(parents=True)
    (tmp_path / "images" / "one").mkdir(parents=True)
    for t in (0, 1):
        ids = np.zeros(SIZE, np.uint8)
        ids[5:20, 4:19] = 1
        cv2.imwrite(str(results / f"{t:05d}.png"), ids)
        cv2.imwrite(str(tmp_path / "images" / "one" / f"{t:05d}.jpg"), np.full((*SIZE, 3), 90, np.uint8))
    lines = "".join(f"{t} 1001 1 {SIZE[0]} {SIZE[1]} {found}\n" for t in (0, 1))
    (tmp_path / "out" / "results" / "one.txt").write_text(lines)
    entry = {"video_id": "one", "category_id": 1, "score": 0.9, "segmentations": [{"size": SIZE, "counts": found}] * 2}
    (tmp_path / "out" / "results.json").write_text(json.dumps([entry]))
    return tmp_path


@pytest.mark.parametrize(
    ("dataset", "figure", "value", "files"),
    [
        ("ytvis", "AP50", 0.5, {"class.csv", "ap_over_iou.png", "ap_per_class.png"}),
        ("davis", "J-Mean", 13 / 17 / 2, {"sequence.csv", "object.csv", "jf_per_sequence.png"}),
        ("kittimots", "car MOTSP", 13 / 17, {"class.csv", "car.csv", "pedestrian.csv", "mots_per_class.png"}),
    ],
)
def test_every_output_of_each_dataset(folder: Path, capsys, dataset, figure, value, files) -> None:
    output = folder / "evaluation"
    command = ["--dataset", dataset, "--results", str(folder / "out"), "--gt", str(folder / "val.json")]
    images = ["--images", str(folder / "images")] if dataset != "kittimots" else []
    worst = ["--worst", "1"] if images else []
    assert main([*command, "--output", str(output), "--workers", "1", *images, *worst]) == 0
    assert json.loads((output / "metrics.json").read_text())["summary"][figure] == pytest.approx(value)
    assert {path.name for path in output.iterdir() if path.is_file()} == files | {"metrics.json"}
    assert len(list(output.glob("worst/01_one_*.png"))) == bool(images)
    for name in (name for name in files if name.endswith(".csv")):
        header, *rows = csv.reader((output / name).open())
        assert header[0] == name.removesuffix(".csv") and all(len(row) == len(header) for row in rows)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (figure.split()[-1], "wrote"))


def test_a_user_s_mistake_ends_in_one_line(folder: Path, capsys) -> None:
    command = ["--dataset", "YOUTUBE_VIS", "--results", str(folder / "out"), "--gt"]
    assert main([*command, str(folder / "nothing.json")]) == 1
    assert re.fullmatch(r"error: .*nothing.* does not exist; give .*\n", capsys.readouterr().err)
    assert main([*command, str(folder / "val.json"), "--sequences", "two"]) == 1
    assert capsys.readouterr().err.startswith("error: --sequences names 'two'")


def test_truth_without_objects_is_an_error_and_no_table_of_dashes(folder: Path, capsys) -> None:
    paths = ["one/00000.jpg", "one/00001.jpg"]
    for first in ({}, {1: _mask(2)}):
        sequence = VideoSequence("one", *SIZE, paths, {1: 1}, [first, {1: _mask(2)}])
        save_video_annotations(folder / "val.json", [sequence], {1: "car"})
        command = ["--dataset", "davis", "--results", str(folder / "out"), "--gt", str(folder / "val.json")]
        assert main(command) == (0 if first else 1)
    assert "the ground truth of one has no object that counts" in capsys.readouterr().err


def test_pictures_need_images_and_a_place(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["-d", "ytvis", "--results", str(folder / "out"), "--gt", str(folder / "val.json"), "--worst", "3"])
    assert "--worst needs --output" in capsys.readouterr().err


def test_oracles_are_printed_and_written(folder: Path, capsys) -> None:
    command = ["--dataset", "ytvis", "--results", str(folder / "out"), "--gt", str(folder / "val.json"), "--oracle"]
    assert main([*command, "--output", str(folder / "evaluation")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^true +AP +AP50 +AP75 +AP gained$", printed, re.MULTILINE)
    summary = json.loads((folder / "evaluation" / "metrics.json").read_text())["summary"]
    assert summary["AP, true masks"] == pytest.approx(0.5)  # the car is found, the pedestrian is not
    rows = list(csv.reader((folder / "evaluation" / "true.csv").open()))
    assert [row[0] for row in rows] == ["true", "nothing", "order", "identity", "masks", "classes"]


def test_oracles_need_a_dataset_that_is_measured_by_ap(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--dataset", "davis", "--results", str(folder), "--gt", str(folder), "--oracle"])
    assert "--oracle is about AP, which davis is not measured by" in capsys.readouterr().err
