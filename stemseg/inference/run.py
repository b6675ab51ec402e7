"""A run of inference: everything that its options and configuration describe is built here, and run."""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from stemseg.config import Config
from stemseg.inference.frame_sources import open_path
from stemseg.inference.inputs import (
    InputVideos,
    build_exporters,
    build_writers,
    configured_names,
    data_section,
    open_dataset,
    open_inputs,
)
from stemseg.inference.live import Camera, camera_number, record_camera
from stemseg.inference.overlays import OverlayWriter
from stemseg.inference.result_folder import ResultFolder, hash_file
from stemseg.inference.run_summary import RunSummary, more_or_fewer
from stemseg.inference.runner import InferenceRunner, check_measurable, measure_results
from stemseg.inference.settings import load_run_config, output_directory, run_settings
from stemseg.inference.track_scores import drawing_threshold
from stemseg.inference.video_segmenter import VideoSegmenter, build_segmenter
from stemseg.modeling.model_files import ModelInfo, check_class_names, read_model_info
from stemseg.modeling.network import Network, build_network
from stemseg.modeling.weights import find_checkpoint, load_model_weights
from stemseg.structures.frame_range import FrameRange
from stemseg.utils import distributed
from stemseg.utils.folder_lock import held_folder
from stemseg.utils.text import shorten_list

_logger = logging.getLogger("stemseg.inference")
Notes = tuple[Mapping[str, int], Mapping[str, int]]  # what was left out of a video, and what was lost, by reason


def segment(options: argparse.Namespace) -> int:
    """Segment what the options ask for and write its results.

    Returns:
        the exit code: 1 where a part of a video could not be read.
    """
    options.checkpoint = find_checkpoint(options.checkpoint)
    info = read_model_info(options.checkpoint)
    device = distributed.choose_device(options.device)
    cfg = load_run_config(options, info, device)
    section = data_section(options.dataset, cfg)
    options.min_score = drawing_threshold(cfg, section) if options.min_score is None else options.min_score
    check_class_names(info, cfg.INPUT.NUM_CLASSES, options.checkpoint)
    network = build_network(cfg)
    load_model_weights(network, options.checkpoint)  # before anything is opened or made: it may not fit
    process = distributed.initialize(device)
    new_segmenter = partial(make_segmenter, network, options, cfg, device)
    videos = open_videos(options, cfg, info, new_segmenter)

    folder = ResultFolder(output_directory(options))
    writers = build_writers(cfg, options.dataset, folder.path) + build_exporters(options.export, videos, folder.path)
    overlays = build_overlays(options, videos, folder.path)
    with held_folder(folder.path) if process.is_main else nullcontext():
        if process.is_main:
            settings = run_settings(options, cfg, videos, hash_file(options.checkpoint))
            folder.open(settings, overwrite=options.overwrite)
            discard_changed(folder, videos)
        distributed.barrier()  # the others must not look before stale results are gone
        runner = InferenceRunner(
            sources=videos.sources,
            folder=folder,
            new_segmenter=new_segmenter,
            writers=writers,
            overlays=overlays,
            process=process,
            num_workers=options.num_cpu_workers,
            classes=videos.classes,
            min_score=cfg.DATA[section].MIN_TRACK_SCORE,
        )
        seconds = runner.run()
        return conclude(options, cfg, info, videos, folder, overlays, seconds) if process.is_main else 0


def open_videos(
    options: argparse.Namespace, cfg: Config, info: ModelInfo, new_segmenter: Callable[[], VideoSegmenter]
) -> InputVideos:
    """The videos that the options name: a dataset's, one's own, or what a camera has just recorded.

    Raises:
        DataError: where they can't be read, or are to be evaluated and have no annotations.
    """
    if options.dataset is not None:
        videos = open_dataset(options.dataset, options.split, cfg, options.seqs, info.category_names)
    else:
        number = camera_number(options.input)
        if number is not None:
            record(options, number, cfg, info, new_segmenter)
        videos = open_inputs(options.input, cfg, info.category_names, options.frames)
    if options.evaluate:
        check_measurable(videos)
    return videos


