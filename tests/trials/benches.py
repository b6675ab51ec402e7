"""All kinds of files of the trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.trials.annotation_files import (
    coco,
    mapillary_labels,
    mapillary_segments,
    official_truth,
    results,
    standard_stills,
    standard_videos,
)  # fmt: skip
from tests.trials.bench import Bench
from tests.trials.lists_and_images import (
    configuration,
    davis_list,
    davis_pngs,
    images,
    kitti_mots_lines,
    kitti_mots_seqmap,
)
from tests.trials.records_and_models import best_record, checkpoint, frame, own_records, video

BENCHES: tuple[Callable[[Path], Bench], ...] = (
    standard_videos, standard_stills, official_truth, results, coco, mapillary_labels,
    mapillary_segments, kitti_mots_lines, kitti_mots_seqmap, davis_list,
    davis_pngs, images, configuration, own_records, best_record, checkpoint, frame, video,
)  # fmt: skip
