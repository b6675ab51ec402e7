"""One branch of a base: a variant's loss trains the heads on the base's cached feature maps, and A is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam

from scripts.experiments.appearance_flow.cache import CachedClip, ClipOrder, join
from scripts.experiments.appearance_flow.reidentification import look_alikes, pair_accuracy, pair_joined
from scripts.experiments.appearance_flow.variants import Variant
from stemseg.config import Config, load_config
from stemseg.modeling.embedding import mix_appearance
from stemseg.modeling.losses.appearance_loss import appearance_loss
from stemseg.modeling.network import Network, build_network
from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import FeaturePyramid
from stemseg.training.optimizer import exponential_factor, with_warmup

Batch = tuple[FeaturePyramid, Tensor, list[ClipTargets]]

_APPEARANCE = ("MODEL.USE_OFFSET_HEAD=true", "MODEL.OFFSET.GRADIENT_SCALE=1")
BASE = Variant(
    "mask",
    "the mask loss alone; the base itself is trained so",
    (*_APPEARANCE, "TRAINING.LOSSES.WEIGHT_OFFSET=0", "TRAINING.GLOW_EPOCH=0"),
)


def _by_loss(name: str, description: str) -> Variant:
    """A variant of ``MODEL.OFFSET.LOSS``, called as its value."""
    return Variant(name, description, (*_APPEARANCE, f"MODEL.OFFSET.LOSS={name}"))


BRANCHES = {
    variant.name: variant
    for variant in (
        BASE,
        _by_loss("likelihood", "the papers' likelihood of A, given the masks"),
        _by_loss("classifier", "the probability of the instance, given A, by Bayes' rule of the flow"),
        _by_loss("gaussian", "the same of Gaussians, without a flow"),
        _by_loss("image", "the likelihood of the colors by a flow, given the masks and A in the other frames"),
        _by_loss("color", "the same by regression, without a flow"),
        Variant(
            "unbounded",
            "control: free dimensions without tanh in the place of A; mask loss alone",
            ("MODEL.EMBEDDINGS.TANH_FREE_DIMS=false",),
        ),
        Variant(
            "own-frame",
            "control: A from the frame's own finest FPN map, begun anew; mask loss alone",
            (*BASE.overrides, "MODEL.OFFSET.FEATURES=stride4"),
        ),
    )
}  # fmt: skip
"""Every branch by name; ``mask`` is what the others are compared with."""


@dataclass(frozen=True)
class Plan:
    """Settings of all branches, fixed before any is run.

    Attributes:
        steps: optimizer steps with the network.
        head_steps: steps before them in which the loss's own weights alone are trained.
        strength: norm of the loss's gradient on A as a multiple of the mask loss's, both at the base.
        strength_batches: batches that these norms are the mean of.
        rate: initial learning rate.
        batch_size: clips of a step.
    """

    steps: int = 400
    head_steps: int = 100
    strength: float = 0.3
    strength_batches: int = 16
    rate: float = 0.001
    batch_size: int = 4


class Branch(NamedTuple):
    """A trained branch: its network, and the factor on its loss's gradient to A (0 without such a loss)."""

    cfg: Config
    network: Network
    gradient_scale: float


def train_branch(
    variant: Variant, base: Mapping[str, Tensor], videos: Sequence[CachedClip], plan: Plan, cfg: Config, *, order: int
) -> Branch:
    """Branch from a base's weights and train on its cached videos.

    Args:
        base: state dict of the base.
        cfg: of the variant (:func:`branch_config`).
        order: seed of the clips' order and of the weights that are new.
    """
    torch.manual_seed(order)
    network = build_network(cfg)
    network.load_state_dict({**network.state_dict(), **fitting_weights(network, base)})
    network.train().backbone.requires_grad_(False)  # and is never run
    data = cfg.DATA.CUSTOM
    spans = (data.FRAME_GAP_LOWER, data.FRAME_GAP_UPPER)
    clips = ClipOrder(videos, num_frames=network.num_frames, spans=spans, batch_size=plan.batch_size, seed=order)
    has_loss = network.offset_head is not None and cfg.TRAINING.LOSSES.WEIGHT_OFFSET > 0
    if has_loss:
        before = iter(clips)
        _train_head(network, before, plan)
        balance_gradient(network, before, plan)
    _train_all(network, iter(clips), plan, with_head=has_loss)  # from the first clip on, as every variant
    return Branch(cfg, network.eval(), network.offset_head.gradient_scale if has_loss else 0.0)


def branch_config(variant: Variant, config: str, overrides: Sequence[str]) -> Config:
    """The configuration of a branch."""
    return load_config(config, [*overrides, *variant.overrides])


