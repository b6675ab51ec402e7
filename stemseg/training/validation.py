"""Training's ``--eval_interval``: segment a held-out split with the network as it is, and measure the tracks.

A run that never validates has no use for the official measures and inference's engine: they are imported where a
validator is built.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from stemseg.config import Config
from stemseg.data.sources import OpenedVideos, open_videos
from stemseg.datasets import find_dataset
from stemseg.modeling.network import Network
from stemseg.structures.annotations import VideoAnnotations
from stemseg.structures.tracks import VideoTracks
from stemseg.utils import distributed
from stemseg.utils.distributed import ProcessInfo

if TYPE_CHECKING:
    from stemseg.inference.frame_sources import FrameSource

_logger = logging.getLogger(__name__)
TAG = "validation"

Measure = Callable[[Sequence[VideoTracks]], Mapping[str, float]]


class Validator:
    """Measures a network on held-out videos; the processes share the videos.

    Args:
        sources: the videos.
        new_segmenter: makes, of the network as it is then, a function that gives the tracks of a video.
        measure: figures by name of the tracks of all videos.
        process: which of the processes that share them this is.
    """

    def __init__(
        self,
        *,
        sources: Sequence[FrameSource],
        new_segmenter: Callable[[Network], Callable[[FrameSource], VideoTracks]],
        measure: Measure,
        process: ProcessInfo,
    ) -> None:
        self._sources = sources
        self._new_segmenter = new_segmenter
        self._measure = measure
        self._process = process

    def __call__(self, network: Network, iteration: int) -> dict[str, float]:
        """Figures for TensorBoard, "validation/AP" and so on; empty in all processes but the main one."""
        start = time.perf_counter()
        share = self._sources[self._process.rank :: self._process.world_size]
        segment = self._new_segmenter(network)
        parts = distributed.gather([segment(source) for source in share])
        if not self._process.is_main:
            return {}
        figures = self._measure([tracks for part in parts for tracks in part])
        defined = {name: value for name, value in figures.items() if not math.isnan(value)}
        _logger.info(
            "validation after iteration %d (%d videos, %.0f s): %s",
            iteration,
            len(self._sources),
            time.perf_counter() - start,
            "  ".join(f"{name} {value:.3f}" for name, value in defined.items()),
        )
        return {f"{TAG}/{name}": value for name, value in defined.items()}


def open_validation_split(cfg: Config) -> OpenedVideos:
    """The validation split of TRAINING.MODE's dataset (DATA.CUSTOM.VAL_* for custom).

    Raises:
        DataError: where the split is missing or has no public annotations.
        ConfigError: where the overlap of inference's clips is impossible; now, not after the first iterations.
    """
    from stemseg.evaluation.ground_truth import unannotated_error
    from stemseg.inference.chaining import ClipSchedule

    ClipSchedule(cfg.INPUT.NUM_FRAMES, cfg.DATA[find_dataset(cfg.TRAINING.MODE).section].INFERENCE_FRAME_OVERLAP)
    opened = open_videos(cfg.TRAINING.MODE, "val", cfg)
    if not opened.annotations.is_annotated:
        raise unannotated_error(opened.annotations.source, "the file")
    return opened


def build_validator(
    cfg: Config,
    held_out: OpenedVideos,
    process: ProcessInfo,
    device: torch.device,
    category_names: Mapping[int, str] = MappingProxyType({}),
) -> Validator:
    """A validator on held-out videos.

    Args:
        category_names: of the classes that are trained, by id; the videos' classes are those of the same names.

    Raises:
        ConfigError: where no class of the videos is trained.
    """
    from stemseg.inference.frame_sources import open_sequence
    from stemseg.inference.inputs import match_model_classes
    from stemseg.inference.runner import with_known_classes
    from stemseg.inference.video_segmenter import build_segmenter

    annotations, image_dir = held_out
    labels, source = annotations.category_labels, str(annotations.source)
    classes = None if cfg.INPUT.NUM_CLASSES == 2 else match_model_classes(category_names, labels, cfg, source)

    def new_segmenter(network: Network) -> Callable[[FrameSource], VideoTracks]:
        # a copy: training goes on with a network that was neither folded nor put into evaluation mode
        segment = build_segmenter(cfg, network.inference_copy(), device=device).segment
        return lambda video: with_known_classes(segment(video), classes)[0]

    return Validator(
        sources=[open_sequence(sequence, image_dir) for sequence in annotations],
        new_segmenter=new_segmenter,
        measure=_measure_for(cfg, annotations),
        process=process,
    )


def best_measure(cfg: Config) -> str:
    """The tag of the figure by which ``best.pth`` is chosen: AP, for DAVIS J&F, for KITTI-MOTS the mean sMOTSA."""
    return f"{TAG}/{find_dataset(cfg.TRAINING.MODE).best_measure}"


def _measure_for(cfg: Config, annotations: VideoAnnotations) -> Measure:
    from stemseg.evaluation.video_tracks import evaluate_mots_tracks, evaluate_video_tracks

    if find_dataset(cfg.TRAINING.MODE).evaluator == "kitti_mots":
        return lambda results: evaluate_mots_tracks(results, annotations).scalars()
    agnostic = cfg.INPUT.NUM_CLASSES == 2
    return lambda results: evaluate_video_tracks(results, annotations, class_agnostic=agnostic).scalars()
