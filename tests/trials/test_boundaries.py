"""Bounds of what is taken, and places that can't be read or written: each ends in one line, at once."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from stemseg.data.prepare import main as prepare
from stemseg.evaluation import main as evaluate
from stemseg.evaluation.ground_truth import read_sequence_names
from stemseg.inference.own_videos import open_own_videos
from stemseg.structures.annotations import load_annotations
from stemseg.structures.rle import check_rle_size, decode_rle
from stemseg.training import main as train
from stemseg.utils.errors import DataError
from stemseg.utils.files import file_name
from tests.helpers import official_trees as trees
from tests.trials.annotation_files import official_truth
from tests.trials.harness import Command, message_of, run


def ends_with(command: Command, arguments: list, *texts: str) -> None:
    """The command ends with exit code 1 and a message that holds the texts."""
    outcome = run(command, list(map(str, arguments)))
    assert outcome.code == 1 and not outcome.crash, (outcome.crash, outcome.text)
    for text in texts:
        assert text in message_of(outcome.text), outcome.text


def test_pipes_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    ends_with(evaluate.main, ["--dataset", "ytvis", "--results", pipe, "--gt", pipe], "pipe.json is a pipe or a device")
    ends_with(train.main, ["--show_config", "--cfg", pipe], "pipe.json")
    with pytest.raises(DataError, match="pipe or a device"):
        open_own_videos([pipe])
    with pytest.raises(DataError, match="pipe or a device"):
        load_annotations(pipe)


@pytest.mark.parametrize("output", ["file", "file/below", "x" * 300])
def test_output_that_cannot_be_written_is_named(tmp_path: Path, output: str) -> None:
    trees.coco(tmp_path)
    (tmp_path / "file").write_text("mine")
    ends_with(prepare.main, ["coco", tmp_path, "-o", tmp_path / output, "--workers", "1"], output, "; ")
    bench = official_truth(tmp_path)
    ends_with(evaluate.main, [*bench.arguments, "--output", tmp_path / output], output, "; ")
    assert (tmp_path / "file").read_text() == "mine"


def test_zipped_results_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = official_truth(tmp_path)
    with zipfile.ZipFile(tmp_path / "results.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", bytes(100_000))
    monkeypatch.setattr("stemseg.evaluation.youtube_vis.files._MAX_RESULTS", 99_999)
    arguments = ["--dataset", "ytvis", "--gt", bench.path, "--results", tmp_path / "results.zip"]
    ends_with(evaluate.main, arguments, "results.zip: results.json has 100000 bytes unpacked, expected at most 99999")
    (tmp_path / "results.zip").write_bytes((tmp_path / "results.zip").read_bytes()[:-30])
    ends_with(evaluate.main, arguments, "results.zip is no zip file")


@pytest.mark.parametrize("key", ["TRAINING.BATCH_SIZE", "TRAINING.MAX_ITERATIONS", "INPUT.MIN_DIM", "TRAINING.SEED"])
def test_numbers_of_the_configuration_are_bounded(key: str) -> None:
    ends_with(train.main, ["--show_config", "--cfg", "davis_1", "--set", f"{key}=100000000000"], key, "expected")


def test_numbers_without_end_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(DataError, match="more than 7 groups"):
        check_rle_size("fo2ZPPPPPPPPPPPPPPPPP?", 48, 64)
    with pytest.raises(DataError, match="more than 7 groups"):
        decode_rle("fo2ZPPPPPPPPPPPPPPPPP?", 48, 64)


@pytest.mark.parametrize("name", ["..", ".", "...", "a/b", "../x"])
def test_no_name_of_a_sequence_leads_out_of_a_folder(tmp_path: Path, name: str) -> None:
    assert (tmp_path / "results" / file_name(name)).resolve().parent == tmp_path / "results"


def test_an_empty_input_is_not_the_current_folder() -> None:
    with pytest.raises(DataError, match="empty text"):
        open_own_videos([""])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfcar\r\nbear\r\n")
    assert list(read_sequence_names([str(tmp_path / "val.txt")])) == ["car", "bear"]
