"""Chaining clips into tracks: golden label maps and matches, a plain matching, and the rules at the edges."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from stemseg.inference.chaining import Chainer, ClipLabels, _joint_histogram, label_ious, match_instances
from stemseg.inference.clustering import SequentialClustering
from tests import reference
from tests.helpers.label_maps import clip_labels, track_maps
from tests.helpers.paths import GOLDEN_DIR

CASES = json.loads((GOLDEN_DIR / "online_chainer_meta.json").read_text())
MATCHES = json.loads((GOLDEN_DIR / "association_meta.json").read_text())


def _cluster_clip(arrays: np.lib.npyio.NpzFile, case: str, clip: int) -> ClipLabels:
    """Labels of a golden clip from its maps; the free dimensions have a deviation of 0.3."""
    maps = {
        name: torch.from_numpy(arrays[f"{case}|clip{clip}|{name}"])
        for name in ("embeddings", "bandwidths", "seediness")
    }
    frames = arrays[f"{case}|clip{clip}|frames"].tolist()
    foreground = torch.from_numpy(arrays[f"{case}|fg_masks"][frames]).bool()
    embeddings, bandwidths = maps["embeddings"][:, foreground], maps["bandwidths"][:, foreground]
    free = torch.full((len(embeddings) - len(bandwidths), embeddings.shape[1]), 0.3**-2)
    clustering = SequentialClustering(
        min_seediness=0.8, primary_threshold=0.5, secondary_threshold=0.3, max_instances=20, compat=True
    )
    clusters = clustering(embeddings, torch.cat([bandwidths, free]), maps["seediness"][0, foreground])
    labels = torch.zeros(foreground.shape, dtype=torch.int32)
    labels[foreground] = torch.where(clusters.labels >= 0, clusters.labels + 1, -1).int()
    return clip_labels(frames, labels, clusters.num_instances)


@pytest.mark.parametrize("case", sorted(CASES))
def test_chaining_equals_the_published_one(case: str) -> None:
    arrays = np.load(GOLDEN_DIR / "online_chainer.npz")
    chainer, label_maps, track_ids = Chainer(compat=True), [], []
    for i in range(CASES[case]["n_clips"]):
        chained = chainer.add(_cluster_clip(arrays, case, i))
        label_maps.append(track_maps(chained))
        track_ids.append(chained.track_ids)
    assert track_ids == CASES[case]["clip_instance_labels_after_association"]
    expected = arrays[f"{case}|track_label_map(0=bg,-1=outlier)"]
    np.testing.assert_array_equal(torch.cat(label_maps).numpy(), expected)


def _clip(frames: range, *rows: list[int]) -> ClipLabels:
    labels = torch.tensor(rows, dtype=torch.int32)[:, None]
    return clip_labels(frames, labels, int(labels.max()))


def _matches(*arguments: object, **options: object) -> dict[int, int]:
    return {label: match.label for label, match in match_instances(*arguments, **options).items()}


def _ids(chainer: Chainer, clip: ClipLabels) -> list[int]:
    return chainer.add(clip).track_ids


def test_a_frame_keeps_the_labels_of_its_first_clip() -> None:
    chainer = Chainer()
    chainer.add(_clip(range(0, 3), [1, 0], [1, 0], [1, 0]))
    chained = chainer.add(_clip(range(1, 4), [2, 1], [2, 1], [2, 1]))
    assert list(chained.frames) == [3]
    assert chained.points[0].labels.tolist() == [2, 1]
    assert chained.track_ids == [2, 1]  # the clip's second instance is the first clip's only one


def test_an_instance_without_a_common_pixel_is_a_new_track() -> None:
    clips = (_clip(range(0, 2), [1, 0], [1, 0]), _clip(range(1, 3), [0, 1], [0, 1]))
    assert [_ids(chainer, clip) for chainer in [Chainer()] for clip in clips] == [[1], [2]]
    assert [_ids(chainer, clip) for chainer in [Chainer(compat=True)] for clip in clips] == [[1], [1]]


def test_outliers_never_match() -> None:
    chainer = Chainer()
    chainer.add(_clip(range(0, 2), [-1, 1], [-1, 1]))
    assert _ids(chainer, _clip(range(1, 3), [1, -1], [1, -1])) == [2]


def test_only_the_clip_before_is_looked_at() -> None:
    """Three clips over one frame: the third is compared with the second, not with the frame's kept labels."""
    chainer = Chainer()
    chainer.add(_clip(range(0, 3), [1, 0], [1, 0], [1, 0]))
    chainer.add(_clip(range(1, 4), [0, 1], [0, 1], [0, 1]))  # a new track 2
    assert _ids(chainer, _clip(range(2, 5), [0, 1], [0, 1], [0, 1])) == [2]


