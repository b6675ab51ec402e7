"""From embeddings to instances: the clustering of a clip's foreground points (method.md §8.4; STEm-Seg section 3.4).

:data:`RULES` holds the rules that ``CLUSTERING.RULE`` can name; the published one is :class:`SequentialClustering`. A
clip's maps wait as :class:`ClipMaps`, until :func:`gather_points` takes the points under its foreground out of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config
from stemseg.inference.semantics import FramePoints, sample
from stemseg.modeling.embedding import bandwidth
from stemseg.structures.network_output import NetworkOutput
from stemseg.utils import devices
from stemseg.utils.errors import ConfigError

OUTLIER = -1
_CLAIMED = 4.0  # more than any seediness
_CLAIMED_SHARE = 0.2  # of points: on a CPU, above this it is quicker to gather the others
_CHUNK_SIZE = 1 << 15


class Clusters(NamedTuple):
    """Instances among the P points of a clip.

    Attributes:
        labels: [P] int64, instance 0 ... I - 1 in the order in which they were found, or -1 for an outlier.
        centers: [I, E], mu of each instance.
        bandwidths: [I, E], diagonal of each instance's inverse covariance.
    """

    labels: Tensor
    centers: Tensor
    bandwidths: Tensor

    @property
    def num_instances(self) -> int:
        """I, instances found."""
        return self.centers.shape[0]


class ClusteringRule(Protocol):
    """Finds the instances among the points of a clip."""

    def __call__(self, embeddings: Tensor, bandwidths: Tensor, seediness: Tensor) -> Clusters:
        """Cluster P points; P may be 0.

        Args:
            embeddings: [E, P].
            bandwidths: [E, P], 10 * exp(raw) or the constant of a free dimension.
            seediness: [P].
        """
        ...


class SequentialClustering:
    """Finds instances one by one, each around the most seedy point that no instance has claimed yet.

    The probability of point e under an instance (mu, b) is ``p = exp(-d / 2)``, ``d = sqrt(sum b (e - mu)^2)``, (8.1):
    with a square root that the training loss does not have. All comparisons are made on d^2, which needs neither exp
    nor sqrt.

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
        """Cluster P points, see :class:`ClusteringRule`; in float32, whatever the surrounding precision."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self._cluster(embeddings.float(), bandwidths.float(), seediness.float())

    def _cluster(self, embeddings: Tensor, bandwidths: Tensor, seediness: Tensor) -> Clusters:
        labels = torch.zeros(seediness.shape, dtype=torch.int32, device=seediness.device)  # instances from 1
        pool, left = _Pool(embeddings, seediness.clone()), None
        instances: list[tuple[Tensor, Tensor]] = []  # mu and b of each, [E]
        while len(pool.labels) and len(instances) < self.max_instances:
            highest, seed = pool.most_seedy()
            if highest < max(self.min_seediness, 0):
                break
            instances.append((pool.embeddings[:, seed].clone(), bandwidths[:, pool.place(seed)]))
            if self.compat and len(instances) == self.max_instances:
                left = pool.labels == 0
            pool.claim(len(instances), *instances[-1], self._primary_limit)
            if left is None:
                pool = pool.without_claimed(labels)
        self._assign(pool, pool.labels == 0 if left is None else left, instances)
        pool.write(labels)
        centers, widths = zip(*instances, strict=True) if instances else ((), ())
        empty = embeddings.new_zeros(0, len(embeddings))
        return Clusters(labels.long() - 1, *(torch.stack(x) if x else empty for x in (centers, widths)))  # [I, E] twice

    def _assign(self, pool: _Pool, left: Tensor, instances: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Give leftover points their most probable instance, where it is probable enough (compat: the least)."""
        for chunk in _chunks(left) if instances else ():
            best = torch.full_like(pool.seediness[chunk], -math.inf if self.compat else math.inf)
            nearest = torch.zeros_like(pool.labels[chunk])
            for number, instance in enumerate(instances, start=1):  # one by one: no [I, Q] in memory
                distances = _squared_distances(pool.embeddings[:, chunk], *instance)
                wins = distances > best if self.compat else distances < best
                best = torch.where(wins, distances, best)
                nearest = torch.where(wins, number, nearest)
            joins = (best < self._secondary_limit) & left[chunk]
            pool.labels[chunk] = torch.where(joins, nearest, pool.labels[chunk])


