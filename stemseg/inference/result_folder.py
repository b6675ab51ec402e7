"""The output folder of a run: finished sequences, so that an interrupted run goes on, how they were made, and results.

Results are files in the format of one official evaluator, made from the finished sequences by a :class:`ResultWriter`.
"""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from stemseg.structures.rle import check_rle_size
from stemseg.structures.tracks import Track, TrackStatistics, VideoTracks
from stemseg.utils.errors import ConfigError, DataError, hinted, located
from stemseg.utils.files import file_name, make_folder, write_text
from stemseg.utils.json_values import Entry, mapping, name_in_folder, read_json
from stemseg.utils.text import shorten_list, shown

_SHOWN_DIFFERENCES = 5
_MADE_FROM_SETTINGS = ("sequences", "results", "overlays")


class ResultWriter:
    """Writes results in the format of one official evaluator.

    Formats with files per sequence override :meth:`write_sequence`, which any process calls for its own sequences;
    formats with one file per dataset override :meth:`assemble`, which one process calls in the end.
    """

    def write_sequence(self, tracks: VideoTracks) -> None:
        """Write what belongs to one sequence alone."""

    def assemble(self, videos: Iterable[VideoTracks]) -> None:
        """Write what holds all sequences, given one by one."""


class Record(NamedTuple):
    """A finished sequence.

    Attributes:
        tracks: found in it.
        fingerprint: of the video's files as they were; empty where nobody knows.
        left_out: how much of it was left out, by reason.
        lost: how much of it could not be read, by reason; the tracks can't be trusted then.
    """

    tracks: VideoTracks
    fingerprint: str = ""
    left_out: Mapping[str, int] = MappingProxyType({})
    lost: Mapping[str, int] = MappingProxyType({})


class ResultFolder:
    """Keeps the tracks of each finished sequence in a file of its own, ``sequences/<id>.json``.

    ``settings.json`` holds everything that the tracks depend on; a run with other settings is refused.

    Args:
        path: of the folder; made where it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._settings_file = path / "settings.json"
        self._sequences = path / "sequences"

    def open(self, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Make the folder ready for a run with these settings (nested mappings of plain values).

        Args:
            overwrite: throw away what an earlier run left here.

        Raises:
            ConfigError: where the folder holds sequences that were made with other settings; names the differences.
            OutputError: where the folder can't be written to.
        """
        make_folder(self.path)
        settings = json.loads(json.dumps(settings))
        known = self._read_settings()
        differences = [] if known is None else _differences(known, settings)
        if differences and not overwrite and any(self._sequences.glob("*.json")):
            raise ConfigError(
                f"{self.path} holds results that were made with other settings: {_some(differences)}. Give another "
                "--output_dir, or --overwrite to replace them"
            )
        if known is not None and (overwrite or differences):
            for name in _MADE_FROM_SETTINGS:
                shutil.rmtree(self.path / name, ignore_errors=True)
        make_folder(self._sequences)
        write_text(self._settings_file, json.dumps(settings, indent=1))

    def has(self, sequence_id: str | int) -> bool:
        """Whether a sequence is finished."""
        return self._file(sequence_id).is_file()

    def save(
        self,
        tracks: VideoTracks,
        *,
        fingerprint: str = "",
        left_out: Mapping[str, int] | None = None,
        lost: Mapping[str, int] | None = None,
    ) -> None:
        """Mark a sequence as finished; see :class:`Record`. The file is there in full, or not at all."""
        notes = {"fingerprint": fingerprint, "left_out": dict(left_out or {}), "lost": dict(lost or {})}
        write_text(self._file(tracks.sequence_id), json.dumps(asdict(tracks) | {"input": notes}))

    def load(self, sequence_id: str | int) -> VideoTracks:
        """The tracks of a finished sequence; see :meth:`record`."""
        return self.record(sequence_id).tracks

    def record(self, sequence_id: str | int) -> Record:
        """A finished sequence.

        Raises:
            DataError: where its file is damaged.
        """
        path = self._file(sequence_id)
        with hinted("delete it to segment it anew"):
            file = Entry(read_json(path), path)
            tracks = _read_tracks(file)
            if str(tracks.sequence_id) != str(sequence_id):
                raise DataError(f"{path} holds sequence {shown(tracks.sequence_id)}, expected {shown(sequence_id)}")
            return _read_notes(tracks, Entry(file.get("input") if "input" in file else {}, f"{path}: 'input'"))

    def discard_changed(self, fingerprints: Mapping[str | int, str]) -> list[str | int]:
        """Throw away the results of sequences whose files changed since; returns their ids.

        Args:
            fingerprints: of all sequences, as their files are now, by id.
        """
        finished = [sequence_id for sequence_id in fingerprints if self.has(sequence_id)]
        changed = [i for i in finished if self.record(i).fingerprint != fingerprints[i]]
        for sequence_id in changed:
            name = file_name(sequence_id)
            for folder in ("results", "overlays"):
                shutil.rmtree(self.path / folder / name, ignore_errors=True)
                for file in (self.path / folder).glob(f"{glob.escape(name)}.*"):
                    file.unlink()
            self._file(sequence_id).unlink()
        return changed

    def _file(self, sequence_id: str | int) -> Path:
        return self._sequences / f"{file_name(sequence_id)}.json"

    def _read_settings(self) -> dict[str, Any] | None:
        if not self._settings_file.exists():
            return None
        with hinted("give another --output_dir"):
            return dict(mapping(read_json(self._settings_file), str(self._settings_file)))


