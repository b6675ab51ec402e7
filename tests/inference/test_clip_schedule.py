"""The frames of each clip: golden rows, however the frames arrive; and what may be forgotten when."""

from __future__ import annotations

import json

import pytest

from stemseg.inference.chaining import ClipFrames, ClipSchedule
from stemseg.utils.errors import ConfigError
from tests.helpers.paths import GOLDEN_DIR

DEFAULT_OVERLAPS = {"davis": 6, "ytvis": 4, "kittimots": 4}


def _clips(length: int, clip_length: int, overlap: int, chunk: int) -> list[ClipFrames]:
    schedule = ClipSchedule(clip_length, overlap)
    clips = []
    for start in range(0, length, chunk):
        clips += schedule.add(min(chunk, length - start))
    return clips + schedule.finish()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_clips_equal_the_published_ones_however_frames_arrive(chunk: int) -> None:
    for length, clip_length, overlap, indices, padded in json.loads(
        (GOLDEN_DIR / "subsequence_frames.json").read_text()
    )["rows"]:
        clips = _clips(length, clip_length, DEFAULT_OVERLAPS.get(overlap, overlap), chunk)
        assert [list(clip.indices) for clip in clips] == indices
        # the last repetition of the first frame is the frame itself
        assert clips[0].num_padding == (sum(padded) if padded else 0)


@pytest.mark.parametrize(("clip_length", "overlap"), [(2, 1), (4, 1), (8, 4), (8, 6), (8, 7), (16, 6)])
def test_no_clip_comes_for_a_frame_declared_closed(clip_length: int, overlap: int) -> None:
    for length in range(1, 50):
        schedule, first_open, clips = ClipSchedule(clip_length, overlap), 0, []
        for _ in range(length):
            clips = schedule.add(1)
            assert all(clip.frames[0] >= first_open for clip in clips)
            assert schedule.num_frames - schedule.first_open_frame <= clip_length  # what must be kept is bounded
            first_open = schedule.first_open_frame
        assert all(clip.frames[0] >= first_open for clip in schedule.finish())
        assert schedule.first_open_frame == length


def test_an_empty_video_has_no_clips() -> None:
    assert ClipSchedule(8, 4).finish() == []


@pytest.mark.parametrize("overlap", [0, 8])
def test_an_overlap_without_a_step_forward_is_refused(overlap: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 7"):
        ClipSchedule(8, overlap)
