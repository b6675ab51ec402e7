"""Finished sequences are kept, exactly; other settings are never mixed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stemseg.inference.result_folder import ResultFolder
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import ConfigError, DataError

SETTINGS = {"checkpoint": "a.pth", "config": {"INPUT": {"MIN_DIM": 88, "MEAN": (1.0, 2.0)}}}


def _tracks(sequence_id: str | int) -> VideoTracks:
    return VideoTracks(sequence_id, 4, 6, 2, ["00000", "00001"], [Track(1, 3, 0.5, [encode_rle(np.eye(4, 6)), None])])


@pytest.mark.parametrize("sequence_id", [5, "5", "bear", "train/01 (a)", "Ü"])
def test_tracks_come_back_equal(tmp_path: Path, sequence_id: str | int) -> None:
    folder = ResultFolder(tmp_path)
    folder.open(SETTINGS)
    assert not folder.has(sequence_id)
    folder.save(_tracks(sequence_id))
    assert folder.has(sequence_id)
    assert folder.load(sequence_id) == _tracks(sequence_id)
    assert len(list((tmp_path / "sequences").iterdir())) == 1  # no temporary file is left, no subfolder made


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    ResultFolder(tmp_path).open(SETTINGS)
    ResultFolder(tmp_path).save(_tracks("bear"))
    ResultFolder(tmp_path).open(SETTINGS)
    assert ResultFolder(tmp_path).has("bear")


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    folder.open(SETTINGS)
    changed = {**SETTINGS, "config": {"INPUT": {"MIN_DIM": 96, "MEAN": (1.0, 2.0)}}}
    folder.open(changed)  # nothing is there yet that could be mixed
    folder.open(SETTINGS)
    folder.save(_tracks("bear"))
    with pytest.raises(ConfigError, match=r"config\.INPUT\.MIN_DIM was 88, is 96\. .*--overwrite"):
        folder.open(changed)
    assert folder.has("bear")
    folder.open(changed, overwrite=True)
    assert not folder.has("bear")


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious.txt").write_text("mine")
    ResultFolder(tmp_path).open(SETTINGS, overwrite=True)
    assert (tmp_path / "results" / "precious.txt").exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    folder.open(SETTINGS)
    (tmp_path / "sequences" / "bear.json").write_text('{"height": 3')
    with pytest.raises(DataError, match=r"bear\.json.*delete it"):
        folder.load("bear")
