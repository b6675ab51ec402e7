"""Parts of a video, as a user names them."""

import pytest

from stemseg.structures.frame_range import FrameRange, parse_frame_range
from stemseg.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1:3", FrameRange(1, 3)), ("2:", FrameRange(2)), (":3", FrameRange(0, 3)), ("2", FrameRange(2, 3))],
)
def test_ranges_of_frames_are_read(text: str, expected: FrameRange) -> None:
    assert parse_frame_range(text) == expected


@pytest.mark.parametrize("text", ["a:b", "3:1", "2:2", "-1:3", "1:2:3"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_frame_range(text)


def test_the_frames_of_a_range_are_counted() -> None:
    assert [parse_frame_range("1:8", 3).count(total) for total in (None, 100, 5, 0)] == [3, 3, 2, 0]
    assert FrameRange(2).count(None) is None and FrameRange(2).count(10) == 8
    assert FrameRange().is_whole and not FrameRange(step=2).is_whole
    assert str(parse_frame_range("5:")) == "5::1"
