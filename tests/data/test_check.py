"""The check of the data before a training: what is wrong is named, what is right is remembered."""

import json
import os

import pytest

from stemseg.data import check
from stemseg.data.check import check_training_data
from stemseg.data.sources import OpenedStills, OpenedVideos
from stemseg.structures.annotations import load_still_annotations, load_video_annotations
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import DataError
from tests.helpers.tiny_datasets import make_stills, make_videos


@pytest.fixture
def videos(tmp_path):
    make_videos(tmp_path)
    return tmp_path


def _check(folder, **options):
    opened = OpenedVideos(load_video_annotations(folder / "videos.json"), folder)
    return check_training_data([opened], process=ProcessInfo(), **options)


def test_what_was_checked_is_only_looked_at_again(videos, monkeypatch):
    read = []
    read_image = check.read_image
    monkeypatch.setattr(check, "read_image", lambda *a, **k: read.append(a) or read_image(*a, **k))
    assert _check(videos)
    assert len(read) == 6 + 9
    assert _check(videos) and len(read) == 15, "remembered"
    os.utime(videos / "seq0" / "00000.png", ns=(1, 1))
    assert _check(videos) and len(read) == 30, "a file changed"
    os.utime(videos / "videos.json", ns=(1, 1))
    assert _check(videos) and len(read) == 45, "the annotations changed"


def test_images_that_cannot_be_used_are_all_named(videos):
    (videos / "seq0" / "00003.png").write_bytes((videos / "seq0" / "00003.png").read_bytes()[:-300])
    (videos / "seq1" / "00008.png").unlink()
    for _ in range(2):  # what is wrong is not remembered as right
        with pytest.raises(DataError, match="2 problems among 15 images") as caught:
            _check(videos)
        message = str(caught.value)
        assert "sequence 'seq0', frame 3: " in message and "damaged or cut off" in message
        assert "sequence 'seq1', frame 8: cannot read the image" in message
        assert "--skip_bad_samples N" in message


def test_with_samples_that_may_be_skipped_problems_are_warnings(videos, caplog):
    (videos / "seq1" / "00008.png").unlink()
    assert _check(videos, tolerant=True)
    assert "1 problems among 15 images" in caplog.text


def test_held_out_videos_are_checked_as_well_and_have_no_samples_to_skip(videos, tmp_path_factory):
    held_out = tmp_path_factory.mktemp("held out")
    make_videos(held_out, (3,))
    opened = OpenedVideos(load_video_annotations(held_out / "videos.json"), held_out)
    assert _check(videos, held_out=opened) and (held_out / ".videos.json.checked").is_file()
    (held_out / "seq0" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"sequence 'seq0', frame 1.*does not exist") as caught:
        _check(videos, held_out=opened, tolerant=True)
    assert "--skip_bad_samples" not in str(caught.value)


def test_masks_of_another_size_are_named(videos):
    content = json.loads((videos / "videos.json").read_text())
    first = content["sequences"][0]["segmentations"][2]
    instance = next(iter(first))
    first[instance] = "PPYo0"
    (videos / "videos.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"sequence 'seq0', frame 2 .*instance {instance}"):
        _check(videos)


def test_stills_are_checked_too(tmp_path):
    make_stills(tmp_path)
    opened = OpenedStills(load_still_annotations(tmp_path / "stills.json"), tmp_path)
    assert check_training_data([opened], process=ProcessInfo())
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"image '1.png': .*0 bytes"):
        check_training_data([opened], process=ProcessInfo())


def test_a_check_can_be_ended_and_is_then_not_remembered(videos):
    assert not _check(videos, is_cancelled=lambda: True)
    assert not (videos / ".videos.json.checked").exists()


def test_a_dataset_of_others_is_checked_again_each_time(videos, monkeypatch, caplog):
    def refuse(*_):
        raise check.OutputError("read-only")

    monkeypatch.setattr(check, "write_text", refuse)
    caplog.set_level("INFO")
    assert _check(videos)
    assert "the check is not remembered: read-only" in caplog.text
