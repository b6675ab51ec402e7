"""Tracks as people read them."""

import numpy as np
import pytest

from stemseg.structures.rle import encode_rle
from stemseg.structures.track_summary import count_labels, label_of, summarize_tracks
from stemseg.structures.tracks import Track, VideoTracks


def video() -> VideoTracks:
    masks = np.zeros((5, 20, 30), dtype=np.uint8)
    masks[:, 4:8, 10:15] = 1
    masks[4, 4:10, 10:15] = 1
    counts = [encode_rle(mask) for mask in masks]
    tracks = [Track(1, 2, 1.0, [counts[0], counts[1], None, None, counts[4]]), Track(2, 7, 0.5, [None] * 5)]
    return VideoTracks("clip", 20, 30, 5, list("abcde"), tracks)


def test_frames_areas_and_boxes_are_those_of_the_masks() -> None:
    first, second = summarize_tracks(video(), {2: "dog"})
    assert (first.id, first.label, first.score) == (1, "dog", 1.0)
    assert (first.frames, first.areas) == ([0, 1, 4], [20, 20, 30])
    np.testing.assert_array_equal(first.boxes, [[10, 4, 5, 4], [10, 4, 5, 4], [10, 4, 5, 6]])
    assert first.stretches == [(0, 1), (4, 4)]
    assert (second.label, second.frames, second.boxes.shape) == ("class 7", [], (0, 4))


@pytest.mark.parametrize(("names", "expected"), [({}, "2 objects"), ({2: "dog", 7: "cat"}, "1 dog, 1 cat")])
def test_objects_are_counted_by_label(names: dict[int, str], expected: str) -> None:
    assert count_labels(summarize_tracks(video(), names)) == expected
    assert count_labels([]) == "no objects"
    assert label_of(1, {}) == "object"