class _Pool:
    """Points that instances can claim, the claimed ones of which are left out from time to time.

    Args:
        embeddings: [E, Q].
        seediness: [Q], which is changed: claimed points lie below every threshold.
        places: [Q], their places among all points; None: these are all.

    Attributes:
        embeddings, seediness: the same.
        labels: [Q] int32, the instance from 1 that has claimed a point; 0: it is free.
    """

    def __init__(self, embeddings: Tensor, seediness: Tensor, places: Tensor | None = None) -> None:
        self.embeddings = embeddings
        self.seediness = seediness
        self.labels = torch.zeros(seediness.shape, dtype=torch.int32, device=seediness.device)
        self._places = places
        self._num_claimed = 0

    def most_seedy(self) -> tuple[float, int]:
        """The highest seediness and its point, in one transfer to the host."""
        highest, point = self.seediness.max(dim=0)
        seediness, index = devices.read(torch.stack([highest.double(), point.double()]))
        return seediness, int(index)

    def place(self, point: int) -> Tensor | int:
        """The place of a point among all of them."""
        return point if self._places is None else self._places[point]

    def claim(self, number: int, center: Tensor, width: Tensor, limit: float) -> None:
        """Label all free points whose squared distance to an instance is below a limit."""
        for chunk in _chunks(self.seediness):
            # arithmetic with masks: several times faster on a CPU than filling or gathering by them
            members = _squared_distances(self.embeddings[:, chunk], center, width) < limit
            members &= self.labels[chunk] == 0
            self.labels[chunk].add_(members, alpha=number)
            self.seediness[chunk].add_(members, alpha=-_CLAIMED)
            if devices.is_host(members.device):
                self._num_claimed += int(members.count_nonzero())

    def without_claimed(self, labels: Tensor) -> _Pool:
        """The free points alone, where leaving out the others pays; their labels then stand in ``labels``, of all."""
        if self._num_claimed <= _CLAIMED_SHARE * len(self.labels):  # always on a GPU, whose host would have to wait
            return self
        self.write(labels)
        free = torch.from_numpy(np.flatnonzero(self.labels.numpy() == 0))
        places = free if self._places is None else self._places[free]
        return _Pool(self.embeddings.index_select(1, free), self.seediness[free], places)

    def write(self, labels: Tensor) -> None:
        """Write the points' labels to their places in those of all points."""
        if self._places is None:
            labels.copy_(self.labels)
        else:
            labels.index_copy_(0, self._places, self.labels)


def _squared_distances(points: Tensor, center: Tensor, bandwidth: Tensor) -> Tensor:
    """d^2 of points [E, P] to an instance with center [E] and bandwidth [E], [P]."""
    return bandwidth @ (points - center[:, None]).square_()  # [E] @ [E, P]


def posteriors(points: ClipPoints, clusters: Clusters) -> Tensor:
    """The probability p (8.1) of each point under its own instance, [P] float32; 0 for outliers."""
    if not clusters.num_instances:
        return torch.zeros_like(points.seediness)
    labels = clusters.labels.clamp(min=0)
    distances = torch.zeros_like(points.seediness)
    for values, centers, bandwidths in zip(points.embeddings, clusters.centers.T, clusters.bandwidths.T, strict=True):
        distances.addcmul_(
            bandwidths[labels], (values - centers[labels]).square_()
        )  # dimension by dimension: no [E, P]
    return torch.exp(-0.5 * distances.sqrt_()).mul_(clusters.labels >= 0)


