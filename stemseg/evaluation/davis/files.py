"""Find the videos of a DAVIS evaluation on disk: palette PNGs of results, and of ground truth or its standard JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stemseg.evaluation.davis.measures import DavisProtocol, DavisVideo
from stemseg.evaluation.ground_truth import (
    GroundTruthVideo,
    check_sequences,
    ground_truth_from_annotations,
    read_sequence_names,
)
from stemseg.evaluation.masks import VOID, PaintedIdMaps, PngIdMaps
from stemseg.structures.annotations import load_video_annotations
from stemseg.utils.errors import DataError
from stemseg.utils.files import name_of_file
from stemseg.utils.text import shorten_list

_RESOLUTIONS = ("480p", "Full-Resolution", "")  # DAVIS' folders of a size; "": of copies without them


def open_davis(
    results: str | Path,
    ground_truth: str | Path,
    protocol: DavisProtocol,
    *,
    sequences: Iterable[str] | None = None,
    all_objects: bool = False,
) -> list[DavisVideo]:
    """Pair the results of each sequence with its ground truth; images are read later.

    Args:
        results: folder of ``<sequence>/<frame>.png``, or the folder above with these in ``results/``.
        ground_truth: standard JSON, folder of ``<sequence>/<frame>.png``, or the root of DAVIS.
        sequences: their names; None: all of the ground truth, of DAVIS' root the validation set.
        all_objects: count objects that enter after the first frame too, which the official code leaves out.

    Raises:
        DataError: naming what is missing: folder, sequence, frame.
    """
    folder, ground_truth = results_folder(results), Path(ground_truth)
    found = {name_of_file(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    if ground_truth.is_file():
        annotated = ground_truth_from_annotations(load_video_annotations(ground_truth, check_masks=True)).videos
        videos = {video.id: video for video in annotated}
        names = check_sequences(videos, found, sequences, folder)
        return [_painted(videos[name], found[name], all_objects) for name in names]
    root, default = _png_root(ground_truth, protocol)
    names = check_sequences(_sequences_in(root), found, default if sequences is None else sequences, folder)
    return [_from_pngs(root / name, found[name], all_objects) for name in names]


def results_folder(path: str | Path) -> Path:
    """The folder of the results of all sequences: ``path``, or ``path/results`` where that exists.

    Raises:
        DataError: where it is no folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected the results that inference wrote, one entry per sequence")
    return path / "results" if (path / "results").is_dir() else path


def _png_root(path: Path, protocol: DavisProtocol) -> tuple[Path, list[str] | None]:
    """The folder of the ground truth's sequences, and the names of DAVIS' validation set where ``path`` is its root."""
    if not path.is_dir():
        raise DataError(f"{path} does not exist; expected DAVIS' root, its folder of annotations, or a standard JSON")
    for name in _annotation_names(protocol):
        for folder in (path / name / resolution for resolution in _RESOLUTIONS):
            if folder.is_dir() and _sequences_in(folder):
                listing = path / "ImageSets" / "2017" / "val.txt"
                return folder, list(read_sequence_names([str(listing)])) if listing.is_file() else None
    for folder in (path / resolution for resolution in _RESOLUTIONS):
        if folder.is_dir() and path.name != "JPEGImages" and _sequences_in(folder):
            return folder, None
    inside = shorten_list(sorted(entry.name for entry in path.iterdir())) or "nothing"
    raise DataError(
        f"{path} holds no ground truth: no folder {' or '.join(_annotation_names(protocol))} with "
        f"480p/<sequence>/00000.png, and no <sequence>/00000.png itself; found {inside}. Give DAVIS' root with its "
        "annotations unpacked, the folder of the sequences' PNGs, or a standard JSON"
    )


def _sequences_in(folder: Path) -> list[str]:
    """Names of the folders in a folder that hold PNGs themselves."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.png")))


def _annotation_names(protocol: DavisProtocol) -> tuple[str, ...]:
    """Folders of ground truth in DAVIS' root, the best first."""
    return ("Annotations_unsupervised", "Annotations") if protocol.match_proposals else ("Annotations",)


def _from_pngs(truth: Path, prediction: Path, all_objects: bool) -> DavisVideo:
    frames = sorted(path.stem for path in truth.glob("*.png"))
    if not frames:
        raise DataError(f"{truth} holds no PNG; expected the ground truth of each frame, such as 00000.png")
    maps = PngIdMaps(truth, frames)
    _check_frames(prediction, frames)
    ids = None
    if all_objects:
        ids = sorted({int(i) for t in range(len(maps)) for i in np.unique(maps.read(t))} - {0, VOID})
    images = [f"{truth.name}/{frame}.jpg" for frame in frames]
    return DavisVideo(truth.name, maps, PngIdMaps(prediction, frames), object_ids=ids, image_paths=images)


def _painted(video: GroundTruthVideo, prediction: Path, all_objects: bool) -> DavisVideo:
    _check_frames(prediction, video.frame_names)
    tracks = {track.instance_id: track.segmentations for track in video.tracks}
    first = max((i for i, segmentations in tracks.items() if segmentations[0]), default=0)
    ids = sorted(i for i in tracks if all_objects or i <= first)
    maps = PaintedIdMaps(video.height, video.width, len(video), tracks)
    found = PngIdMaps(prediction, video.frame_names)
    return DavisVideo(video.id, maps, found, object_ids=ids, void_id=None, image_paths=video.image_paths)


def _check_frames(prediction: Path, frames: Sequence[str]) -> None:
    """Refuse PNGs of frames that the sequence does not have; missing ones are named when they are read."""
    strange = sorted({path.stem for path in prediction.glob("*.png")} - set(frames))
    if strange:
        raise DataError(
            f"{prediction} holds {strange[0]}.png, but the sequence's {len(frames)} frames are {frames[0]} to "
            f"{frames[-1]}; were the results made for another sequence, or for all its frames?"
        )