def conclude(
    options: argparse.Namespace,
    cfg: Config,
    info: ModelInfo,
    videos: InputVideos,
    folder: ResultFolder,
    overlays: OverlayWriter | None,
    seconds: Mapping[str, float],
) -> int:
    """Write the page of the results and say what was found, measured and left out; returns the exit code."""
    details = {"model": options.checkpoint.name, "videos": videos.origin, "more or fewer": more_or_fewer(cfg)}
    details |= {title: text for title, text in info.about.items() if "\n" not in text}
    summary = RunSummary(
        folder.path, videos.category_names, min_score=options.min_score, overlays=overlays, details=details
    )
    notes: dict[str | int, Notes] = {where: (reasons, {}) for where, reasons in videos.left_out.items()}
    for source in videos.sources:
        found = folder.record(source.sequence_id)
        summary.add(source, found.tracks)
        notes[source.sequence_id] = found.left_out, found.lost
    summary.write_page()
    report(summary, seconds, folder.path, cfg)
    if options.evaluate:
        measure_results(options.dataset, videos, folder.path, class_agnostic=cfg.INPUT.NUM_CLASSES == 2)
    if videos.unknown_classes:
        _logger.warning(
            "not looked for: %d classes of %s that the model does not know: %s",
            len(videos.unknown_classes), videos.origin, shorten_list(videos.unknown_classes),
        )  # fmt: skip
    return say_what_is_missing(notes)


def discard_changed(folder: ResultFolder, videos: InputVideos) -> None:
    """Forget what was found in videos that are others now: frames added, a file replaced."""
    changed = folder.discard_changed({source.sequence_id: source.fingerprint() for source in videos.sources})
    if changed:
        _logger.warning(
            "%d videos changed since they were segmented, and are anew: %s", len(changed), shorten_list(changed)
        )


def say_what_is_missing(notes: Mapping[str | int, Notes]) -> int:
    """Count, in the last lines, what the results don't hold; returns 1 where they can't be trusted for it, else 0.

    Args:
        notes: what each video left out, and lost, by its id; and each input with other files beside its videos.
    """
    for part, (kind, log) in enumerate((("left out", _logger.info), ("lost", _logger.error))):
        by_reason: dict[str, Counter[str]] = {}
        for sequence_id, parts in notes.items():
            for reason, count in parts[part].items():
                by_reason.setdefault(reason, Counter())[str(sequence_id)] += count
        for reason, counts in by_reason.items():
            where = shorten_list([f"{name} {count}" for name, count in counts.items()])
            log("%s: %d %s (%s)", kind, counts.total(), reason, where)
    return int(any(lost for _, lost in notes.values()))


def record(
    options: argparse.Namespace, number: int, cfg: Config, info: ModelInfo, new_segmenter: Callable[[], VideoSegmenter]
) -> None:
    """Segment a camera; the options then mean its recording, in a folder of its own that holds the tracks already."""
    name = time.strftime(f"camera{number}_%Y%m%d_%H%M%S")
    options.output_dir = (options.output_dir or Path("segmented")) / name
    recording = options.output_dir / f"{name}.webm"
    with Camera(number) as camera:
        tracks = record_camera(
            camera,
            new_segmenter().open_stream(),
            recording,
            category_names=info.category_names or configured_names(cfg),
            frames=options.frames,
            min_score=options.min_score,
            max_tracks=cfg.DATA[data_section(None, cfg)].MAX_INFERENCE_TRACKS,
        )
    ResultFolder(options.output_dir).save(tracks, fingerprint=open_path(recording).fingerprint())
    options.input, options.frames = [str(recording)], FrameRange()


def build_overlays(options: argparse.Namespace, videos: InputVideos, output_dir: Path) -> OverlayWriter | None:
    """The writer of pictures, where they are asked for."""
    if not options.save_vis:
        return None
    return OverlayWriter(
        output_dir, videos.category_names, min_score=options.min_score, side_by_side=options.side_by_side
    )


def make_segmenter(network: Network, options: argparse.Namespace, cfg: Config, device: torch.device) -> VideoSegmenter:
    """A network, ready to segment."""
    return build_segmenter(
        cfg,
        network,
        device=device,
        section=data_section(options.dataset, cfg),
        clustering_device=distributed.choose_device(options.clustering_device) if options.clustering_device else None,
        num_workers=options.num_cpu_workers,
        compiled=options.compile,
    )


def report(summary: RunSummary, seconds: Mapping[str, float], output_dir: Path, cfg: Config) -> None:
    """Say where the time went, what was found, how to find more or fewer, and where the results are."""
    total = sum(seconds.values())
    for stage, spent in seconds.items():
        _logger.info("%-10s %8.1f s  %3.0f %%", stage, spent, 100 * spent / max(total, 1e-9))
    for line in summary.lines():
        _logger.info(line)
    _logger.info(more_or_fewer(cfg))
    _logger.info("results are in %s%s", output_dir, f"; look at {summary.page}" if summary.page.is_file() else "")
