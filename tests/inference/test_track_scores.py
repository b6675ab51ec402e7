"""The statistics of each track equal what a look at all its pixels finds; order and scores follow from it."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stemseg.config import load_config
from stemseg.inference.chaining import ClipSchedule
from stemseg.inference.clustering import ClipPoints, Clusters, posteriors
from stemseg.inference.online_engine import build_engine
from stemseg.inference.track_scores import (
    RunningValue,
    TrackRecord,
    confidence,
    drawing_threshold,
    measure_track,
    rank_tracks,
    rate_instances,
    score_kind,
    score_tracks,
)
from stemseg.inference.tracks import TrackStore
from stemseg.structures.network_output import NetworkOutput
from stemseg.structures.tracks import TrackStatistics
from tests.helpers.fake_network import FakeNetwork, moving_squares
from tests.helpers.label_maps import chained_clip

SEMANTIC = ["MODEL.USE_SEMSEG_HEAD=true", "INPUT.NUM_CLASSES=4", "CLUSTERING.MIN_SEEDINESS_PROB=0.5"]
CLASS_AGNOSTIC = ["CLUSTERING.MIN_SEEDINESS_PROB=0.5", "INFERENCE.SEEDINESS_THRESHOLD=0.65"]
OVERLAP = 3


class _WithAppearance(FakeNetwork):
    """An appearance of two dimensions, of noise that repeats, and a wider spread of the embedding."""

    def decode(self, features: object) -> NetworkOutput:
        output = super().decode(features)
        noise = torch.rand(output.embedding.shape, generator=torch.Generator().manual_seed(3))
        noisy = torch.cat([output.embedding[:, :1] + 0.1 * noise[:, :1], output.embedding[:, 1:]], dim=1)
        return output._replace(embedding=noisy, appearance=noise)


def _points(seed: int = 0, num_points: int = 500, num_instances: int = 3) -> tuple[ClipPoints, Clusters]:
    generator = torch.Generator().manual_seed(seed)
    points = ClipPoints(*(torch.rand(2, num_points, generator=generator) for _ in range(2)), torch.rand(num_points))
    labels = torch.randint(-1, num_instances, (num_points,), generator=generator)
    shape = (num_instances, 2)
    return points, Clusters(labels, torch.rand(shape, generator=generator), 10 * torch.rand(shape, generator=generator))


def test_posteriors_are_those_under_each_point_s_own_instance() -> None:
    points, clusters = _points()
    expected = []
    for embedding, label in zip(points.embeddings.T, clusters.labels.tolist(), strict=True):
        squared = (clusters.bandwidths[label] * (embedding - clusters.centers[label]) ** 2).sum()
        expected.append(torch.exp(-squared.sqrt() / 2) if label >= 0 else torch.tensor(0.0))
    torch.testing.assert_close(posteriors(points, clusters), torch.stack(expected))


def test_ratings_are_sums_over_the_new_points_and_seeds_of_all() -> None:
    points, clusters = _points()
    foreground = torch.rand(500)
    ratings = rate_instances(points, clusters, foreground, 200)
    p = posteriors(points, clusters)
    for i in range(3):
        new = (clusters.labels == i) & (torch.arange(500) >= 300)
        expected = [values[new].sum() for values in (points.seediness, p, foreground)]
        torch.testing.assert_close(ratings.pixel_sums[i].float(), torch.stack(expected))
        assert ratings.seeds[i] == points.seediness[clusters.labels == i].max()


def test_no_points_or_no_instances_rate_nothing() -> None:
    nothing = ClipPoints(torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(0))
    none = Clusters(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2), torch.zeros(0, 2))
    assert rate_instances(nothing, none, torch.zeros(0), 0).pixel_sums.shape == (0, 3)
    points, clusters = _points(num_instances=0)
    assert rate_instances(points, clusters, torch.rand(500), 500).seeds.shape == (0,)
    assert posteriors(points, clusters).sum() == 0


@torch.no_grad()
def _naive(store: TrackStore, frames: Tensor, overrides: list[str], scale: int) -> dict[int, dict[str, float]]:
    """Means over each track's pixels, with every clip's maps at full size and in memory."""
    cfg, network = load_config(None, overrides), _WithAppearance(semantic=overrides is not CLASS_AGNOSTIC)
    schedule = ClipSchedule(cfg.INPUT.NUM_FRAMES, OVERLAP)
    clips = [clip.indices for clip in schedule.add(len(frames)) + schedule.finish()]
    features = network.encode(frames)
    outputs = [network.decode(type(features)(*(x[list(c)].transpose(0, 1)[None] for x in features))) for c in clips]
    labels = torch.stack([torch.from_numpy(store.labels(t).astype(np.int64)) for t in range(len(frames))])
    first, sums = {}, {}
    for number, (clip, out) in enumerate(zip(clips, outputs, strict=True)):
        semantic = torch.cat([out.class_logits, out.foreground_logits], 1) if network.semantic else out.seediness
        for place, t in enumerate(clip):
            first.setdefault(t, (number, place))
            sums.setdefault(t, []).append(semantic[0, :, place])
    maps = []  # of each frame: seediness, foreground probability, class probabilities, [C, H, W]
    for t in range(len(frames)):
        number, place = first[t]
        mean = torch.stack(sums[t]).mean(0)
        large = _upsample(torch.cat([outputs[number].seediness[0, :, place], mean[-1:]]), scale)
        probability = large[1:].sigmoid() if network.semantic else large[1:]
        classes = [_upsample(mean[:-1].softmax(0), scale)] if network.semantic else []
        maps.append(torch.cat([large[:1], probability, *classes]))
    values = torch.stack(maps, dim=1)  # [C, F, H, W]
    appearance = torch.stack([outputs[first[t][0]].appearance[0, :, first[t][1]] for t in range(len(frames))], dim=1)
    results = {}
    for track_id, record in store.records.items():
        mask = labels == track_id
        seen = mask.flatten(1).any(1).nonzero()[:, 0]
        means = values[:, mask].mean(1).tolist()
        results[track_id] = {
            "pixels": int(mask.sum()),
            "share": mask.float().mean().item(),
            "life": (seen[-1] - seen[0] + 1).item() / len(frames),
            "seen": len(seen) / (seen[-1] - seen[0] + 1).item(),
            "seediness": means[0],
            "foreground": means[1],
        }
        if network.semantic:
            results[track_id]["class_probability"] = means[2 + record.category]
        if scale == 1:
            results[track_id]["appearance_variance"] = appearance[:, mask].var(1, correction=0).sum().item()
    return results


def _upsample(maps: Tensor, scale: int) -> Tensor:
    return maps if scale == 1 else F.interpolate(maps[None], scale_factor=scale, mode="bilinear")[0]


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("kind", [SEMANTIC, CLASS_AGNOSTIC], ids=["classes", "class_agnostic"])
def test_statistics_of_a_stream_equal_those_of_the_whole_video(kind: list[str], scale: int) -> None:
    frames, network = moving_squares(21), _WithAppearance(semantic=kind is SEMANTIC)
    cfg = load_config(None, [*kind, f"INFERENCE.RESIZE_EMBEDDINGS={str(scale == 4).lower()}"])
    engine = build_engine(cfg, network, frame_overlap=OVERLAP, device=torch.device("cpu"))
    for batch in frames.split(4):
        engine.step(batch)
    store = engine.finish()
    expected = _naive(store, frames, kind, scale)
    assert len(expected) >= 2
    for track_id, statistics in store.measure(list(store.records)).items():
        found = asdict(statistics)
        assert {name: found[name] for name in expected[track_id]} == pytest.approx(expected[track_id], rel=1e-3)
        assert 0 < found["posterior"] <= 1
        assert found["seed_min"] <= found["seed_mean"] <= 1
        assert found["seed_mean"] >= found["seediness"]


def test_values_come_one_by_one() -> None:
    value = RunningValue()
    assert (value.mean, value.minimum) == (None, None)
    for number in (3.0, 1.0, 2.0):
        value.add(number)
    assert (value.mean, value.minimum) == (2.0, 1.0)


def test_ratings_add_up_over_clips() -> None:
    store, points = TrackStore(label_stride=4), ClipPoints(torch.zeros(1, 4), torch.ones(1, 4), torch.full((4,), 0.5))
    clusters = Clusters(torch.zeros(4, dtype=torch.int64), torch.zeros(1, 1), torch.ones(1, 1))
    labels = torch.ones(1, 2, 2, dtype=torch.int32)
    store.add(chained_clip([0], labels, [7], [None]), None, rate_instances(points, clusters, torch.ones(4), 4))
    brighter = points._replace(seediness=torch.full((4,), 0.9))
    store.add(chained_clip([1], labels, [7], [0.25]), None, rate_instances(brighter, clusters, torch.ones(4), 4))
    (track,) = store.measure([7]).values()
    assert (track.seediness, track.posterior, track.foreground) == pytest.approx((0.7, 1.0, 1.0))
    assert (track.seed_mean, track.seed_min) == pytest.approx((0.7, 0.5))
    assert (track.link_mean, track.link_min) == (0.25, 0.25)
    assert (track.life, track.seen, track.share, track.pixels) == (1.0, 1.0, 1.0, 8)
    assert track.class_probability is None and track.appearance_variance is None


def test_frames_without_it_count_against_a_track() -> None:
    store = TrackStore(label_stride=4)
    labels = torch.tensor([[[1, 0]], [[0, 0]], [[1, 0]], [[0, 0]]], dtype=torch.int32)
    store.add(chained_clip(range(4), labels, [1]))
    (track,) = store.measure([1]).values()
    assert (track.life, track.seen) == (3 / 4, 2 / 3)


def _statistics(**values: float) -> TrackStatistics:
    defaults = {"pixels": 10, "share": 0.1, "life": 1.0, "seen": 1.0, "seediness": 0.8, "posterior": 0.7}
    return TrackStatistics(**{**defaults, "foreground": 0.9, **values})


def test_scores_by_confidence_do_not_depend_on_the_other_tracks() -> None:
    tracks = {1: _statistics(), 2: _statistics(life=0.5), 3: _statistics(seediness=0.4)}
    scores = score_tracks(tracks, "confidence")
    assert 1 >= scores[1] > scores[2] > 0 and scores[1] > scores[3] > 0
    assert score_tracks({2: tracks[2]}, "confidence") == {2: scores[2]}


def test_confidence_is_a_product_that_every_part_can_lower() -> None:
    track = _statistics(seediness=0.8, posterior=0.7, foreground=0.9, life=0.125)
    assert confidence(track) == pytest.approx(0.8 * 0.7 * 0.9 / 2)
    for name in ("seediness", "posterior", "foreground", "life"):
        assert confidence(replace(track, **{name: 0.1})) < confidence(track)
    assert confidence(_statistics(seediness=-0.1)) == 0


def test_scores_are_as_published_in_compatibility_mode_alone() -> None:
    kinds = {
        (compat, score): score_kind(
            load_config(None, [f"CLUSTERING.STEMSEG_COMPAT={compat}", f"INFERENCE.TRACK_SCORE={score}"])
        )
        for compat in ("true", "false")
        for score in ("auto", "pixels", "confidence")
    }
    assert kinds.pop(("true", "auto")) == "pixels" and kinds.pop(("false", "auto")) == "confidence"
    assert all(kind == score for (_, score), kind in kinds.items())


def test_pictures_show_no_more_than_results_hold() -> None:
    least = {
        (score, dropped): drawing_threshold(
            load_config(None, [f"INFERENCE.TRACK_SCORE={score}", f"DATA.OVIS.MIN_TRACK_SCORE={dropped}"]), "OVIS"
        )
        for score in ("pixels", "confidence")
        for dropped in (0.0, 0.3)
    }
    assert list(least.values()) == [0.05, 0.3, 0.2, 0.3]


def test_scores_by_pixels_are_relative_to_the_largest() -> None:
    tracks = {1: _statistics(pixels=8), 5: _statistics(pixels=2)}
    assert score_tracks(tracks, "pixels") == {1: 1.0, 5: 0.25}
    assert score_tracks({}, "pixels") == score_tracks({}, "confidence") == {}


def test_tracks_are_ranked_by_lifetime() -> None:
    records = {1: TrackRecord(0, 3), 2: TrackRecord(0, 9), 3: TrackRecord(5, 8)}
    assert rank_tracks(records, 5) == [2, 1, 3]
    assert rank_tracks(records, 1) == [2]
    assert measure_track(records[2], num_frames=10, area=4).life == 1.0


class _RecordedFlow:
    """Rates by the mean of A's first channel in each instance's masks."""

    def __init__(self) -> None:
        self.masks: list[Tensor] = []

    def rate_instances(self, appearance: Tensor, masks: Tensor) -> Tensor:
        self.masks.append(masks)
        return (appearance[0] * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3))


@pytest.mark.parametrize("scale", [1, 4])
def test_the_flow_rates_each_clip_s_new_frames_by_the_predicted_masks(scale: int) -> None:
    network = _WithAppearance()
    network.offset_head = flow = _RecordedFlow()
    overrides = [*SEMANTIC, f"INFERENCE.RESIZE_EMBEDDINGS={str(scale == 4).lower()}"]
    hierarchical = ["MODEL.USE_OFFSET_HEAD=true", "INFERENCE.RATE_APPEARANCE=true"]
    cfg = load_config("youtube_vis_hevis", [*overrides, *hierarchical])
    engine = build_engine(cfg, network, frame_overlap=OVERLAP, device=torch.device("cpu"))
    engine.step(moving_squares(13))
    store = engine.finish()
    labels = torch.stack([torch.from_numpy(store.labels(t).astype(np.int64)) for t in range(13)])
    middle = scale // 2
    coarse = labels[:, middle::scale, middle::scale]
    assert [masks.shape[1] for masks in flow.masks] == [8, 5]
    for masks, frames in zip(flow.masks, coarse.split([8, 5]), strict=True):
        torch.testing.assert_close(masks.any(dim=0), frames > 0)
        assert masks.sum(dim=0).max() == 1
    *_, second, largest = sorted(store.measure(list(store.records)).values(), key=lambda track: track.pixels)
    assert all(0 <= track.appearance_likelihood <= 1 for track in (second, largest))
