"""The track store gives back what it took in, and knows each track; masks at the size of the video."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stemseg.inference.tracks import MaskResizer, TrackStore, collect_tracks
from stemseg.structures.rle import decode_rle
from tests.helpers.label_maps import chained_clip


def _store() -> TrackStore:
    store = TrackStore(label_stride=4)
    first = torch.tensor([[[1, 1, 0]], [[0, -1, 2]]], dtype=torch.int32)
    store.add(chained_clip(range(0, 2), first, [1, 2]), torch.tensor([[9.0, 1, 2], [0, 5, 1]]))
    second = torch.tensor([[[0, 2, 2]]], dtype=torch.int32)  # the second instance continues track 1
    store.add(chained_clip(range(2, 3), second, [40000, 1]), torch.tensor([[0.0, 0, 0], [0, 4, 0]]))
    return store


def test_label_maps_come_back_in_track_ids() -> None:
    store = _store()
    assert len(store) == 3
    assert [store.labels(t).tolist() for t in range(3)] == [[[1, 1, 0]], [[0, -1, 2]], [[0, 1, 1]]]


def test_ids_beyond_sixteen_bits_survive() -> None:
    store = TrackStore(label_stride=4)
    store.add(chained_clip([0], torch.tensor([[[1, 0, -1]]], dtype=torch.int32), [70000]))
    assert store.labels(0).tolist() == [[70000, 0, -1]]


def test_records_add_up_over_clips() -> None:
    records = _store().records
    assert set(records) == {1, 2}  # an instance without a pixel in the new frames leaves no record
    assert (records[1].first_frame, records[1].last_frame, records[1].num_pixels) == (0, 2, 4)
    assert records[1].lifetime == 2
    np.testing.assert_array_equal(records[1].class_logits, [9, 5, 2])
    assert records[1].category == 1  # the background's logit does not count
    assert (records[2].first_frame, records[2].last_frame, records[2].category) == (1, 1, 1)


def test_scores_are_relative_to_the_largest_of_the_kept_tracks() -> None:
    """The longest-lived tracks are kept; the largest of all lives for one frame, and is not among them."""
    labels = torch.tensor([[[1, 3, 2, 2]], [[1, 0, 2, 2]], [[1, 1, 0, 0]]], dtype=torch.int32)
    labels[0, 0, 1] = 3
    store = TrackStore(label_stride=4)
    store.add(chained_clip(range(3), torch.cat([labels, torch.zeros(3, 3, 4, dtype=torch.int32)], dim=1), [1, 2, 3]))
    store.records[3].num_pixels = 50
    sizes = {"video_size": (16, 16), "network_size": (16, 16)}
    names = [str(t) for t in range(3)]

    def scores(max_tracks: int) -> list[float]:
        video = collect_tracks(store, sequence_id="a", frame_names=names, max_tracks=max_tracks, **sizes)
        return [track.score for track in video.tracks]

    assert scores(3) == [4 / 50, 4 / 50, 1.0]
    assert scores(2) == [1.0, 1.0]


def test_memory_is_the_compressed_maps() -> None:
    store = TrackStore(label_stride=4)
    labels = torch.zeros(50, 120, 160, dtype=torch.int32)
    labels[:, 20:60, 30:90] = 1
    store.add(chained_clip(range(50), labels, [3]))
    assert store.num_bytes < 50 * 120 * 160 / 10  # a tenth of a byte per pixel


@pytest.mark.parametrize(
    ("stride", "label_size", "network_size", "video_size"),
    [(4, (24, 32), (83, 124), (80, 120)), (4, (8, 16), (32, 60), (200, 375)), (1, (32, 64), (30, 51), (100, 170))],
)
def test_masks_equal_those_of_whole_image_interpolation(
    stride: int, label_size: tuple[int, int], network_size: tuple[int, int], video_size: tuple[int, int]
) -> None:
    coarse = np.random.default_rng(0).integers(-1, 4, (label_size[0] // 4, label_size[1] // 4))
    labels = coarse.repeat(4, axis=0).repeat(4, axis=1)
    resizer = MaskResizer(label_size=label_size, label_stride=stride, network_size=network_size, video_size=video_size)
    for label in (1, 2, 3):
        full = torch.from_numpy(labels == label)[None, None].float()
        full = F.interpolate(full, scale_factor=stride, mode="bilinear", align_corners=False)
        full = full[..., : network_size[0], : network_size[1]]
        full = F.interpolate(full, size=video_size, mode="bilinear", align_corners=False)
        differing = resizer.resize(labels)[label] != (full[0, 0] > 0.5).numpy()
        assert differing.mean() < 1e-3  # exact ties at one half may round either way


def test_masks_of_a_partition_never_overlap() -> None:
    labels = np.random.default_rng(1).integers(1, 5, (24, 32))
    resizer = MaskResizer(label_size=(24, 32), label_stride=4, network_size=(96, 128), video_size=(96, 128))
    assert sum(resizer.resize(labels).values()).max() == 1


def test_only_visible_labels_are_encoded() -> None:
    labels = np.zeros((8, 8), dtype=np.int16)
    labels[2:6, 2:6] = 3
    labels[7, 7] = 4  # in the padding
    resizer = MaskResizer(label_size=(8, 8), label_stride=4, network_size=(24, 24), video_size=(24, 24))
    counts = resizer.encode(labels, [3, 4, 5])
    assert list(counts) == [3]
    assert decode_rle(counts[3], 24, 24).sum() == pytest.approx(16 * 16, rel=0.1)
