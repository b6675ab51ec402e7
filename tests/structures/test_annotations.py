"""The standard annotation JSON: round trips, and inconsistencies that must be named."""

import json

import numpy as np
import pytest

from stemseg.structures.annotations import (
    StillImage,
    VideoSequence,
    load_annotations,
    load_still_annotations,
    load_video_annotations,
    save_still_annotations,
    save_video_annotations,
)
from stemseg.structures.rle import encode_rle
from stemseg.utils.errors import DataError

LABELS = {1: "person", 7: "dog"}
COUNTS = encode_rle(np.eye(4, 6))


def video(**changes):
    values = {
        "id": "bear", "height": 4, "width": 6, "image_paths": ["bear/0.jpg", "bear/1.jpg"],
        "categories": {2: 7}, "segmentations": [{2: COUNTS}, {}],
    }  # fmt: skip
    return VideoSequence(**{**values, **changes})


def test_videos_survive_a_round_trip(tmp_path):
    test_set = video(id=5, categories=None, segmentations=None)
    save_video_annotations(tmp_path / "a.json", [video(), test_set], LABELS)
    annotations = load_video_annotations(tmp_path / "a.json", check_masks=True)
    assert annotations.category_labels == LABELS
    assert list(annotations) == [video(), test_set]
    assert [len(s) for s in annotations] == [2, 2]
    assert not annotations.is_annotated


def test_stills_survive_a_round_trip(tmp_path):
    images = [StillImage(4, 6, "a.jpg", [7], [COUNTS], ignore=COUNTS), StillImage(4, 6, "b.jpg", [], [])]
    save_still_annotations(tmp_path / "a.json", images, LABELS)
    annotations = load_still_annotations(tmp_path / "a.json", check_masks=True)
    assert annotations.images == images


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    save_video_annotations(path, [video()], LABELS)
    before = path.read_bytes()

    def stops_after_one():
        yield video(id="other")
        raise DataError("the second video is damaged")

    with pytest.raises(DataError, match="second"):
        save_video_annotations(path, stops_after_one(), LABELS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def damaged(tmp_path, **changes):
    path = tmp_path / "damaged.json"
    save_video_annotations(path, [video()], LABELS)
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del content["sequences"][0][key]
        else:
            content["sequences"][0][key] = value
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": None}, ["bear", "'height' is missing"]),
        ({"image_paths": [], "segmentations": []}, ["bear", "no frames"]),
        ({"categories": {"3": 7}}, ["bear", "frame 0 (bear/0.jpg)", "instance 2", "no category"]),
        ({"segmentations": [{}]}, ["2 image_paths and 1 segmentations"]),
        (
            {"segmentations": [{}, {"2": encode_rle(np.ones((4, 5)))}]},
            ["frame 1 (bear/1.jpg)", "instance 2", "20 pixels"],
        ),
    ],
)
def test_inconsistent_sequences_are_named(tmp_path, changes, words):
    with pytest.raises(DataError) as error:
        load_annotations(damaged(tmp_path, **changes), check_masks=True)
    for word in ["damaged.json", *words]:
        assert word in str(error.value)


def test_inconsistent_stills_are_named(tmp_path):
    save_still_annotations(tmp_path / "a.json", [StillImage(4, 6, "a.jpg", [7, 1], [COUNTS])], LABELS)
    with pytest.raises(DataError, match=r"a\.jpg.* 2 categories and 1 segmentations"):
        load_annotations(tmp_path / "a.json")


def test_files_of_the_wrong_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_annotations(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"meta": ')
    with pytest.raises(DataError, match="not valid JSON"):
        load_annotations(tmp_path / "half.json")
    (tmp_path / "empty.json").write_text('{"meta": {"category_labels": {}}}')
    with pytest.raises(DataError, match="expected 'sequences'"):
        load_annotations(tmp_path / "empty.json")
    save_video_annotations(tmp_path / "videos.json", [video()], LABELS)
    with pytest.raises(DataError, match="expected still images"):
        load_still_annotations(tmp_path / "videos.json")
