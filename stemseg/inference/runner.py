"""Runs over all sequences of an input: skips finished ones, shares the rest among processes, writes every format."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from tqdm import tqdm

from stemseg.data.categories import ResultClass
from stemseg.datasets import find_dataset
from stemseg.evaluation.evaluate import RunOptions, run_evaluation
from stemseg.evaluation.ground_truth import unannotated_error
from stemseg.evaluation.report import console_text, write_evaluation
from stemseg.inference.frame_sources import FrameSource
from stemseg.inference.inputs import InputVideos
from stemseg.inference.overlays import OverlayWriter
from stemseg.inference.result_folder import ResultFolder, ResultWriter, without_faint
from stemseg.inference.video_segmenter import VideoSegmenter
from stemseg.structures.tracks import VideoTracks
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.parallel import BackgroundWorker
from stemseg.utils.timing import Stopwatch

_logger = logging.getLogger("stemseg.inference")
_POLL_SECONDS = 0.5


class InferenceRunner:
    """Segments videos and writes their results.

    Args:
        sources: all videos, in the order in which results list them.
        folder: keeps finished sequences.
        new_segmenter: makes the segmenter, once, where at least one video is not finished.
        writers: of the result formats.
        overlays: writes pictures; None for none.
        process: which of the processes that share the videos this is.
        num_workers: threads that read frames for pictures.
        classes: id in the results of each class of the model; None: the same.
        min_score: tracks of less are left out of the result formats; the folder keeps them.
    """

    def __init__(
        self,
        *,
        sources: Sequence[FrameSource],
        folder: ResultFolder,
        new_segmenter: Callable[[], VideoSegmenter],
        writers: Sequence[ResultWriter],
        overlays: OverlayWriter | None,
        process: ProcessInfo,
        num_workers: int,
        classes: Mapping[int, ResultClass] | None = None,
        min_score: float = 0.0,
    ) -> None:
        self._classes = classes
        self._sources = sources
        self._folder = folder
        self._new_segmenter = new_segmenter
        self._writers = writers
        self._overlays = overlays
        self._process = process
        self._num_workers = num_workers
        self._min_score = min_score
        self._output_watch = Stopwatch()

    def run(self) -> dict[str, float]:
        """Do this process's share; the main process then waits for the others and writes what holds all sequences.

        Returns:
            seconds of this process in each stage.
        """
        share = share_of(self._sources, self._process)
        started = [source for source in share if not self._folder.has(source.sequence_id)]
        if len(started) < len(share):
            _logger.info("%d of %d sequences were finished before", len(share) - len(started), len(share))
        # one video is masked and written while the next one is in the network
        with (
            self._progress_bar(started) as bar,
            BackgroundWorker(max_waiting=1, in_place=not self._num_workers) as worker,
        ):
            for source in share:
                worker.do(self._track(source, bar))
        if self._process.is_main:
            self._assemble()
        return (self._segmenter.stopwatch.seconds if started else {}) | self._output_watch.seconds

    @cached_property
    def _segmenter(self) -> VideoSegmenter:
        return self._new_segmenter()

    def _track(self, source: FrameSource, bar: tqdm) -> Callable[[], None]:
        """Run the network over a video that is not finished; what else is to be done for it is returned."""
        if self._folder.has(source.sequence_id):
            return partial(self._write, source, is_new=False)
        bar.set_postfix_str(str(source.sequence_id))
        fingerprint = source.fingerprint()  # before it is read: what changes meanwhile is noticed the next time
        return partial(self._finish, source, fingerprint, self._segmenter.start(source, bar.update))

    def _finish(self, source: FrameSource, fingerprint: str, collect: Callable[[], VideoTracks]) -> None:
        tracks, strange = with_known_classes(collect(), self._classes)
        left_out = source.left_out + strange
        self._folder.save(tracks, fingerprint=fingerprint, left_out=left_out, lost=source.lost)
        self._write(source, is_new=True)

    def _write(self, source: FrameSource, *, is_new: bool) -> None:
        tracks = self._folder.load(source.sequence_id)
        with self._output_watch.stage("writing"):
            for writer in self._writers:  # again for finished ones: cheap, and a changed filter takes effect
                writer.write_sequence(without_faint(tracks, self._min_score))
        if self._overlays is not None and (is_new or not self._overlays.is_written(source.sequence_id)):
            with self._output_watch.stage("overlays"):
                self._overlays.write(source, tracks, num_workers=self._num_workers)

    def _assemble(self) -> None:
        while missing := [s for s in self._sources if not self._folder.has(s.sequence_id)]:
            _logger.debug("waiting for %d sequences of other processes", len(missing))
            time.sleep(_POLL_SECONDS)
        with self._output_watch.stage("writing"):
            for writer in self._writers:
                writer.assemble(self._results(source) for source in self._sources)

    def _results(self, source: FrameSource) -> VideoTracks:
        return without_faint(self._folder.load(source.sequence_id), self._min_score)

    def _progress_bar(self, sources: Sequence[FrameSource]) -> tqdm:
        lengths = [length for source in sources if (length := source.expected_length) is not None]
        total = sum(lengths) if len(lengths) == len(sources) else None
        return tqdm(total=total, unit="frame", desc="segmenting", disable=not self._process.is_main or not sources)


def with_known_classes(
    video: VideoTracks, classes: Mapping[int, ResultClass] | None
) -> tuple[VideoTracks, Counter[str]]:
    """The tracks with the ids that their classes have in the results; those of other classes are left out, counted."""
    if classes is None:
        return video, Counter()
    tracks = [
        replace(track, category_id=known)
        for track in video.tracks
        if (known := classes[track.category_id].result_id) is not None
    ]
    strange = (classes[track.category_id] for track in video.tracks)
    left_out = Counter(f"tracks of class '{c.name}', which the dataset lacks" for c in strange if c.result_id is None)
    return replace(video, tracks=tracks), left_out


def share_of(sources: Sequence[FrameSource], process: ProcessInfo) -> list[FrameSource]:
    """The videos that a process takes: every K-th of the videos ordered by length, so that shares take equally long."""
    by_length = sorted(sources, key=lambda source: -(source.expected_length or 0))
    mine = {id(source) for source in by_length[process.rank :: process.world_size]}
    return [source for source in sources if id(source) in mine]


def check_measurable(videos: InputVideos) -> None:
    """Refuse, before anything is segmented, videos without annotations.

    Raises:
        DataError: that says how to have the results measured instead.
    """
    if not videos.is_annotated:
        raise unannotated_error(Path(videos.origin), "the file")


def measure_results(dataset: str, videos: InputVideos, output_dir: Path, *, class_agnostic: bool) -> None:
    """Log the dataset's official metrics and write them to ``output_dir/evaluation``.

    Args:
        dataset: its name; where its results have several formats, each has its metrics.
        class_agnostic: AP without regard to classes, for a model that has none.
    """
    entry = find_dataset(dataset)
    for kind in entry.formats:
        options = RunOptions(
            results=output_dir,
            ground_truth=Path(videos.origin),
            sequences={str(source.sequence_id): None for source in videos.sources},
            class_agnostic=class_agnostic,
            all_objects=entry.evaluator != "davis",  # that only the first frame's objects count is DAVIS' own rule
        )
        evaluation = run_evaluation(kind, options)
        folder = output_dir / "evaluation" / (kind if len(entry.formats) > 1 else "")
        write_evaluation(evaluation, folder)
        _logger.info("%s metrics, also in %s:\n%s", kind, folder, console_text(evaluation.report))
