"""Held-out videos measured during training."""

from unittest.mock import Mock

import numpy as np
import pytest

from stemseg.config import load_config
from stemseg.inference import video_segmenter
from stemseg.inference.frame_sources import ImageSequence
from stemseg.structures.annotations import VideoSequence, save_video_annotations
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.training import validation
from stemseg.training.validation import Validator, best_measure, build_validator, open_validation_split
from stemseg.utils.distributed import ProcessInfo


def _sources(tmp_path, count):
    return [ImageSequence(name, [tmp_path / "0.jpg"]) for name in "abcdef"[:count]]


def test_processes_share_the_videos_and_the_main_one_measures(tmp_path, monkeypatch):
    """The processes run one after the other here; what they gather is kept in a list."""
    gathered, measured = [], []
    monkeypatch.setattr(validation.distributed, "gather", lambda part: gathered.append(part) or list(gathered))

    def measure(tracks):
        measured.append(sorted(tracks))
        return {"AP": 0.25, "AP_L": float("nan")}

    values = {}
    for rank in (1, 0):
        validator = Validator(
            sources=_sources(tmp_path, 5),
            new_segmenter=lambda network: lambda source: f"{network} {source.sequence_id}",
            measure=measure,
            process=ProcessInfo(rank=rank, world_size=2),
        )
        values[rank] = validator("net", 3)
    assert gathered == [["net b", "net d"], ["net a", "net c", "net e"]]
    assert measured == [["net a", "net b", "net c", "net d", "net e"]]
    assert values == {0: {"validation/AP": 0.25}, 1: {}}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("youtube_vis", "AP"), ("custom", "AP"), ("davis", "J&F-Mean"), ("kitti_mots", "mean sMOTSA")],
)
def test_each_mode_has_its_measure(mode, expected, tmp_path, monkeypatch):
    """Perfect tracks of the mode's validation split give its measure its highest value."""
    name = {"kitti_mots": "kittimots"}.get(mode, mode)
    variable = {"davis": "DAVIS", "youtube_vis": "YOUTUBE_VIS", "kitti_mots": "KITTIMOTS"}.get(mode)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:12, 5:20] = 1
    counts = encode_rle(mask)
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "000000.jpg").touch()
    sequence = VideoSequence("v", 20, 30, ["v/000000.jpg"], {1001: 1}, [{1001: counts}])
    save_video_annotations(tmp_path / f"{name}_val.json", [sequence], {1: "car"})
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(tmp_path))
    if variable:
        monkeypatch.setenv(f"{variable}_BASE_DIR", str(tmp_path))
    paths = [f"DATA.CUSTOM.VAL_JSON={tmp_path}/{name}_val.json", f"DATA.CUSTOM.VAL_IMAGES={tmp_path}"]
    cfg = load_config(None, [f"TRAINING.MODE={mode}", *paths])
    found = VideoTracks("v", 20, 30, 1, ["000000"], [Track(1, 1, 1.0, [counts])])
    segmenters = {"copy": Mock(segment=lambda source: found)}
    monkeypatch.setattr(video_segmenter, "build_segmenter", lambda cfg, network, device: segmenters[network])
    figures = build_validator(cfg, open_validation_split(cfg), ProcessInfo(), None)(
        Mock(inference_copy=lambda: "copy"), 1
    )
    assert best_measure(cfg) == f"validation/{expected}"
    assert figures[best_measure(cfg)] == pytest.approx(1.0)
