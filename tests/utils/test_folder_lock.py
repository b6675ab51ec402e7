"""A folder has one owner at a time; whoever is gone owns nothing."""

import json
import os
import socket
import subprocess
import sys

import pytest

from stemseg.utils.errors import OutputError
from stemseg.utils.folder_lock import LOCK_NAME, held_folder


def test_a_held_folder_is_refused_with_its_holder_and_free_afterwards(tmp_path):
    folder = tmp_path / "run"
    with held_folder(folder):
        record = json.loads((folder / LOCK_NAME).read_text())
        assert record["host"] == socket.gethostname() and record["process"] == os.getpid() and record["started"]
        message = rf"run is in use by process {os.getpid()} on .* since 20.*lock.json"
        with pytest.raises(OutputError, match=message), held_folder(folder):
            pass
        assert json.loads((folder / LOCK_NAME).read_text()) == record
    assert not (folder / LOCK_NAME).exists()
    with held_folder(folder):
        pass


def test_an_error_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), held_folder(tmp_path):
        raise KeyError
    assert not (tmp_path / LOCK_NAME).exists()


def _ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("kind", ["ended", "id given anew", "silent machine", "damaged"])
def test_a_stale_lock_is_taken_over(tmp_path, kind):
    record = {"host": socket.gethostname(), "process": os.getpid(), "process_start": 1, "started": "then"}
    if kind == "ended":
        record["process"] = _ended_process()
    elif kind == "silent machine":
        record["host"] = "elsewhere"
    path = tmp_path / LOCK_NAME
    path.write_text("" if kind == "damaged" else json.dumps(record))
    os.utime(path, (1, 1))
    with held_folder(tmp_path):
        assert json.loads(path.read_text())["started"] != "then"


@pytest.mark.parametrize("content", ["", '{"host": "elsewhere", "process": 1, "started": "now"}'])
def test_a_fresh_lock_of_another_machine_or_still_being_written_is_respected(tmp_path, content):
    (tmp_path / LOCK_NAME).write_text(content)
    with pytest.raises(OutputError, match="in use by"), held_folder(tmp_path):
        pass
    assert (tmp_path / LOCK_NAME).read_text() == content
