"""All of inference, from images to results, against what the published code gave (with its mistakes switched on)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from stemseg.config import Config, load_config
from stemseg.data.preprocessing import build_preprocessor, pad_to_multiple
from stemseg.datasets import find_dataset
from stemseg.inference.clustering import ClipMaps
from stemseg.inference.online_engine import build_engine
from stemseg.inference.tracks import TrackStore, collect_tracks
from stemseg.modeling.embedding import bandwidth
from stemseg.modeling.network import Network, build_network
from stemseg.structures.rle import decode_rle
from stemseg.structures.tracks import VideoTracks
from tests.helpers.golden_weights import det, fill_state_dict, load_golden, relative_difference
from tests.helpers.paths import GOLDEN_DIR

CONFIGS = {"davis": "davis_1", "ytvis": "youtube_vis", "kitti": "kitti_mots_2"}
CASES = ["davis_L12", "ytvis_L12", "ytvis_L5", "kitti_L5"]
_SHARPENED = ("seediness_head.conv_out.weight", "embedding_head.conv_seediness.weight", "semseg_head.conv_out.weight")


def _golden_frames(cfg: Config, length: int) -> Tensor:
    """The images of the golden files as the network's input, [L, 3, H, W]."""
    preprocessor, frames = build_preprocessor(cfg), []
    for t in range(length):
        blocks = det(f"inf.frame{t}", (10, 15, 3)).numpy()
        image = 128 + 60 * cv2.resize(blocks, (120, 80), interpolation=cv2.INTER_NEAREST)
        frames.append(preprocessor(np.clip(image, 0, 255).astype(np.uint8)))
    return pad_to_multiple(torch.stack(frames))


def _config(dataset: str, *overrides: str) -> Config:
    section = find_dataset(load_config(CONFIGS[dataset]).TRAINING.MODE).section
    sizes = ["INPUT.MIN_DIM=88", "INPUT.MAX_DIM=124"]
    tracks = [f"DATA.{section}.INFERENCE_FRAME_OVERLAP=4", f"DATA.{section}.MAX_INFERENCE_TRACKS=20"]
    return load_config(CONFIGS[dataset], [*sizes, *tracks, "CLUSTERING.STEMSEG_COMPAT=true", *overrides])


@lru_cache(maxsize=1)
def _network(dataset: str) -> Network:
    network = build_network(_config(dataset)).eval()
    fill_state_dict(network)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key in _SHARPENED:
                value.copy_(6 * value - (6 * value).mean())
    return network


def _run(
    case: str, network: Network, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[ClipMaps], TrackStore, VideoTracks]:
    """Clips, track store and result of one golden video."""
    dataset, length = case.split("_L")
    cfg, clips = _config(dataset), []
    engine = build_engine(cfg, network, frame_overlap=4, device=torch.device("cpu"))
    label = engine._label
    monkeypatch.setattr(engine, "_label", lambda clip: (clips.append(clip), label(clip)))
    engine.step(_golden_frames(cfg, int(length)))
    store = engine.finish()
    tracks = collect_tracks(
        store, sequence_id="0007", frame_names=[f"{t:05d}" for t in range(int(length))], video_size=(80, 120),
        network_size=(83, 124), max_tracks=20,
    )  # fmt: skip
    return clips, store, tracks


def _ranked_labels(labels: np.ndarray) -> np.ndarray:
    """Track ids replaced by their rank, since published ids leave gaps."""
    ids = np.unique(labels[labels > 0])
    return np.where(labels > 0, np.searchsorted(ids, labels) + 1, labels)


def _masks(tracks: VideoTracks, index: int) -> np.ndarray:
    size = (tracks.height, tracks.width)
    return np.stack([np.zeros(size) if c is None else decode_rle(c, *size) for c in tracks.tracks[index].segmentations])


@pytest.mark.parametrize("case", CASES)
def test_inference_equals_the_published_one(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load_golden(f"inference_{case}")
    network = _network(case.split("_L")[0]).inference_copy()  # as the commands run it
    clips, store, tracks = _run(case, network, monkeypatch)
    assert len(clips) == len(golden["subseq_idxes"])
    for i, clip in enumerate(clips):
        _check_clip(clip, {name: golden[f"clip{i}|{name}"] for name in ("embeddings", "bandwidths", "seediness")})
    labels = np.stack([store.labels(t) for t in range(len(store))])
    assert ((labels != 0) != (golden["fg_masks"] != 0)).mean() < 1e-4
    assert (_ranked_labels(labels) != _ranked_labels(golden["track_label_map"])).mean() < 1e-4
    _check_result(tracks, golden, json.loads((GOLDEN_DIR / f"inference_{case}.json").read_text()))


def test_the_prepared_network_gives_the_maps_of_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _network("ytvis")
    (before, *_), (after, *_) = (_run("ytvis_L5", n, monkeypatch)[0] for n in (plain, plain.inference_copy()))
    parts = [before.embedding_size, before.maps.shape[0] - before.embedding_size - 1, 1]
    for x, y in zip(before.maps.split(parts), after.maps.split(parts), strict=True):
        assert relative_difference(y, x) < 1e-5  # the rounding of float32, which the published maps are off by too


def _check_clip(clip: ClipMaps, golden: dict[str, np.ndarray]) -> None:
    size = clip.embedding_size
    np.testing.assert_allclose(clip.maps[:size], golden["embeddings"], atol=1e-5)
    np.testing.assert_allclose(bandwidth(clip.maps[size:-1]), golden["bandwidths"], rtol=1e-4)
    np.testing.assert_allclose(clip.maps[-1:], golden["seediness"], atol=1e-4)


def _check_result(tracks: VideoTracks, golden: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    if "davis_id_maps" in golden:
        id_maps = sum((i + 1) * _masks(tracks, i) for i in range(len(tracks.tracks)))
        assert (id_maps != golden["davis_id_maps"]).mean() < 1e-4
    if "results" in meta:
        _check_youtube_vis(tracks, meta["results"])
    if "txt" in meta:
        _check_kitti(tracks, meta["txt"])


def _check_youtube_vis(tracks: VideoTracks, results: list[dict[str, Any]]) -> None:
    """The same instances, class and score; published files also list instances without any pixel."""
    size = (tracks.height, tracks.width)
    expected = []
    for result in results:
        masks = np.stack([decode_rle(s["counts"], *size) for s in result["segmentations"]])
        if masks.any():
            expected.append((result["score"], result["category_id"], masks))
    assert len(tracks.tracks) == len(expected)
    for i, track in enumerate(tracks.tracks):
        score, category, masks = min(expected, key=lambda e, track=track: abs(e[0] - track.score))
        assert track.score == pytest.approx(score, abs=1e-6)
        assert track.category_id == category
        assert (_masks(tracks, i) != masks).mean() < 1e-4


def _check_kitti(tracks: VideoTracks, text: str) -> None:
    lines = [line.split(" ") for line in text.splitlines()]
    (track,) = tracks.tracks
    assert {track.category_id} == {int(line[2]) for line in lines}
    assert {t: c for t, c in enumerate(track.segmentations) if c} == {int(line[0]): line[5] for line in lines}
