"""The official files of YouTube-VIS and OVIS: ground truth JSON, and ``results.json`` or ``results.zip``."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemseg.evaluation.ground_truth import (
    GroundTruth,
    GroundTruthTrack,
    GroundTruthVideo,
    ground_truth_from_annotations,
    unannotated_error,
)
from stemseg.structures.annotations import load_video_annotations, read_key
from stemseg.structures.rle import rle_from_coco
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError, located
from stemseg.utils.text import shorten_list


def load_ground_truth(path: str | Path) -> GroundTruth:
    """Annotated videos of the standard JSON ("sequences") or of an official YouTube-VIS / OVIS JSON ("videos").

    Raises:
        DataError: naming what is missing or inconsistent; where the annotations are not public, how to submit.
    """
    path = Path(path)
    content = _read_json(path, _read_text(path))
    if isinstance(content, dict) and "sequences" in content:
        return ground_truth_from_annotations(load_video_annotations(path))
    found = ", ".join(content) if isinstance(content, dict) else f"a {type(content).__name__}"
    if not isinstance(content, dict) or not {"videos", "categories"} <= set(content) or "images" in content:
        raise DataError(
            f"{path}: found {found}, expected an official YouTube-VIS or OVIS file (videos, categories, annotations) "
            "or the standard JSON (meta, sequences)"
        )
    if not content.get("annotations"):
        raise unannotated_error(path, "the file")
    return _official_ground_truth(path, content)


def load_results(path: str | Path, ground_truth: GroundTruth) -> list[VideoTracks]:
    """The tracks of ``results.json``, also inside a ``results.zip`` or a folder, for the videos of the ground truth.

    Raises:
        DataError: naming video and frame: unknown video, wrong number of frames, mask of another size or damaged.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    content = _read_json(path, _read_zip(path) if path.suffix == ".zip" else _read_text(path))
    if not isinstance(content, list):
        raise DataError(f"{path}: found a {type(content).__name__}, expected a list of tracks as in YouTube-VIS")
    videos = {video.id: video for video in ground_truth.videos}
    tracks: dict[str, list[Track]] = defaultdict(list)
    for index, entry in enumerate(content):
        where = f"{path}, entry {index}"
        video = _video_of(entry, videos, ground_truth, where)
        tracks[video.id].append(_parse_track(entry, video, len(tracks[video.id]) + 1, where))
    return [
        VideoTracks(video.id, video.height, video.width, len(video), video.frame_names, tracks[video.id])
        for video in ground_truth.videos
    ]


def _video_of(
    entry: Any, videos: Mapping[str, GroundTruthVideo], ground_truth: GroundTruth, where: str
) -> GroundTruthVideo:
    key = str(read_key(entry, "video_id", where))
    if key not in videos:
        raise DataError(
            f"{where}: video_id {entry['video_id']!r} is unknown: {ground_truth.source} has {len(videos)} videos, "
            f"{shorten_list(videos)}. Were the results made for another split or dataset?"
        )
    return videos[key]


def _parse_track(entry: Mapping[str, Any], video: GroundTruthVideo, track_id: int, where: str) -> Track:
    where = f"{where} (video {video.id})"
    masks = read_key(entry, "segmentations", where)
    if len(masks) != len(video):
        raise DataError(
            f"{where}: found {len(masks)} segmentations, expected one (or null) for each of the {len(video)} frames"
        )
    counts = [_to_counts(m, video, f"{where}, frame {t}") for t, m in enumerate(masks)]
    return Track(track_id, int(read_key(entry, "category_id", where)), float(read_key(entry, "score", where)), counts)


def _official_ground_truth(path: Path, content: Mapping[str, Any]) -> GroundTruth:
    tracks: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for index, annotation in enumerate(content["annotations"]):
        tracks[read_key(annotation, "video_id", f"{path}, annotation {index}")].append(annotation)
    videos = []
    for index, entry in enumerate(content["videos"]):
        where = f"{path}, video {entry.get('id', f'number {index}')}"
        base = [read_key(entry, key, where) for key in ("id", "height", "width", "file_names")]
        video = GroundTruthVideo(str(base[0]), *base[1:])
        video.tracks.extend(_official_track(a, video, f"{where}, annotation {a.get('id')}") for a in tracks[base[0]])
        videos.append(video)
    return GroundTruth(path, {int(c["id"]): str(c["name"]) for c in content["categories"]}, videos)


def _official_track(annotation: Mapping[str, Any], video: GroundTruthVideo, where: str) -> GroundTruthTrack:
    masks = read_key(annotation, "segmentations", where)
    if len(masks) != len(video):
        raise DataError(f"{where}: found {len(masks)} segmentations, expected {len(video)}, one for each frame")
    areas = [area for area in annotation.get("areas") or () if area]
    return GroundTruthTrack(
        int(annotation["id"]),
        int(read_key(annotation, "category_id", where)),
        [_to_counts(mask, video, f"{where}, frame {t}") for t, mask in enumerate(masks)],
        is_crowd=bool(annotation.get("iscrowd", 0)),
        area=None if annotation.get("areas") is None else float(np.mean(areas)) if areas else 0.0,
    )


def _to_counts(mask: Any, video: GroundTruthVideo, where: str) -> str | None:
    """Compressed counts of a mask in any form of COCO; None where there is none."""
    if not mask:
        return None
    with located(where):
        return rle_from_coco(mask, video.height, video.width)


def _read_text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); give the JSON file") from None


def _read_zip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("results.json")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no zip file with a results.json in it: {error}") from None


def _read_json(path: Path, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None
