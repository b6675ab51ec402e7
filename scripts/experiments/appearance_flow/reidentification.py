"""Re-identification accuracy of look-alikes by the embedding's free dimensions and the appearance in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stemseg.config import Config, load_config
from stemseg.data.dataset import build_training_dataset
from stemseg.data.preprocessing import PackedClip, build_preprocessor, collate_clips, prepare_clip
from stemseg.modeling.network import Network, build_network
from stemseg.modeling.weights import load_model_weights
from stemseg.structures.annotations import load_video_annotations
from stemseg.structures.clip import ClipTargets
from stemseg.structures.network_output import NetworkOutput
from stemseg.training.loss import downscale_targets


def load_run(config: Path, checkpoint: Path) -> tuple[Config, Network, list[PackedClip]]:
    """A run's configuration, its trained network in evaluation mode, and its held-out videos, one clip each."""
    cfg = load_config(config)
    network = build_network(cfg)
    load_model_weights(network, checkpoint)
    return cfg, network.eval(), list(whole_videos(cfg, "VAL", cfg.INPUT.NUM_FRAMES))


def reidentification_figures(network: Network, clips: Sequence[PackedClip]) -> dict[str, float]:
    """Re-identification accuracy of a trained network on its held-out videos.

    For every pair of objects of one class that is visible at both ends of a video: the share of their pixels at the end
    that lie nearer to their own object's mean at the beginning than to the other's. Chance is a half. Masks are those
    of the ground truth, so that this is about identity alone.

    Returns:
        reid_accuracy: mean over the pairs, by the free dimensions of the whole embedding, offsets and appearance.
        reid_accuracy_by_appearance: the same by the appearance embedding A alone.
        Each only where the network has what it is about.
    """
    outcomes = list(_outcomes(network, clips))
    return {name: float(np.mean([o[name] for o in outcomes])) for name in (outcomes[0] if outcomes else ())}


@torch.no_grad()
def _outcomes(network: Network, clips: Sequence[PackedClip]) -> Iterator[dict[str, float]]:
    """Accuracy of each part of the embedding, pair by pair."""
    for clip in clips:
        batch = collate_clips([clip]).to("cpu")
        targets = downscale_targets(batch.targets[0])
        for parts, masks in look_alikes(network(batch.frames), targets, network.free_dim_bandwidths.numel()):
            yield {f"reid_accuracy{name}": pair_accuracy(part, masks) for name, part in parts.items()}


def look_alikes(
    output: NetworkOutput, targets: ClipTargets, num_free: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Every pair of objects of one class that is visible in the first and the last frame of a clip, N = 1.

    Args:
        targets: at the output's size.
        num_free: free dimensions of the embedding, its last.

    Yields:
        Parts of the embedding [E, 2, h, w] in these frames by name, "" the free dimensions and "_by_appearance" A,
        where there are such; and the masks [2, 2, h, w] of both objects.
    """
    parts = {"": output.embedding[0, -num_free:][:, [0, -1]]} if num_free else {}
    if output.appearance is not None:
        parts["_by_appearance"] = output.appearance[0][:, [0, -1]]
    masks = targets.masks[:, [0, -1]]  # [I, 2, h, w]
    for pair in _pairs(masks, targets.category_ids):
        yield parts, masks[pair]


def pair_accuracy(embedding: Tensor, masks: Tensor) -> float:
    """Accuracy on one pair: share of their pixels in the second frame that are nearer to their own mean in the first.

    Args:
        embedding: [E, 2, h, w], of the first and the second frame.
        masks: [2, 2, h, w], of each object in these frames; none is empty.

    Returns:
        Between 0 and 1, mean of the two objects; pixels as near to one as to the other count half.
    """
    shares = []
    first, second = masks.bool().unbind(dim=1)
    means = torch.stack([embedding[:, 0][:, mask].mean(dim=1) for mask in first])  # [2, E]
    for own, mask in enumerate(second):
        distances = torch.cdist(embedding[:, 1][:, mask].t(), means)  # [P, 2]
        gain = distances[:, 1 - own] - distances[:, own]
        shares.append((gain > 0).float().mean() + 0.5 * (gain == 0).float().mean())
    return torch.stack(shares).mean().item()


def pair_joined(embedding: Tensor, masks: Tensor) -> float:
    """1 where the two objects' means in the first and the second frame are joined rightly, else 0; a tie is a half.

    Args:
        embedding, masks: as for :func:`pair_accuracy`.
    """
    means = [[embedding[:, t][:, masks[i, t].bool()].mean(dim=1) for t in range(2)] for i in range(2)]
    right, wrong = (sum(torch.dist(means[i][0], means[i ^ swap][1]) for i in range(2)) for swap in range(2))
    return 0.5 if right == wrong else float(right < wrong)


def _pairs(masks: Tensor, categories: Tensor) -> Iterator[list[int]]:
    visible = masks.amax(dim=(2, 3)).all(dim=1)
    for i in range(len(masks)):
        for j in range(i + 1, len(masks)):
            if categories[i] == categories[j] and visible[i] and visible[j]:
                yield [i, j]


def whole_videos(cfg: Config, split: str, num_frames: int) -> Iterator[PackedClip]:
    """One clip for each video of a split, from its first frame to its last, with the classes that its file knows.

    Args:
        split: "TRAIN" or "VAL" of ``DATA.CUSTOM``.
        num_frames: T, spread evenly over the video; a shorter one repeats frames.
    """
    path, images = (cfg.DATA.CUSTOM[f"{split}_{kind}"] for kind in ("JSON", "IMAGES"))
    annotations = load_video_annotations(path)
    overrides = [f"DATA.CUSTOM.TRAIN_JSON={path}", f"DATA.CUSTOM.TRAIN_IMAGES={images}",
                 "DATA.MIX={custom: 1}", "TRAINING.MODE=custom", "MODEL.USE_SEMSEG_HEAD=true",
                 f"INPUT.NUM_CLASSES={1 + len(annotations.category_labels)}"]  # fmt: skip
    videos = build_training_dataset(load_config(None, overrides)).sources[0]
    preprocessor = build_preprocessor(cfg)
    for index, sequence in enumerate(annotations):
        frames = np.linspace(0, len(sequence.image_paths) - 1, num_frames).round().astype(int).tolist()
        yield prepare_clip(videos.load(index, frames), preprocessor)