def fitting_weights(network: Network, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a base that a branch begins with: all of the same name and shape but the loss's own.

    Without an A, free dimensions without a bound begin as what the base's tanh and A are together near 0.
    """
    own = network.state_dict()
    fitting = {
        key: value
        for key, value in base.items()
        if not key.startswith("offset_head.") and key in own and own[key].shape == value.shape
    }
    if network.offset_decoder is None and "offset_decoder.conv1_add.0.weight" in base:
        first, second = (base[f"offset_decoder.conv1_add.{i}.weight"].flatten(1) for i in range(2))
        weight = fitting["embedding_head.conv_embedding.weight"].clone()
        weight[-len(second) :] += 4 * (second @ first)[..., None, None, None]  # the head multiplies by 1/4
        fitting["embedding_head.conv_embedding.weight"] = weight
    return fitting


def _train_head(network: Network, batches: Iterator[Batch], plan: Plan) -> None:
    """Train the loss's own weights on A as the base makes it."""
    head = network.offset_head
    optimizer = Adam(head.parameters(), lr=plan.rate)
    for _ in range(plan.head_steps):
        features, colors, targets = next(batches)
        with torch.no_grad():
            appearance = network.decode(features).appearance
        optimizer.zero_grad()
        appearance_loss(head, appearance, [t.masks for t in targets], colors).bits_per_dimension.backward()
        optimizer.step()
        head.finish_step()


def balance_gradient(network: Network, batches: Iterator[Batch], plan: Plan) -> None:
    """Set the factor on the loss's gradient to A that makes its norm ``plan.strength`` times the mask loss's."""
    norms = torch.zeros(2)
    for _ in range(plan.strength_batches):
        features, colors, targets = next(batches)
        with torch.no_grad():
            output = network.decode(features)
            rest = mix_appearance(output.embedding, -output.appearance, detach=False)
        appearance = output.appearance.clone().requires_grad_()
        embedding = mix_appearance(rest, appearance, detach=False)
        losses = (
            network.embedding_loss_criterion(output._replace(embedding=embedding), targets).total,
            appearance_loss(network.offset_head, appearance, [t.masks for t in targets], colors).bits_per_dimension,
        )
        norms += torch.stack([torch.autograd.grad(loss, appearance)[0].norm() for loss in losses])
    network.offset_head.gradient_scale = plan.strength * (norms[0] / norms[1].clamp(min=1e-12)).item()


def _train_all(network: Network, batches: Iterator[Batch], plan: Plan, *, with_head: bool) -> None:
    """Train everything but the backbone, with a warm-up of the rate and its decay to a twentieth in the second half."""
    named = network.named_parameters()
    weights = [p for name, p in named if p.requires_grad and (with_head or not name.startswith("offset_head."))]
    optimizer = Adam(weights, lr=plan.rate)
    half = max(1, plan.steps // 2)
    factor = with_warmup(exponential_factor(half, half, 0.05), max(1, plan.steps // 40))
    for step in range(plan.steps):
        optimizer.param_groups[0]["lr"] = plan.rate * factor(step)
        features, colors, targets = next(batches)
        output = network.decode(features)
        loss = network.embedding_loss_criterion(output, targets).total
        if with_head:
            masks = [t.masks for t in targets]
            loss = loss + appearance_loss(network.offset_head, output.appearance, masks, colors).bits_per_dimension
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if with_head:
            network.offset_head.finish_step()


@torch.no_grad()
def measure_branch(network: Network, videos: Sequence[CachedClip]) -> dict[str, float]:
    """Figures of a branch's embedding on held-out videos, each as one clip from its first frame to its last.

    Returns:
        reidentified: the primary measure, share of look-alikes' pixels that A tells rightly; by the free dimensions
        for a network without A. reidentified_free: the same by the free dimensions. joined: share of pairs whose
        means are joined rightly, by what is the primary measure's.
    """
    outcomes: list[tuple[float, float, float]] = []
    num_free = network.free_dim_bandwidths.numel()
    for video in videos:
        frames = torch.linspace(0, video.colors.shape[2] - 1, network.num_frames).round().int().tolist()
        features, _, (targets,) = join([video.take(frames)])
        for parts, masks in look_alikes(network.decode(features), targets, num_free):
            primary = parts.get("_by_appearance", parts[""])
            outcomes.append(
                (pair_accuracy(primary, masks), pair_accuracy(parts[""], masks), pair_joined(primary, masks))
            )
    means = torch.tensor(outcomes, dtype=torch.float64).mean(dim=0).tolist()
    return {**dict(zip(("reidentified", "reidentified_free", "joined"), means, strict=True)), "pairs": len(outcomes)}
