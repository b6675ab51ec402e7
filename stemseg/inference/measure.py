"""Inference's ``--evaluate``: measure what was just written against the dataset's annotations."""

from __future__ import annotations

import logging
from pathlib import Path

from stemseg.evaluation.ground_truth import unannotated_error
from stemseg.evaluation.output import console_text, write_evaluation
from stemseg.evaluation.runs import RunOptions, run_evaluation
from stemseg.inference.inputs import DATASETS, InputVideos

_logger = logging.getLogger("stemseg.inference")


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
        dataset: a value of ``--dataset``; where its results have several formats, each has its metrics.
        class_agnostic: AP without regard to classes, for a model that has none.
    """
    formats = DATASETS[dataset].formats
    for kind in formats:
        options = RunOptions(
            results=output_dir,
            ground_truth=Path(videos.origin),
            sequences={str(source.sequence_id): None for source in videos.sources},
            class_agnostic=class_agnostic,
            all_objects=dataset == "custom",  # the rule that only the first frame's objects count is DAVIS' own
        )
        evaluation = run_evaluation(kind, options)
        folder = output_dir / "evaluation" / (kind if len(formats) > 1 else "")
        write_evaluation(evaluation, folder)
        _logger.info("%s metrics, also in %s:\n%s", kind, folder, console_text(evaluation.report))
