"""From embeddings to instances: sequential Gaussian clustering of a clip (METHOD section 8.4; STEm-Seg section 3.4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stemseg.config import Config

OUTLIER = -1


class Clusters(NamedTuple):
    """Instances among the P points of a clip.

    Attributes:
        labels: [P] int64, instance 0 ... I - 1 in the order in which they were found, or -1 for an outlier.
        centres: [I, E], mu of each instance.
        bandwidths: [I, E], diagonal of each instance's inverse covariance.
    """

    labels: Tensor
    centres: Tensor
    bandwidths: Tensor

    @property
    def num_instances(self) -> int:
        """I, instances found."""
        return self.centres.shape[0]


class SequentialClustering:
    """Finds instances one by one, each around the most seedy point that no instance has claimed yet.

    The probability of point e under an instance (mu, b) is ``p = exp(-d / 2)``, ``d = sqrt(sum b (e - mu)^2)``: with a
    square root that the training loss does not have. All comparisons are made on d^2, which needs neither exp nor sqrt.

    Args:
        min_seediness: no instance starts at a point below this.
        primary_threshold: free points with p above this join an instance when it is found.
        secondary_threshold: in the end a free point joins its most probable instance if p is above this.
        max_instances: instances at most.
        compat: as the published code did it: leftovers join their *least* probable instance, and when
            ``max_instances`` is reached the members of the last instance count as leftovers too.
    """

    def __init__(
        self,
        *,
        min_seediness: float,
        primary_threshold: float,
        secondary_threshold: float,
        max_instances: int,
        compat: bool = False,
    ) -> None:
        self.min_seediness = min_seediness
        self.max_instances = max_instances
        self.compat = compat
        self._primary_limit = _squared_distance_at(primary_threshold)
        self._secondary_limit = _squared_distance_at(secondary_threshold)

    @torch.no_grad()
    def __call__(self, embeddings: Tensor, bandwidths: Tensor, seediness: Tensor) -> Clusters:
        """Cluster P points in float32, whatever the surrounding precision.

        Args:
            embeddings: [E, P].
            bandwidths: [E, P], 10 * exp(raw) or the constant of a free dimension.
            seediness: [P].
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._cluster(embeddings.float(), bandwidths.float(), seediness.float())

    def _cluster(self, embeddings: Tensor, bandwidths: Tensor, seediness: Tensor) -> Clusters:
        num_points = seediness.shape[0]
        labels = torch.full((num_points,), OUTLIER, dtype=torch.int64, device=seediness.device)
        free_seediness = seediness.clone()  # -inf where an instance has claimed the point
        leftovers = _Leftovers(num_points, seediness.device, farthest=self.compat)
        seeds: list[int] = []
        stale = None
        while num_points and len(seeds) < self.max_instances:
            highest, seed = free_seediness.max(dim=0)
            if highest.item() < self.min_seediness or highest.item() == -math.inf:
                break
            distances = bandwidths[:, seed] @ (embeddings - embeddings[:, seed, None]).square_()  # [P]
            stale = free_seediness > -math.inf if self.compat and len(seeds) + 1 == self.max_instances else None
            members = (distances < self._primary_limit) & (free_seediness > -math.inf)
            labels.masked_fill_(members, len(seeds))
            free_seediness.masked_fill_(members, -math.inf)
            leftovers.update(distances, len(seeds))
            seeds.append(int(seed))
        free = free_seediness > -math.inf if stale is None else stale
        if seeds:
            joining = free & (leftovers.distances < self._secondary_limit)
            labels = torch.where(joining, leftovers.instances, labels)
        return Clusters(labels, embeddings[:, seeds].T, bandwidths[:, seeds].T)


class _Leftovers:
    """For each point the nearest instance so far (or the farthest), without keeping the distances to all of them."""

    def __init__(self, num_points: int, device: torch.device, *, farthest: bool) -> None:
        self.distances = torch.full((num_points,), -math.inf if farthest else math.inf, device=device)
        self.instances = torch.full((num_points,), OUTLIER, dtype=torch.int64, device=device)
        self._wins = torch.gt if farthest else torch.lt

    def update(self, distances: Tensor, instance: int) -> None:
        better = self._wins(distances, self.distances)
        self.distances = torch.where(better, distances, self.distances)
        self.instances.masked_fill_(better, instance)


def build_clustering(cfg: Config) -> SequentialClustering:
    """The clustering of ``CLUSTERING``."""
    section = cfg.CLUSTERING
    return SequentialClustering(
        min_seediness=section.MIN_SEEDINESS_PROB,
        primary_threshold=section.PRIMARY_PROB_THRESHOLD,
        secondary_threshold=section.SECONDARY_PROB_THRESHOLD,
        max_instances=section.MAX_INSTANCES,
        compat=section.STEMSEG_COMPAT,
    )


def _squared_distance_at(probability: float) -> float:
    """The d^2 at which exp(-d / 2) equals ``probability``."""
    if probability <= 0:
        return math.inf
    return (2 * math.log(probability)) ** 2 if probability < 1 else 0.0
