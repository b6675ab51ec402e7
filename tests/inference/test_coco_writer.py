"""Results for annotation tools: COCO instances whose polygons are the masks."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from stemseg.inference.writers.coco import CocoWriter, mask_polygons
from stemseg.structures.rle import decode_rle as decode
from stemseg.structures.rle import encode_rle, rle_from_coco
from stemseg.structures.tracks import Track, VideoTracks

SIZE = (60, 80)


def blob(seed: int) -> np.ndarray:
    """Several parts with holes, thin lines and single pixels."""
    rng = np.random.default_rng(seed)
    mask = (cv2.resize(rng.random((8, 10)), SIZE[::-1], interpolation=cv2.INTER_CUBIC) > 0.55).astype(np.uint8)
    mask[10, 5:60] = 1
    mask[50, 70] = 1
    mask[20:40, 20:40] = 1
    mask[25:30, 25:35] = 0
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("seed", range(5))
def test_polygons_cover_the_mask(seed: int) -> None:
    mask = blob(seed)
    drawn = decode(rle_from_coco(mask_polygons(mask), *SIZE), *SIZE)
    assert iou(drawn, mask) > 0.97


def test_the_polygon_of_a_rectangle_runs_along_its_edges() -> None:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[4:8, 10:15] = 1
    (polygon,) = mask_polygons(mask)
    assert {(polygon[i], polygon[i + 1]) for i in range(0, 8, 2)} == {(10, 4), (10, 8), (15, 8), (15, 4)}
    assert len(polygon) == 8


def test_the_official_reader_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    masks = [blob(seed) for seed in range(3)]
    track = Track(4, 2, 0.75, [encode_rle(masks[0]), None, encode_rle(masks[2])])
    video = VideoTracks("my clip", *SIZE, 3, ["a", "b", "c"], [track])
    CocoWriter(tmp_path, {1: "cat", 2: "dog"}, lambda _, name: f"{name}.jpg").write_sequence(video)
    coco = COCO(str(tmp_path / "coco" / "my clip.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    assert [len(coco.getAnnIds(imgIds=[i])) for i in (1, 2, 3)] == [1, 0, 1]
    annotation = coco.loadAnns(coco.getAnnIds(imgIds=[3]))[0]
    assert (annotation["category_id"], annotation["score"], annotation["attributes"]) == (2, 0.75, {"track_id": 4})
    assert iou(coco.annToMask(annotation), masks[2]) > 0.97
    assert annotation["area"] == masks[2].sum()
    x, y, width, height = annotation["bbox"]
    outside = masks[2].copy()
    outside[y : y + height, x : x + width] = 0
    assert not outside.any()


def test_a_class_agnostic_model_finds_objects(tmp_path: Path) -> None:
    CocoWriter(tmp_path, {}, lambda _, name: name).write_sequence(VideoTracks("x", *SIZE, 1, ["a"], []))
    content = json.loads((tmp_path / "coco" / "x.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "object", "supercategory": ""}]
    assert len(content["images"]) == 1 and content["annotations"] == []
