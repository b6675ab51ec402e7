"""Growth of the embedding loss with the number of instances, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from scripts.benchmarks.clips import MapSize, as_output, disc_masks, disc_targets, trained_maps, untrained_maps
from scripts.benchmarks.timing import best_seconds
from stemseg.evaluation.report import MetricTable
from stemseg.modeling.losses.embedding_loss import EmbeddingCriterion, EmbeddingLossTerms
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.structures.network_output import NetworkOutput
from tests import reference


def benchmark_embedding_loss(
    size: MapSize, counts: Sequence[int], *, dim_mode: str, repeats: int, device: torch.device
) -> MetricTable:
    """Milliseconds of one clip's loss for each number of instances, by the fast criterion and by the plain loop.

    Both at the start of a training, when all of the image counts, and near its end. "x one" compares with the first of
    ``counts``, "loop / ours" with the loop for as many instances.
    """
    rows = {}
    for trained in (False, True):
        milliseconds = _milliseconds(size, counts, trained, dim_mode, repeats, device)
        for count in counts:
            ours, loop = milliseconds[f"ours {count}"], milliseconds[f"loop {count}"]
            one = milliseconds[f"ours {counts[0]}"]
            rows[f"{count}, {'trained' if trained else 'untrained'}"] = (ours, ours / one, loop, loop / ours)
    return MetricTable("instances", ("ours ms", "x one", "loop ms", "loop / ours"), rows, decimals=2)


def _milliseconds(
    size: MapSize, counts: Sequence[int], trained: bool, dim_mode: str, repeats: int, device: torch.device
) -> dict[str, float]:
    dims = parse_dim_mode(dim_mode)
    criterion = EmbeddingCriterion(dims=dims, free_dim_stds=[0.3] * dims.num_free).to(device)
    generator = torch.Generator().manual_seed(0)
    calls: dict[str, Callable[[], object]] = {}
    for count in counts:
        masks = disc_masks(size, count)
        maps = trained_maps(dims, masks, generator) if trained else untrained_maps(dims, size, generator)
        output, targets = as_output(maps.to(device), dims), disc_targets(masks).to(device)
        plain = partial(reference.plain_embedding_loss, free_dim_bandwidths=criterion.free_dim_bandwidths[0])
        calls[f"ours {count}"] = partial(_run, partial(criterion, output, [targets]), output)
        calls[f"loop {count}"] = partial(_run, partial(plain, output, [targets]), output)
    return {name: 1000 * s for name, s in best_seconds(calls, repeats=repeats, device=device).items()}


def _run(loss: Callable[[], EmbeddingLossTerms], output: NetworkOutput) -> None:
    """Forward and backward."""
    for maps in output[:3]:
        maps.grad = None
    loss().total.backward()