def test_clips_without_instances_pass_through() -> None:
    chainer = Chainer()
    nothing = clip_labels(range(0, 2), torch.zeros(2, 1, 2, dtype=torch.int32), 0)
    assert chainer.add(nothing).track_ids == []
    assert _ids(chainer, _clip(range(1, 3), [1, 0], [1, 0])) == [1]


@pytest.mark.parametrize("case", sorted(MATCHES))
def test_association_equals_the_published_one(case: str) -> None:
    arrays = np.load(GOLDEN_DIR / "association.npz")
    previous, current = arrays[f"l1_{case}"], arrays[f"l2_{case}"]
    current = np.where(current > 100, current - 100, current)  # there, new labels start at 101
    matches = _matches(previous, current, 6, 6, compat=True)
    expected = MATCHES[case]
    assert sorted((i, j + 100) for j, i in matches.items()) == sorted(
        map(tuple, expected["associations(existing,current)"])
    )
    ious = label_ious(_joint_histogram(previous, current, 6, 6))
    costs = sorted(1 - ious[i - 1, j - 1] for j, i in matches.items())
    np.testing.assert_allclose(costs, sorted(expected["costs"]), atol=1e-6)


def test_ious_and_matches_equal_those_found_pair_by_pair() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        previous, current = (rng.integers(-1, n, (3, 8, 9)) for n in (5, 4))
        ious = label_ious(_joint_histogram(previous, current, 5, 3))  # the fifth has no pixel
        maps = torch.from_numpy(previous), torch.from_numpy(current)
        np.testing.assert_allclose(ious, reference.label_ious(*maps, 5, 3), atol=1e-6)
        assert _matches(previous, current, 5, 3) == reference.match(*maps)


def test_instances_without_a_common_pixel_match_in_compat_mode_only() -> None:
    previous, current = np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])
    assert _matches(previous, current, 1, 1) == {}
    assert _matches(previous, current, 1, 1, compat=True) == {1: 1}


def test_a_minimum_overlap_can_be_demanded() -> None:
    previous, current = np.array([1, 1, 1, 1]), np.array([1, 0, 0, 0])  # IoU 1 / 4
    assert _matches(previous, current, 1, 1, min_iou=0.2) == {1: 1}
    assert _matches(previous, current, 1, 1, min_iou=0.3) == {}


def test_nothing_to_match() -> None:
    empty = np.zeros(4, dtype=np.int32)
    assert _matches(empty, empty, 0, 0) == {}
    assert _matches(np.array([1, 1, -1, 0]), np.array([-1, -1, -1, 0]), 1, 0) == {}


def test_links_know_how_well_they_overlap() -> None:
    chainer = Chainer()
    first = chainer.add(_clip(range(0, 2), [1, 1, 1, 0], [1, 1, 1, 0]))
    second = chainer.add(_clip(range(1, 3), [1, 1, 2, 0], [1, 1, 2, 0]))
    assert (first.link_ious, second.link_ious) == ([None], [2 / 3, None])
    assert match_instances(np.array([1, 1, 1, 1]), np.array([1, 0, 0, 0]), 1, 1) == {1: (1, 0.25)}
