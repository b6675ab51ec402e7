"""From the track store of a video to its result: ranked tracks with masks, categories, scores (METHOD section 8.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stemseg.inference.masks import MaskResizer
from stemseg.inference.track_store import TrackRecord, TrackStore
from stemseg.structures.tracks import Track, VideoTracks


def collect_tracks(
    store: TrackStore,
    *,
    sequence_id: str | int,
    frame_names: Sequence[str],
    video_size: tuple[int, int],
    network_size: tuple[int, int],
    label_stride: int,
    max_tracks: int,
) -> VideoTracks:
    """The result of a video at its original size. Tracks without a single mask pixel at that size are left out.

    Args:
        store: label maps of all frames.
        sequence_id: the video's id, kept as it is.
        frame_names: name of each frame.
        video_size, network_size: (height, width) of the video and of the network's input without padding.
        label_stride: pixels of the network's input per pixel of a label map.
        max_tracks: tracks kept, longest-lived first.
    """
    kept = rank_tracks(store.records, max_tracks)
    segmentations: dict[int, list[str | None]] = {track_id: [None] * len(store) for track_id in kept}
    if kept:
        resizer = MaskResizer(
            label_size=store.size, label_stride=label_stride, network_size=network_size, video_size=video_size
        )
        for frame in range(len(store)):
            for track_id, counts in resizer.encode(store.labels(frame), kept).items():
                segmentations[track_id][frame] = counts
    return VideoTracks(
        sequence_id=sequence_id,
        height=video_size[0],
        width=video_size[1],
        num_frames=len(store),
        frame_names=list(frame_names),
        tracks=_build_tracks(store.records, segmentations),
    )


def rank_tracks(records: Mapping[int, TrackRecord], max_tracks: int) -> list[int]:
    """Ids of the longest-lived tracks, longest first; among equals the one that was found first."""
    return sorted(records, key=lambda track_id: (-records[track_id].lifetime, track_id))[:max_tracks]


def _build_tracks(records: Mapping[int, TrackRecord], segmentations: Mapping[int, list[str | None]]) -> list[Track]:
    """Tracks in the order of ``segmentations``, numbered from 1; scores are relative to the track with most pixels."""
    largest = max((records[track_id].num_pixels for track_id in segmentations), default=1)
    visible = {track_id: masks for track_id, masks in segmentations.items() if any(masks)}
    return [
        Track(number, records[track_id].category, records[track_id].num_pixels / largest, masks)
        for number, (track_id, masks) in enumerate(visible.items(), start=1)
    ]