def _read_notes(tracks: VideoTracks, notes: Entry) -> Record:
    counts = {key: Entry(notes.get(key) if key in notes else {}, notes.place(key)) for key in ("left_out", "lost")}
    fingerprint = notes.text("fingerprint") if notes.values.get("fingerprint") else ""
    return Record(tracks, fingerprint, *({name: c.whole(name) for name in c.values} for c in counts.values()))


def _read_tracks(file: Entry) -> VideoTracks:
    """The record of a sequence, which may have come from anywhere: frame names, say, become names of files."""
    height, width = file.size()
    num_frames = file.whole("num_frames", 1)
    names = [name_in_folder(name, f"{file.where}: frame name {t}") for t, name in enumerate(file.items("frame_names"))]
    tracks = [_read_track(entry, height, width, num_frames) for entry in file.entries("tracks", "track")]
    if len(names) != num_frames:
        raise DataError(f"{file.where}: found {len(names)} frame names for {num_frames} frames, expected one each")
    return VideoTracks(file.identity("sequence_id"), height, width, num_frames, names, tracks)


def _read_track(entry: Entry, height: int, width: int, num_frames: int) -> Track:
    masks = entry.items("segmentations")
    if len(masks) != num_frames or not all(mask is None or isinstance(mask, str) for mask in masks):
        raise DataError(
            f"{entry.where}: 'segmentations' are no list of a text, or null, for each of {num_frames} frames"
        )
    for t, mask in enumerate(masks):
        if mask is not None:
            with located(f"{entry.where}, frame {t}"):
                check_rle_size(mask, height, width)
    return Track(
        entry.whole("track_id", 1),
        entry.whole("category_id"),
        entry.number("score"),
        masks,
        _read_statistics(Entry(entry.get("statistics"), entry.place("statistics"))) if "statistics" in entry else None,
    )


def _read_statistics(entry: Entry) -> TrackStatistics:
    names = [field.name for field in fields(TrackStatistics)]
    values: dict[str, Any] = {name: entry.number(name) for name in names if name in entry}
    needed = [field.name for field in fields(TrackStatistics) if field.default is MISSING]
    for name in needed:
        entry.get(name)
    return TrackStatistics(**{**values, "pixels": entry.whole("pixels")})


def without_faint(tracks: VideoTracks, min_score: float) -> VideoTracks:
    """A video's tracks without those of a lower score; the others keep their numbers."""
    return replace(tracks, tracks=[track for track in tracks.tracks if track.score >= min_score])


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Texts that name each value that differs."""
    flat_old, flat_new = flatten(old), flatten(new)
    keys = [key for key in {**flat_old, **flat_new} if flat_old.get(key) != flat_new.get(key)]
    return [f"{key} was {flat_old.get(key)}, is {flat_new.get(key)}" for key in keys]


def _some(differences: Sequence[str]) -> str:
    return shorten_list(differences, _SHOWN_DIFFERENCES, separator="; ")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by their path, "INPUT.MIN_DIM"."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
