"""The last lines of a run: how many objects each video has, what was too faint to draw, and how to find more."""

from pathlib import Path

import numpy as np

from stemseg.config import load_config
from stemseg.inference.overlays import OverlayWriter
from stemseg.inference.own_videos import MemoryVideo
from stemseg.inference.run_summary import RunSummary, more_or_fewer
from stemseg.structures.rle import encode_rle
from stemseg.structures.tracks import Track, VideoTracks

NAMES = {1: "dog", 2: "cat"}


def tracks(name: str, *scores: tuple[int, float]) -> VideoTracks:
    """A video of one frame in which every object covers all."""
    counts = encode_rle(np.ones((8, 8), np.uint8))
    objects = [Track(i, category, score, [counts]) for i, (category, score) in enumerate(scores, start=1)]
    return VideoTracks(name, 8, 8, 1, ["0"], objects)


def summary(folder: Path, overlays: OverlayWriter | None = None) -> RunSummary:
    return RunSummary(folder, NAMES, min_score=0.3, overlays=overlays, details={"model": "laptop"})


def source() -> MemoryVideo:
    return MemoryVideo(np.zeros((1, 8, 8, 3), np.uint8))


def test_objects_are_counted_by_class_and_faint_ones_apart(tmp_path):
    found = summary(tmp_path)
    found.add(source(), tracks("garden", (1, 0.9), (1, 0.8), (2, 0.3), (2, 0.1)))
    found.add(source(), tracks("empty"))
    garden, empty = found.lines()
    assert garden == "garden: 2 dog, 1 cat in 1 frame, and 1 fainter (score below 0.3)"
    assert empty == "empty: no objects in 1 frame"


def test_many_videos_are_shortened(tmp_path):
    found = summary(tmp_path)
    for number in range(13):
        found.add(source(), tracks(str(number), (1, 1.0)))
    lines = list(found.lines())
    assert len(lines) == 11 and lines[-1] == "and 3 more videos"


def test_a_run_without_pictures_has_no_page(tmp_path):
    found = summary(tmp_path)
    found.add(source(), tracks("garden", (1, 0.9)))
    found.write_page()
    assert not found.page.exists()


def test_the_page_names_what_was_written_and_how(tmp_path):
    overlays, video = OverlayWriter(tmp_path, NAMES), tracks("garden", (1, 0.9))
    overlays.write(source(), video)
    (tmp_path / "results.json").write_text("[]")
    found = summary(tmp_path, overlays)
    found.add(source(), video)
    found.write_page()
    page = found.page.read_text(encoding="utf-8")
    assert "laptop" in page and "all results (JSON)" in page and "polygons (COCO)" not in page


def test_advice_names_the_thresholds_that_the_model_has():
    with_semantics = more_or_fewer(load_config(None, ["MODEL.USE_SEMSEG_HEAD=true"]))
    without = more_or_fewer(load_config(None, ["MODEL.USE_SEMSEG_HEAD=false", "INFERENCE.SEEDINESS_THRESHOLD=0.4"]))
    assert "--min_seediness_prob" in with_semantics and "--seediness_thresh" not in with_semantics
    assert "--seediness_thresh (now 0.4)" in without