def _chunks(values: Tensor) -> list[slice]:
    """Slices of [P] that fit a CPU's cache, which makes the passes over millions of points three times faster."""
    size = _CHUNK_SIZE if devices.is_host(values.device) else max(len(values), 1)
    return [slice(start, start + size) for start in range(0, len(values), size)]


def build_sequential_clustering(cfg: Config) -> SequentialClustering:
    """The published rule, with the thresholds of ``CLUSTERING``."""
    section = cfg.CLUSTERING
    return SequentialClustering(
        min_seediness=section.MIN_SEEDINESS_PROB,
        primary_threshold=section.PRIMARY_PROB_THRESHOLD,
        secondary_threshold=section.SECONDARY_PROB_THRESHOLD,
        max_instances=section.MAX_INSTANCES,
        compat=section.STEMSEG_COMPAT,
    )


def _squared_distance_at(probability: float) -> float:
    """The d^2 at which exp(-d / 2) equals ``probability``; never 0, so that an instance always holds its own center."""
    if probability <= 0:
        return math.inf
    return max((2 * math.log(min(probability, 1))) ** 2, torch.finfo(torch.float32).tiny)


RULES: Mapping[str, Callable[[Config], ClusteringRule]] = {"sequential": build_sequential_clustering}


def build_clustering(cfg: Config) -> ClusteringRule:
    """The rule that ``CLUSTERING.RULE`` names.

    Raises:
        ConfigError: where it names none of :data:`RULES`.
    """
    name = cfg.CLUSTERING.RULE
    if name not in RULES:
        raise ConfigError(f"'CLUSTERING.RULE' is '{name}', expected one of {', '.join(RULES)}")
    return RULES[name](cfg)


class ClipMaps(NamedTuple):
    """The maps of a clip that waits to be clustered.

    Attributes:
        frames: T frame numbers.
        maps: [E + B + 1, T, h, w] float32: embedding, raw bandwidth, seediness.
        embedding_size: E.
        appearance: [A, T, h, w] float32, the appearance embedding before mixing; None without one.
    """

    frames: Sequence[int]
    maps: Tensor
    embedding_size: int
    appearance: Tensor | None = None


class ClipPoints(NamedTuple):
    """P foreground points: embeddings [E, P], bandwidths [E, P], seediness [P]."""

    embeddings: Tensor
    bandwidths: Tensor
    seediness: Tensor


def keep_maps(frames: Sequence[int], output: NetworkOutput, device: torch.device) -> ClipMaps:
    """Move the last ``len(frames)`` frames of one clip's maps to the device that clusters."""

    def moved(maps: Tensor) -> Tensor:
        return maps[:, -len(frames) :].to(device, torch.float32)

    parts = torch.cat([output.embedding[0], output.raw_bandwidth[0], output.seediness[0]])  # [E + B + 1, T, h, w]
    appearance = None if output.appearance is None else moved(output.appearance[0])
    return ClipMaps(frames, moved(parts), output.embedding.shape[1], appearance)


def gather_points(clip: ClipMaps, frames: Sequence[FramePoints], free_bandwidths: Tensor) -> ClipPoints:
    """The points of a clip's foreground.

    Args:
        clip: maps [C, T, h, w]; they are upsampled bilinearly where the points are finer, at the points alone.
        frames: the points of each of the T frames.
        free_bandwidths: [n], constant bandwidth of each free dimension.
    """
    parts = [sample(maps, points) for maps, points in zip(clip.maps.unbind(dim=1), frames, strict=True)]
    points = torch.cat(parts, dim=1)  # [E + B + 1, P]
    embeddings, raw, seediness = points.split([clip.embedding_size, len(points) - clip.embedding_size - 1, 1])
    free = free_bandwidths.to(points)[:, None].expand(-1, points.shape[1])  # [n, P]
    return ClipPoints(embeddings, torch.cat([bandwidth(raw), free]), seediness[0])
