"""The streaming engine against the whole computation at once, and its bounds on memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from stemseg.config import Config, load_config
from stemseg.inference.chaining import Chainer, ClipSchedule
from stemseg.inference.clustering import SequentialClustering
from stemseg.inference.online_engine import InferenceEngine, build_engine
from stemseg.inference.tracks import TrackStore
from stemseg.utils import devices
from tests.helpers.fake_network import FakeNetwork, moving_squares
from tests.helpers.label_maps import clip_labels, track_maps

CPU = torch.device("cpu")
SEMANTIC = ["MODEL.USE_SEMSEG_HEAD=true", "INPUT.NUM_CLASSES=4", "CLUSTERING.MIN_SEEDINESS_PROB=0.5"]
CLASS_AGNOSTIC = ["CLUSTERING.MIN_SEEDINESS_PROB=0.5", "INFERENCE.SEEDINESS_THRESHOLD=0.65"]


def _engine(overrides: list[str], overlap: int, network: FakeNetwork | None = None) -> InferenceEngine:
    cfg = load_config(None, overrides)
    network = network or FakeNetwork(semantic=cfg.MODEL.USE_SEMSEG_HEAD)
    return build_engine(cfg, network, frame_overlap=overlap, device=CPU)


def _labels(store: TrackStore) -> np.ndarray:
    return np.stack([store.labels(t) for t in range(len(store))])


def _upsample(maps: Tensor, scale: int) -> Tensor:
    """[C, T, h, w] -> [C, T, scale * h, scale * w]."""
    return F.interpolate(maps[None], scale_factor=(1, scale, scale), mode="trilinear", align_corners=False)[0]


@torch.no_grad()
def _whole_video(frames: Tensor, cfg: Config, overlap: int) -> tuple[np.ndarray, dict[int, Tensor]]:
    """Track labels and class votes, with every map of the whole video upsampled and in memory."""
    network, scale = FakeNetwork(semantic=cfg.MODEL.USE_SEMSEG_HEAD), 4 if cfg.INFERENCE.RESIZE_EMBEDDINGS else 1
    schedule = ClipSchedule(cfg.INPUT.NUM_FRAMES, overlap)
    clips = [clip.indices for clip in schedule.add(len(frames)) + schedule.finish()]
    features = network.encode(frames)
    outputs = [network.decode(type(features)(*(x[list(c)].transpose(0, 1)[None] for x in features))) for c in clips]
    sums: dict[int, list[Tensor]] = {}
    for clip, out in zip(clips, outputs, strict=True):
        semantic = torch.cat([out.class_logits, out.foreground_logits], 1) if network.semantic else out.seediness
        for t, frame_map in zip(clip, _upsample(semantic[0], scale).unbind(1), strict=True):
            sums.setdefault(t, []).append(frame_map)
    means = torch.stack([torch.stack(sums[t]).mean(0) for t in range(len(frames))])  # [F, C, H, W]
    foreground = means[:, -1] > (0 if network.semantic else cfg.INFERENCE.SEEDINESS_THRESHOLD)
    clustering = SequentialClustering(
        min_seediness=0.5, primary_threshold=0.5, secondary_threshold=0.3, max_instances=20
    )
    chainer, all_labels = Chainer(), []
    for clip, out in zip(clips, outputs, strict=True):
        fg = foreground[list(clip)]
        bandwidths = torch.cat([10 * out.raw_bandwidth.exp(), torch.full_like(out.raw_bandwidth, 10.0)], 1)
        points = [_upsample(x[0], scale)[:, fg] for x in (out.embedding, bandwidths, out.seediness)]
        clusters = clustering(points[0], points[1], points[2][0])
        labels = torch.zeros(fg.shape, dtype=torch.int32)
        labels[fg] = torch.where(clusters.labels >= 0, clusters.labels + 1, -1).int()
        all_labels.append(track_maps(chainer.add(clip_labels(clip, labels, clusters.num_instances))))
    labels = torch.cat(all_labels)
    votes = {i: (means * (labels == i)[:, None]).sum(dim=(0, 2, 3))[:-1] for i in labels[labels > 0].unique().tolist()}
    return labels.numpy(), votes


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize(("length", "overlap"), [(21, 4), (12, 6), (8, 1), (17, 7)])
def test_streaming_equals_the_whole_video_at_once(length: int, overlap: int, resize: bool) -> None:
    frames, overrides = moving_squares(length), [*SEMANTIC, f"INFERENCE.RESIZE_EMBEDDINGS={str(resize).lower()}"]
    engine = _engine(overrides, overlap)
    for start in range(0, length, 3):
        engine.step(frames[start : start + 3])
    store = engine.finish()
    labels, votes = _whole_video(frames, load_config(None, overrides), overlap)
    assert set(votes) == set(store.records)
    np.testing.assert_array_equal(_labels(store), labels)
    for track_id, expected in votes.items():
        np.testing.assert_allclose(store.records[track_id].class_logits, expected, rtol=1e-4, atol=1e-2)
    largest = sorted(store.records.values(), key=lambda record: record.num_pixels)[-2:]
    assert {record.category for record in largest} == {2, 3}


def test_mean_seediness_is_the_foreground_without_a_semantic_head() -> None:
    frames = moving_squares(13)
    engine = _engine(CLASS_AGNOSTIC, 4)
    engine.step(frames)
    store = engine.finish()
    labels, votes = _whole_video(frames, load_config(None, CLASS_AGNOSTIC), 4)
    assert len(votes) == 2
    np.testing.assert_array_equal(_labels(store), labels)
    assert all(record.class_logits is None and record.category == 1 for record in store.records.values())


@pytest.mark.parametrize("frames_per_step", [1, 5, 30])
def test_the_result_does_not_depend_on_how_frames_arrive(frames_per_step: int) -> None:
    frames, engine = moving_squares(30), _engine(SEMANTIC, 4)
    for batch in frames.split(frames_per_step):
        engine.step(batch)
    reference = _engine(SEMANTIC, 4)
    reference.step(frames)
    np.testing.assert_array_equal(_labels(engine.finish()), _labels(reference.finish()))


@pytest.mark.parametrize("overlap", [1, 4, 6])
def test_memory_is_bounded_however_long_the_video(overlap: int) -> None:
    """Never more is kept of frames and clips than after 40 frames; each frame is encoded once."""
    engine, frames = _engine(SEMANTIC, overlap, network := FakeNetwork()), moving_squares(40)
    kept = []
    for _ in range(8):
        for frame in frames.split(1):
            engine.step(frame)
            kept.append((engine.num_kept_features, engine.num_kept_averages, engine.num_waiting_clips))
    features, averages, clips = (max(column) for column in zip(*kept, strict=True))
    stride = 8 - overlap
    assert features <= 8
    assert averages <= 3 * 8
    assert clips <= 8 // stride + 2
    assert (features, averages, clips) == tuple(max(column) for column in zip(*kept[:40], strict=True))
    store = engine.finish()
    assert network.num_encoded == len(store) == 320
    assert (engine.num_kept_features, engine.num_kept_averages, engine.num_waiting_clips) == (0, 0, 0)


@pytest.mark.parametrize("length", [1, 5])
def test_a_video_shorter_than_a_clip_counts_its_first_frame_once(length: int) -> None:
    frames, engine = moving_squares(length), _engine(SEMANTIC, 4)
    engine.step(frames)
    store = engine.finish()
    assert len(store) == length
    assert len(store.records) == 2
    pixels = sum((store.labels(t) > 0).sum() for t in range(length))
    assert pixels == sum(record.num_pixels for record in store.records.values())


def test_repetitions_of_the_first_frame_are_averaged_in_compat_mode_only() -> None:
    votes = {}
    for compat in (False, True):
        engine = _engine([*SEMANTIC, f"CLUSTERING.STEMSEG_COMPAT={str(compat).lower()}"], 4)
        engine.step(moving_squares(1))
        votes[compat] = engine.finish().records[1].class_logits
    # the fake network's logits grow with the place in the clip: the mean over all places is below the last one
    assert votes[True].sum() < votes[False].sum() - 1


def test_the_seediness_of_repetitions_is_never_averaged() -> None:
    """The fake network's seediness grows with the place in the clip; the published code kept the last repetition's."""
    found = []
    for compat in (False, True):
        # above the threshold, 0.9, is the last of eight places alone: 0.7 + 0.3; their mean is 0.85
        settings = [f"CLUSTERING.STEMSEG_COMPAT={str(compat).lower()}", "INFERENCE.SEEDINESS_THRESHOLD=0.9"]
        engine = _engine([*CLASS_AGNOSTIC, *settings], 4)
        engine.step(moving_squares(1))
        found.append(int((engine.finish().labels(0) > 0).sum()))
    assert found[0] == found[1] > 0


def test_a_video_without_foreground_has_no_tracks() -> None:
    engine = _engine(SEMANTIC, 4)
    engine.step(torch.zeros(10, 3, 64, 96))
    store = engine.finish()
    assert len(store) == 10
    assert not store.records
    assert not _labels(store).any()


def test_finishing_ends_the_video() -> None:
    engine = _engine(SEMANTIC, 4)
    engine.step(moving_squares(3))
    assert engine.finish() is engine.finish()
    with pytest.raises(RuntimeError, match="finished"):
        engine.step(moving_squares(1))


class _Waits(TorchDispatchMode):
    """Counts the operations for which the host of a GPU waits, other than those of stemseg.utils.devices."""

    WAITING = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "unique", "item", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if by_mask or name.strip("_") in {waiting.strip("_") for waiting in self.WAITING}:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("overrides", [SEMANTIC, CLASS_AGNOSTIC, [*SEMANTIC, "INFERENCE.RESIZE_EMBEDDINGS=true"]])
def test_a_gpu_is_waited_for_twice_a_clip_and_once_an_instance(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, expected = moving_squares(21), _engine(overrides, 4)
    expected.step(frames)
    counts = {"read": 0, "copy_to_host": 0}

    def counted(name: str) -> None:
        original = getattr(devices, name)

        def call(*args: object) -> object:
            counts[name] += 1
            return original(*args)

        monkeypatch.setattr(devices, name, call)

    counted("read")
    counted("copy_to_host")
    monkeypatch.setattr(devices, "is_host", lambda device: False)  # every way that a GPU would go, but on the CPU
    engine = _engine(overrides, 4)
    instances = []
    cluster = engine._cluster
    monkeypatch.setattr(engine, "_cluster", lambda clip: instances.append(cluster(clip)) or instances[-1])
    with _Waits() as waits:
        engine.step(frames)
        store = engine.finish()
    assert not waits.found
    assert counts["copy_to_host"] == len(instances) == 5
    assert counts["read"] <= 2 * len(instances) + sum(found.clusters.num_instances for found in instances)
    np.testing.assert_array_equal(_labels(store), _labels(expected.finish()))


def test_chaining_in_the_background_changes_nothing() -> None:
    cfg, frames, stores = load_config(None, SEMANTIC), moving_squares(30), []
    for in_background in (False, True):
        network = FakeNetwork(semantic=True)
        engine = build_engine(cfg, network, frame_overlap=4, device=CPU, in_background=in_background)
        engine.step(frames)
        stores.append(engine.finish())
    np.testing.assert_array_equal(*map(_labels, stores))
