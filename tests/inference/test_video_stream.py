"""Streams: the same objects as of the whole video, a bounded number of frames late, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stemseg.config import Config, load_config
from stemseg.inference.own_videos import MemoryVideo
from stemseg.inference.video_segmenter import VideoSegmenter, build_segmenter
from stemseg.inference.video_stream import SeenFrame, VideoStream
from stemseg.structures.rle import decode_rle
from stemseg.utils.errors import DataError
from tests.helpers.fake_network import FakeNetwork

SIZE = (64, 96)
OVERLAP = 4


def config(score: str) -> Config:
    return load_config(
        {
            "INFERENCE": {"TRACK_SCORE": score},
            "INPUT": {"NUM_CLASSES": 4, "NUM_FRAMES": 8, "MIN_DIM": 64, "MAX_DIM": 96, "IMAGE_MEAN": [0.0, 0.0, 0.0]},
            "MODEL": {"USE_SEMSEG_HEAD": True},
            "CLUSTERING": {"MIN_SEEDINESS_PROB": 0.5},
            "DATA": {"DAVIS": {"INFERENCE_FRAME_OVERLAP": OVERLAP}},
        }
    )


class Fake(FakeNetwork):
    def prepare_for_inference(self) -> FakeNetwork:
        return self.eval()


def segmenter(score: str = "pixels") -> VideoSegmenter:
    return build_segmenter(config(score), Fake(), device=torch.device("cpu"))


def frames(length: int) -> np.ndarray:
    """[T, H, W, 3], B G R as the fake network reads them: object, class, foreground."""
    video = np.zeros((length, *SIZE, 3), dtype=np.uint8)
    for t in range(length):
        for number, (x, y, label) in enumerate([(8 + t // 3 * 4, 8, 1), (60 - t // 3 * 4, 36, 2)], start=1):
            video[t, y : y + 20, x : x + 20] = (number, label, 5)
    return video


def run(stream: VideoStream, images: np.ndarray) -> list[SeenFrame]:
    """All frames; checks each one's delay."""
    seen = []
    for t, image in enumerate(images):
        seen += stream.step(image)
        assert t - len(seen) < stream.max_delay  # the oldest frame that is waiting
    return seen + stream.finish()


@pytest.mark.parametrize("length", [1, 5, 8, 9, 21, 32])
def test_a_stream_finds_what_the_whole_video_shows(length: int) -> None:
    images = frames(length)
    seen = run(segmenter().open_stream(), images)
    assert [frame.index for frame in seen] == list(range(length))
    whole = segmenter().segment(MemoryVideo(images[..., ::-1]))
    assert len(whole.tracks) == 2
    for frame in seen:
        np.testing.assert_array_equal(frame.image, images[frame.index])
        counts = [track.segmentations[frame.index] for track in whole.tracks]
        expected = {decode_rle(c, *SIZE).tobytes("C") for c in counts if c is not None}
        assert {np.ascontiguousarray(found.mask).tobytes() for found in frame.objects} == expected


def test_objects_keep_their_numbers_and_have_classes_and_scores() -> None:
    seen = run(segmenter().open_stream(), frames(24))
    numbers = [[found.track_id for found in frame.objects] for frame in seen]
    assert all(number == numbers[0] for number in numbers) and len(numbers[0]) == 2
    assert {found.category_id for found in seen[-1].objects} == {1, 2}
    assert all(0 < found.score <= 1 for frame in seen for found in frame.objects)


def test_memory_stays_bounded() -> None:
    stream = segmenter().open_stream()
    sizes = []
    for image in frames(24):
        stream.step(image)
        sizes.append(stream._engine.store.num_bytes)
        assert len(stream._waiting) <= stream.max_delay + 1
    assert max(sizes) == 0  # what has been handed out is dropped


def test_a_frame_of_another_size_is_refused() -> None:
    stream = segmenter().open_stream()
    stream.step(np.zeros((*SIZE, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="32 x 48 pixels"):
        stream.step(np.zeros((32, 48, 3), dtype=np.uint8))


def test_an_empty_stream_ends_without_frames() -> None:
    assert segmenter().open_stream().finish() == []


def test_faint_objects_are_left_out_of_a_stream() -> None:
    whole, part = (run(segmenter("confidence").open_stream(min_score=m), frames(24)) for m in (0.0, 0.75))
    scores = [[found.score for found in frame.objects] for frame in whole]
    assert min(map(min, scores)) < 0.75 <= max(map(max, scores))
    assert [[found.score for found in frame.objects] for frame in part] == [
        [score for score in row if score >= 0.75] for row in scores
    ]


@pytest.mark.parametrize("kind", ["pixels", "confidence"])
def test_the_last_scores_of_a_stream_are_those_of_the_whole_video(kind: str) -> None:
    images = frames(24)
    *_, last = run(segmenter(kind).open_stream(), images)
    whole = segmenter(kind).segment(MemoryVideo(images[..., ::-1]))
    assert sorted(found.score for found in last.objects) == pytest.approx(sorted(t.score for t in whole.tracks))
