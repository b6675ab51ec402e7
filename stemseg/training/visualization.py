"""A contact sheet of a training clip for TensorBoard: the network's input, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stemseg.config import Config
from stemseg.data.preprocessing import ImagePreprocessor, build_preprocessor
from stemseg.inference.clustering import ClusteringRule, build_clustering, gather_points, keep_maps
from stemseg.inference.semantics import FramePoints, SemanticRule, build_semantic_rule, foreground_places
from stemseg.structures.clip import ClipBatch, ClipTargets
from stemseg.structures.network_output import NetworkOutput
from stemseg.utils.drawing import draw_instances, draw_text, tile

FRAME_WIDTH = 224  # pixels of a frame in the sheet


class ClipVisualizer:
    """Paints the first clip of a batch: a row each for input, ground truth, prediction, seediness and embedding.

    Args:
        cluster, semantics: make instances of the network's output, as inference does.
        free_dim_bandwidths: [n], constant bandwidth of each free dimension.
        preprocessor: knows the normalization of the input frames, to undo it.
    """

    def __init__(
        self,
        *,
        cluster: ClusteringRule,
        semantics: SemanticRule,
        free_dim_bandwidths: Tensor,
        preprocessor: ImagePreprocessor,
    ) -> None:
        self._cluster = cluster
        self._semantics = semantics
        self._free_dim_bandwidths = free_dim_bandwidths
        self._preprocessor = preprocessor

    def __call__(self, batch: ClipBatch, output: NetworkOutput) -> dict[str, np.ndarray]:
        """A sheet [height, width, 3] uint8, B G R, under the name "clip": rows as above, a column for each frame."""
        frames = [_shrink(frame) for frame in self._preprocessor.restore(batch.frames[0])]
        size = (frames[0].shape[1], frames[0].shape[0])
        rows = {
            "input": frames,
            "ground truth": _paint_masks(frames, _resize_masks(batch.targets[0], size)),
            "prediction": _paint_masks(frames, _resize_labels(self.predict(output), size)),
            "seediness": [_heat(x, size) for x in output.seediness[0, 0].float().cpu().numpy()],
            "embedding": [cv2.resize(x, size) for x in embedding_colors(output.embedding[0])],
        }
        if output.appearance is not None:
            rows["appearance"] = [cv2.resize(x, size) for x in appearance_colors(output.appearance[0])]
        for name, row in rows.items():
            row[0] = row[0].copy()
            draw_text(row[0], name, (4, 4))
        return {"clip": tile([image for row in rows.values() for image in row], columns=len(frames))}

    def predict(self, output: NetworkOutput) -> np.ndarray:
        """Instances of the first clip: labels [T, h, w], 0 where there is none, else from 1."""
        foreground = self._semantics.foreground(self._semantics.maps(output).transpose(0, 1))  # [T, h, w]
        maps = keep_maps(range(len(foreground)), output, foreground.device)
        size = (foreground.shape[-2], foreground.shape[-1])
        points = [FramePoints(places, size) for places in foreground_places(foreground)]
        clusters = self._cluster(*gather_points(maps, points, self._free_dim_bandwidths))
        labels = torch.zeros(foreground.shape, dtype=torch.int64, device=foreground.device)
        labels[foreground] = clusters.labels + 1  # outliers are -1
        return labels.cpu().numpy()


def embedding_colors(embedding: Tensor) -> list[np.ndarray]:
    """Show an embedding's three strongest directions as colors: [E, T, h, w] -> T images [h, w, 3] uint8.

    Pixels of one color lie close together. The directions are the principal components over the clip; each is
    stretched to the range that holds nearly all of its values.
    """
    points = embedding.float().flatten(1)  # [E, P]
    points = points - points.mean(dim=1, keepdim=True)
    _, directions = torch.linalg.eigh(points @ points.T)  # columns, ascending
    components = directions[:, -3:].T @ points  # [<= 3, P]
    ranked = components.sort(dim=1).values
    low, high = (ranked[:, int(q * (ranked.shape[1] - 1)), None] for q in (0.02, 0.98))
    shades = ((components - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * 255
    shades = functional.pad(shades, (0, 0, 0, 3 - shades.shape[0]))  # fewer than 3 dimensions leave channels dark
    images = shades.T.reshape(*embedding.shape[1:], 3)  # [T, h, w, 3]
    return list(images.round().byte().cpu().numpy())


def appearance_colors(appearance: Tensor) -> list[np.ndarray]:
    """Show the first three appearance dimensions as colors: [A, T, h, w] -> T images [h, w, 3] uint8.

    Gray is the clip's mean, on every clip with the same scale: a collapsed appearance is plain gray. Far from the mean,
    where 0.76 of the way to black or white is 1, the scale is compressed, so that instances still differ there.
    """
    values = appearance[:3].float()
    values = values - values.mean(dim=(1, 2, 3), keepdim=True)
    shades = (values.tanh() + 1) * 127.5
    shades = functional.pad(shades, (0, 0, 0, 0, 0, 0, 0, 3 - shades.shape[0]), value=127.5)
    return list(shades.permute(1, 2, 3, 0).round().byte().cpu().numpy())  # [T, h, w, 3]


def build_visualizer(cfg: Config, free_dim_bandwidths: Tensor) -> ClipVisualizer:
    """The painter that fits a configuration's network."""
    return ClipVisualizer(
        cluster=build_clustering(cfg),
        semantics=build_semantic_rule(cfg),
        free_dim_bandwidths=free_dim_bandwidths,
        preprocessor=build_preprocessor(cfg),
    )


def _shrink(frame: np.ndarray) -> np.ndarray:
    height = max(1, round(frame.shape[0] * FRAME_WIDTH / frame.shape[1]))
    return cv2.resize(frame, (FRAME_WIDTH, height), interpolation=cv2.INTER_AREA)


def _resize_masks(targets: ClipTargets, size: tuple[int, int]) -> list[dict[int, np.ndarray]]:
    """For each frame the mask of each instance that it shows, by instance number from 1."""
    masks = targets.masks.cpu().numpy()  # [I, T, H, W]
    return [
        {i + 1: cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for i, m in enumerate(frame_masks) if m.any()}
        for frame_masks in masks.swapaxes(0, 1)
    ]


def _resize_labels(labels: np.ndarray, size: tuple[int, int]) -> list[dict[int, np.ndarray]]:
    resized = [cv2.resize(x.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for x in labels]
    return [{int(i): frame == i for i in np.unique(frame) if i > 0} for frame in resized]


def _paint_masks(frames: Sequence[np.ndarray], masks: Sequence[dict[int, np.ndarray]]) -> list[np.ndarray]:
    if len(masks) == 0:  # a clip without instances
        return list(frames)
    return [draw_instances(frame, of_frame) for frame, of_frame in zip(frames, masks, strict=True)]


def _heat(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values [h, w] in [0, 1] as dark blue to bright yellow."""
    return cv2.applyColorMap(cv2.resize((values * 255).astype(np.uint8), size), cv2.COLORMAP_VIRIDIS)
