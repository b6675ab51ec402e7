"""The streaming inference of whole videos equals the plain one: clip by clip, through the whole network, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch

from stemseg.config import Config, load_config
from stemseg.data.preprocessing import build_preprocessor
from stemseg.inference.clustering import ClipMaps
from stemseg.inference.frame_sources import Frame, FrameReader, FrameSource
from stemseg.inference.online_engine import build_engine
from stemseg.inference.video_segmenter import build_segmenter
from stemseg.modeling.network import Network, build_network
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import VideoTracks
from tests import reference
from tests.helpers.small_network import SMALL_CUSTOM_MODEL

CPU = torch.device("cpu")
SIZE = (42, 64)  # enters the network as 59 x 90, padded to 64 x 96
CLASS_AGNOSTIC = (
    "MODEL.USE_SEMSEG_HEAD=false",
    "INPUT.NUM_CLASSES=2",
    "MODEL.USE_SEEDINESS_HEAD=true",
    "INFERENCE.SEEDINESS_THRESHOLD=0.45",
)
RESIZED = ("INFERENCE.RESIZE_EMBEDDINGS=true",)
COMPAT = ("CLUSTERING.STEMSEG_COMPAT=true", "CLUSTERING.MAX_INSTANCES=3")


class Schedule(NamedTuple):
    """T, the frames that consecutive clips share, and the frames of the video."""

    clip_length: int
    overlap: int
    num_frames: int


CLOSE, FLUSH, FEW = Schedule(4, 3, 7), Schedule(8, 3, 15), Schedule(4, 2, 3)  # few frames: less than a clip
OTHERS = ((4, 2, 10), (4, 2, 11), (4, 1, 9), (2, 1, 4), (4, 2, 4), (8, 4, 1))
SCHEDULES = [CLOSE, FLUSH, FEW, *(Schedule(*numbers) for numbers in OTHERS)]


class MemoryFrames(FrameSource):
    """A video in memory."""

    def __init__(self, images: list[np.ndarray]) -> None:
        super().__init__("video", "a video in memory")
        self._images = images

    @property
    def expected_length(self) -> int:
        return len(self._images)

    def readers(self) -> Iterator[FrameReader]:
        return (partial(Frame, f"{t:05d}", image) for t, image in enumerate(self._images))

    def fingerprint(self) -> str:
        return ""


def _config(schedule: Schedule, overrides: tuple[str, ...]) -> Config:
    sizes = (f"INPUT.NUM_FRAMES={schedule.clip_length}", f"DATA.CUSTOM.INFERENCE_FRAME_OVERLAP={schedule.overlap}")
    return load_config(None, [*SMALL_CUSTOM_MODEL, "INPUT.MIN_DIM=59", "INPUT.MAX_DIM=90", *sizes, *overrides])


@lru_cache(maxsize=2)
def _network(schedule: Schedule, overrides: tuple[str, ...]) -> Network:
    torch.manual_seed(3)
    return build_network(_config(schedule, overrides)).eval()


def _images(count: int) -> list[np.ndarray]:
    """A textured ground with a bright square that moves."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 160, (6, 9, 3), dtype=np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    images = [ground.copy() for _ in range(count)]
    for t, image in enumerate(images):
        image[10:26, 4 + 2 * t : 20 + 2 * t] = (40, 220, 240)
    return images


CASES = {
    "semantic head": (),
    "class-agnostic": CLASS_AGNOSTIC,
    "semantic head, resized": RESIZED,
    "class-agnostic, resized": (*CLASS_AGNOSTIC, *RESIZED),
    "semantic head, compat": COMPAT,
    "class-agnostic, compat, resized": (*CLASS_AGNOSTIC, *COMPAT, *RESIZED),
}


# rounding, which is another where a sum is made of a clip's terms, may move a point across a threshold
MAP_DIFFERENCE, MOVED_SHARE = 2e-6, 1e-3


def _pairs() -> Iterator[object]:
    """Two cases with every schedule, the others with those that differ most."""
    for name, overrides in CASES.items():
        for schedule in SCHEDULES if name in ("semantic head", "class-agnostic, resized") else SCHEDULES[:3]:
            length, overlap, frames = schedule
            yield pytest.param(schedule, overrides, id=f"{name}, {overlap} of {length}, {frames} frames")


@pytest.mark.parametrize(("schedule", "overrides"), list(_pairs()))
def test_a_whole_video_equals_the_plain_computation(schedule: Schedule, overrides: tuple[str, ...]) -> None:
    cfg, network, images = _config(schedule, overrides), _network(schedule, overrides), _images(schedule.num_frames)
    rules = cfg.DATA.CUSTOM
    plain = reference.segment_plainly(
        network, cfg, images, overlap=rules.INFERENCE_FRAME_OVERLAP, max_tracks=rules.MAX_INFERENCE_TRACKS
    )
    assert len(plain.tracks) >= 2
    _check_engine(network, cfg, images, plain)
    segmenter = build_segmenter(cfg, network.inference_copy(), device=CPU, section="CUSTOM")
    _check_tracks(segmenter.segment(MemoryFrames(images)), plain, compat=cfg.CLUSTERING.STEMSEG_COMPAT)


def _check_engine(network: Network, cfg: Config, images: list[np.ndarray], plain: reference.PlainVideo) -> None:
    """Maps of all clips and labels of all frames, of the network as it was trained, with what comes in beside it."""
    overlap, kept = cfg.DATA.CUSTOM.INFERENCE_FRAME_OVERLAP, []
    engine = build_engine(cfg, network, frame_overlap=overlap, device=CPU, in_background=True)
    label = engine._label
    engine._label = lambda clip: (kept.append(clip), label(clip))
    preprocessor = build_preprocessor(cfg)
    for batch in torch.stack([preprocessor(image, 32) for image in images]).split(3):
        engine.step(batch)
    store = engine.finish()
    assert len(kept) == len(plain.clips)
    for ours, theirs in zip(kept, plain.clips, strict=True):
        _check_maps(ours, theirs)
    labels = np.stack([store.labels(t) for t in range(len(images))])
    assert (labels != plain.labels.numpy()).mean() <= MOVED_SHARE


def _check_maps(ours: ClipMaps, theirs: reference.PlainClip) -> None:
    assert list(ours.frames) == theirs.frames[theirs.num_padding :]
    output = theirs.output
    maps = torch.cat([output.embedding, output.raw_bandwidth, output.seediness])[:, theirs.num_padding :]
    assert ours.maps.shape == maps.shape
    assert (ours.maps - maps).abs().max() <= MAP_DIFFERENCE * maps.abs().max().clamp(min=1)


def _check_tracks(found: VideoTracks, plain: reference.PlainVideo, *, compat: bool) -> None:
    """Tracks in their order: class, score and masks."""
    assert len(found.tracks) == len(plain.tracks)
    for i, (ours, theirs) in enumerate(zip(found.tracks, plain.tracks, strict=True)):
        assert ours.category_id == theirs.category
        assert ours.score == pytest.approx(theirs.pixels if compat else theirs.confidence, abs=2e-3)
        assert (_masks(found, i) != theirs.masks).mean() <= MOVED_SHARE


def _masks(tracks: VideoTracks, index: int) -> np.ndarray:
    empty = np.zeros(SIZE, dtype=bool)
    return np.stack([empty if c is None else decode_rle(c, *SIZE) > 0 for c in tracks.tracks[index].segmentations])
