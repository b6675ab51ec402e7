"""The official files of YouTube-VIS and OVIS: ground truth JSON, and ``results.json`` or ``results.zip``."""

from __future__ import annotations

import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemseg.evaluation.ground_truth import (
    GroundTruth,
    GroundTruthTrack,
    GroundTruthVideo,
    ground_truth_from_annotations,
    unannotated_error,
)
from stemseg.structures.annotations import parse_video_annotations
from stemseg.structures.official import (
    OfficialVideo,
    annotation_name,
    group_annotations,
    index_entries,
    read_labels,
    read_masks,
    read_track,
    read_video,
    refuse,
)
from stemseg.structures.tracks import Track, VideoTracks
from stemseg.utils.errors import DataError
from stemseg.utils.files import open_file
from stemseg.utils.json_values import Entry, items, names_of, parse_json, read_json
from stemseg.utils.text import first_line, shorten_list, shown

_MAX_RESULTS = 1 << 30  # bytes of an unpacked results.json; those of YouTube-VIS have 50 MB
_GROUND_TRUTH = (
    "an official YouTube-VIS or OVIS file (videos, categories, annotations) or the standard JSON (meta, sequences)"
)
_RESULTS = "give the results.json or results.zip that inference wrote, or their folder"


def load_ground_truth(path: str | Path) -> GroundTruth:
    """Annotated videos of the standard JSON ("sequences") or of an official YouTube-VIS / OVIS JSON ("videos").

    Raises:
        DataError: naming what is missing, damaged or inconsistent; where the annotations are not public, how to submit.
    """
    path = Path(path)
    content = read_json(path, next_step=f"give {_GROUND_TRUTH}")
    if isinstance(content, dict) and "sequences" in content:
        return ground_truth_from_annotations(parse_video_annotations(content, path, check_masks=True))
    if not isinstance(content, dict) or not {"videos", "categories"} <= set(content) or "images" in content:
        found = names_of(content) if isinstance(content, dict) else shown(content)
        raise DataError(f"{path}: found {found}, expected {_GROUND_TRUTH}")
    if content.get("annotations") in (None, []):
        raise unannotated_error(path, "the file")
    return _official_ground_truth(path, Entry(content, path))


def load_results(path: str | Path, ground_truth: GroundTruth) -> list[VideoTracks]:
    """The tracks of ``results.json``, also inside a ``results.zip`` or a folder, for the videos of the ground truth.

    Raises:
        DataError: naming entry, video and frame: unknown video, value of a wrong kind, wrong number of frames, mask of
            another size or damaged.
    """
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    content = parse_json(_read_zip(path), path) if path.suffix == ".zip" else read_json(path, next_step=_RESULTS)
    videos = {video.id: video for video in ground_truth.videos}
    tracks: dict[str, list[Track]] = defaultdict(list)
    for index, value in enumerate(items(content, str(path))):
        entry = Entry(value, f"{path}, entry {index}")
        video = _video_of(entry, videos, ground_truth)
        tracks[video.id].append(_parse_track(entry, video, len(tracks[video.id]) + 1))
    return [
        VideoTracks(video.id, video.height, video.width, len(video), video.frame_names, tracks[video.id])
        for video in ground_truth.videos
    ]


def _video_of(entry: Entry, videos: Mapping[str, GroundTruthVideo], ground_truth: GroundTruth) -> GroundTruthVideo:
    video_id = entry.identity("video_id")
    if str(video_id) not in videos:
        raise DataError(
            f"{entry.where}: video_id {shown(video_id)} is unknown: {ground_truth.source} has {len(videos)} videos, "
            f"{shorten_list(videos)}. Were the results made for another split or dataset?"
        )
    return videos[str(video_id)]


def _parse_track(entry: Entry, video: GroundTruthVideo, track_id: int) -> Track:
    where = f"{entry.where} (video {video.id})"
    masks = read_masks(entry.items("segmentations"), video.height, video.width, len(video), where)
    return Track(track_id, entry.whole("category_id"), entry.number("score"), masks)


def _official_ground_truth(path: Path, file: Entry) -> GroundTruth:
    problems: list[str] = []
    entries = index_entries(file, "videos", "video", problems)
    groups = group_annotations(file, "video_id", entries, problems)
    refuse(problems)
    videos = []
    for name, value in entries.items():
        official = read_video(value, f"{path}, video {name}")
        tracks = [_official_track(a, official, f"{path}, video {name}, {annotation_name(a)}") for a in groups[name]]
        videos.append(GroundTruthVideo(name, official.height, official.width, official.file_names, tracks))
    return GroundTruth(path, read_labels(file), videos)


def _official_track(value: Any, video: OfficialVideo, where: str) -> GroundTruthTrack:
    track = read_track(value, video, where)
    return GroundTruthTrack(track.id, track.category_id, track.masks, is_crowd=track.is_crowd, area=track.area)


def _read_zip(path: Path) -> bytes:
    """The results.json in a zip file, unless it is larger than any results."""
    try:
        with open_file(path, next_step=_RESULTS) as file, zipfile.ZipFile(file) as archive:
            size = archive.getinfo("results.json").file_size
            if size > _MAX_RESULTS:
                raise DataError(
                    f"{path}: results.json has {size} bytes unpacked, expected at most {_MAX_RESULTS}; is it the right "
                    "file?"
                )
            return archive.read("results.json")
    except (OSError, KeyError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile, EOFError) as error:
        reason = first_line(error).strip("\"'")
        raise DataError(f"{path} is no zip file with a results.json in it ({reason}); give the results.json") from None
