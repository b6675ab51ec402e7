"""Sequential clustering: golden numbers, a plain implementation of the intended rule, and its limits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from stemseg.config import load_config
from stemseg.inference import clustering as clustering_module
from stemseg.inference.clustering import SequentialClustering, build_clustering
from stemseg.utils.errors import ConfigError
from tests import reference
from tests.helpers.paths import GOLDEN_DIR

CASES = json.loads((GOLDEN_DIR / "clustering_meta.json").read_text())


def _points(case: str) -> tuple[Tensor, Tensor, Tensor]:
    arrays = np.load(GOLDEN_DIR / "clustering.npz")
    embeddings, bandwidths, seediness = (
        torch.from_numpy(arrays[f"{case}|{name}"]).T for name in ("embeddings", "bandwidths", "seediness")
    )
    free = torch.tensor(CASES[case]["free_dim_stds"]).pow(-2)[:, None].expand(-1, embeddings.shape[1])
    return embeddings, torch.cat([bandwidths, free]), seediness[0]


def _clustering(case: str, *, compat: bool) -> SequentialClustering:
    meta = CASES[case]
    return SequentialClustering(
        min_seediness=meta["min_seediness_prob"],
        primary_threshold=meta["primary"],
        secondary_threshold=meta["secondary"],
        max_instances=meta["max_instances"],
        compat=compat,
    )


@pytest.mark.parametrize("case", sorted(CASES))
def test_compat_mode_equals_the_published_clustering(case: str) -> None:
    clusters = _clustering(case, compat=True)(*_points(case))
    labels = torch.where(clusters.labels >= 0, clusters.labels + CASES[case]["label_start"], -1)
    np.testing.assert_array_equal(labels.numpy(), np.load(GOLDEN_DIR / "clustering.npz")[f"{case}|labels"])
    if clusters.num_instances:
        np.testing.assert_allclose(clusters.centers.numpy(), CASES[case]["instance_centers"], atol=1e-6)
        np.testing.assert_allclose(clusters.bandwidths.rsqrt().numpy(), CASES[case]["instance_stds"], rtol=1e-5)


@pytest.mark.parametrize("case", ["xyff_5", "thr_0.3_0.1", "max_instances_3", "one_point"])
def test_default_equals_a_plain_implementation_of_the_intended_rule(case: str) -> None:
    points, meta = _points(case), CASES[case]
    thresholds = {"min_seediness": meta["min_seediness_prob"], **{k: meta[k] for k in ("primary", "secondary")}}
    expected = reference.cluster(*points, **thresholds, max_instances=meta["max_instances"])
    assert _clustering(case, compat=False)(*points).labels.tolist() == expected.tolist()


def test_leftovers_join_the_most_probable_instance() -> None:
    embeddings = torch.tensor([[0.0, 1.0, 0.3]])  # the last point is nearer to the first seed
    bandwidths, seediness = torch.full((1, 3), 10.0), torch.tensor([0.99, 0.95, 0.1])
    options = {"min_seediness": 0.8, "primary_threshold": 0.7, "secondary_threshold": 0.1, "max_instances": 20}
    assert SequentialClustering(**options)(embeddings, bandwidths, seediness).labels.tolist() == [0, 1, 0]
    assert SequentialClustering(**options, compat=True)(embeddings, bandwidths, seediness).labels.tolist() == [0, 1, 1]


def test_only_compat_mode_assigns_the_members_of_the_last_allowed_instance_anew() -> None:
    """There the mask of free points is from before the last instance, so its members join the least probable one."""
    embeddings = torch.tensor([[0.0, 1.0, 1.05]])
    bandwidths, seediness = torch.full((1, 3), 10.0), torch.tensor([0.99, 0.95, 0.1])
    options = {"min_seediness": 0.8, "primary_threshold": 0.7, "secondary_threshold": 0.1}

    def labels(max_instances: int, *, compat: bool) -> list[int]:
        clustering = SequentialClustering(**options, max_instances=max_instances, compat=compat)
        return clustering(embeddings, bandwidths, seediness).labels.tolist()

    assert labels(2, compat=True) == [0, 0, 0]  # p of the first instance is 0.21 and 0.19 there
    assert labels(3, compat=True) == labels(2, compat=False) == [0, 1, 1]


def test_no_points_give_no_instances() -> None:
    clusters = _clustering("xyff_5", compat=False)(torch.zeros(4, 0), torch.zeros(4, 0), torch.zeros(0))
    assert clusters.num_instances == 0
    assert clusters.labels.shape == (0,)
    assert clusters.centers.shape == (0, 4)


def test_half_precision_input_is_clustered_in_single_precision() -> None:
    points = [x.half() for x in _points("xyff_5")]
    single = _clustering("xyff_5", compat=False)(*(x.float() for x in points))
    torch.testing.assert_close(_clustering("xyff_5", compat=False)(*points).labels, single.labels)


def test_the_size_of_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _clustering("xyt_8", compat=False)(*_points("xyt_8")).labels
    monkeypatch.setattr(clustering_module, "_CHUNK_SIZE", 7)
    torch.testing.assert_close(_clustering("xyt_8", compat=False)(*_points("xyt_8")).labels, expected)


def test_an_instance_holds_at_least_its_center() -> None:
    options = {"min_seediness": 0.8, "primary_threshold": 1.0, "secondary_threshold": 1.0, "max_instances": 20}
    points = torch.tensor([[0.0, 1.0, 2.0]]), torch.ones(1, 3), torch.tensor([0.9, 0.95, 0.1])
    assert SequentialClustering(**options)(*points).labels.tolist() == [1, 0, -1]


def test_the_configuration_names_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(build_clustering(load_config()), SequentialClustering)
    monkeypatch.setattr(
        clustering_module, "RULES", {**clustering_module.RULES, "mine": lambda cfg: cfg.CLUSTERING.MAX_INSTANCES}
    )
    assert build_clustering(load_config(overrides=["CLUSTERING.RULE=mine", "CLUSTERING.MAX_INSTANCES=7"])) == 7
    with pytest.raises(ConfigError, match=r"'CLUSTERING\.RULE' is 'yours', expected one of sequential, mine"):
        build_clustering(load_config(overrides=["CLUSTERING.RULE=yours"]))
