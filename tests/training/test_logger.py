"""The log of a run: memory beside the figures, a text file, and nothing that ends the run or waits for ever."""

import errno
import json
import logging

import pytest

from stemseg.training.logger import IterationRecord, TrainingLogger, log_to_file

RECORD = IterationRecord({"total": 1.0}, 0.1, 2.0, 0.5, 0.1)


def _logger(folder):
    return TrainingLogger(folder, max_iterations=100, display_interval=1, summary_interval=1)


def test_memory_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    log = _logger(tmp_path)
    log.add(1, RECORD)
    log.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert 0.01 < line["memory/host_gib"] < 1000
    assert f"memory {line['memory/host_gib']:.1f} GiB" in caplog.text


def test_a_dead_writer_of_tensorboard_neither_waits_nor_ends_the_run(tmp_path, caplog, monkeypatch):
    """As on a full disk: its thread dies, and whatever is given to it then would wait for ever."""
    log = _logger(tmp_path)
    log.add(1, RECORD)
    worker = log._writer.file_writer.event_writer._worker
    worker.stop()
    for iteration in range(2, 40):  # many more than its queue holds
        log.add(iteration, RECORD)
    log.close()
    assert caplog.text.count("TensorBoard's file can't be written any more") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 39


def test_figures_that_cannot_be_written_are_a_warning(tmp_path, caplog):
    (tmp_path / "metrics.jsonl").mkdir()
    log = _logger(tmp_path)
    log.add(1, RECORD)
    log.close()
    assert "the scalars could not be written" in caplog.text


def test_a_line_that_was_cut_off_spoils_none_behind_it(tmp_path, caplog, monkeypatch):
    """By a kill, which the next attempt meets, and by a full disk, which the run outlives."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1, "a": 1}\n{"iteration": 2, "a')
    log, whole = _logger(tmp_path), json.dumps
    log.add_scalars(3, {"a": 3})

    def full(value):
        path.open("a").write(whole(value)[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    log.add_scalars(4, {"a": 4})
    monkeypatch.setattr(json, "dumps", whole)
    log.add_scalars(5, {"a": 5})
    log.close()
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [1, 3, 5]
    assert "the scalars could not be written: [Errno 28] No space left" in caplog.text


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_log_file_holds_what_is_said_and_is_given_up_where_it_cannot_be(tmp_path, is_folder, capsys, monkeypatch):
    path = tmp_path / "log.txt"
    if is_folder:
        path.mkdir()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # without what other tests left there
    log_to_file(path)
    logging.getLogger("stemseg.training").warning("careful")
    for handler in root.handlers:
        handler.close()
    assert "Traceback" not in capsys.readouterr().err
    assert is_folder or "WARNING  careful" in path.read_text()
