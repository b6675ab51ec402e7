"""Official trees of stills -> standard JSON -> the same masks, found by the loaders; and broken trees."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from stemseg.config import load_config
from stemseg.data.prepare import mapillary as downsampling
from stemseg.data.prepare.main import main
from stemseg.data.sources import open_stills
from stemseg.datasets import DATASETS
from stemseg.structures.annotations import load_still_annotations
from stemseg.structures.rle import decode_rle, rle_from_coco
from stemseg.utils.errors import DataError
from tests.helpers import official_trees as trees


def run(*arguments):
    return main([*map(str, arguments), "--workers", "1"])


def opened(dataset, images, monkeypatch):
    """The file as the loaders open it, by image name; every image must be where the loaders look, at its size."""
    monkeypatch.setenv(DATASETS[dataset].variable, str(images))
    annotations, image_dir = open_stills(dataset, load_config())
    load_still_annotations(annotations.source, check_masks=True)
    for image in annotations.images:
        assert cv2.imread(str(image_dir / image.image_path)).shape[:2] == (image.height, image.width)
    return {Path(image.image_path).stem: image for image in annotations.images}


def masks(image):
    return [decode_rle(counts, image.height, image.width) > 0 for counts in image.segmentations]


def ignore_mask(image):
    return decode_rle(image.ignore, image.height, image.width) > 0


def fails_with(capsys, output, *expected, arguments):
    """The list of problems holds every one of the expected texts; nothing is written."""
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    for text in expected:
        assert text in error, error
    assert not list(output.glob("*.json")) and not list(output.glob("*.part"))


def test_coco_keeps_every_pixel_and_crowds_become_ignore_regions(tmp_path, output, monkeypatch, capsys):
    expected, crowd = trees.coco(tmp_path)
    assert run("coco", tmp_path) == 0
    images = opened("coco", tmp_path / "train2017", monkeypatch)
    assert list(images) == ["000000000001"]
    image = images["000000000001"]
    assert image.categories == [18, 1, 1]
    assert (np.stack(masks(image)) == expected).all()
    assert (ignore_mask(image) == (crowd & ~expected.any(axis=0))).all()
    report = capsys.readouterr().out
    assert "left out: 2 images without a single instance" in report and "person" in report


def test_coco_problems(tmp_path, output, capsys):
    trees.coco(tmp_path)

    def damage(content):
        first, second, third, fourth, fifth = content["annotations"]
        first["segmentation"][0] = [1, 2, 3, 4]
        second["segmentation"] = []
        third["segmentation"]["counts"][0] = -4
        fourth["category_id"] = 77
        fifth["image_id"] = 9

    trees.edit_json(tmp_path / "annotations/instances_train2017.json", damage)
    (tmp_path / "train2017/000000000003.jpg").write_bytes(b"not a picture")
    fails_with(
        capsys, output,
        "image 000000000001.jpg: annotation 1: polygon [1, 2, 3, 4] is not",
        "annotation 2: segmentation is an empty list",
        "annotation 3: RLE counts hold -4 at 0", "annotation 4 has category 77", "annotation 5 is of image 9",
        "000000000003.jpg (13 bytes) is not an image that can be decoded",
        arguments=["coco", tmp_path],
    )  # fmt: skip
    (tmp_path / "annotations/instances_train2017.json").write_text('{"images": [')
    fails_with(capsys, output, "is not valid JSON", "Download it again", arguments=["coco", tmp_path])


def test_pascal_voc_keeps_every_pixel_and_the_void_border(tmp_path, output, monkeypatch):
    truth = trees.pascal_voc(tmp_path)
    assert run("pascal_voc", tmp_path) == 0
    images = opened("pascal_voc", tmp_path / "JPEGImages", monkeypatch)
    assert list(images) == list(truth)
    for name, (objects, classes) in truth.items():
        assert images[name].categories == list(classes.values())
        for instance, mask in zip(classes, masks(images[name]), strict=True):
            assert (mask == (objects == instance)).all()
        assert (ignore_mask(images[name]) == (objects == 255)).all()


@pytest.mark.parametrize("given", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_pascal_voc_is_found_in_what_the_download_unpacks_to(tmp_path, output, capsys, given):
    trees.pascal_voc(tmp_path / "VOCdevkit/VOC2012")
    assert run("pascal_voc", tmp_path / given) == 0
    assert f"PASCAL_VOC_IMAGES_DIR={tmp_path / 'VOCdevkit/VOC2012/JPEGImages'}" in capsys.readouterr().out


def test_pascal_voc_problems(tmp_path, output, capsys):
    truth = trees.pascal_voc(tmp_path)
    (first, (objects, _)), (second, _) = truth.items()
    trees.write_palette_png(
        tmp_path / f"SegmentationClass/{first}.png", np.where(objects == 1, 0, 7 + np.arange(40) % 2)
    )
    (tmp_path / f"SegmentationObject/{second}.png").unlink()
    with (tmp_path / "ImageSets/Segmentation/trainval.txt").open("a") as file:
        file.write("2009_000001\n")
    fails_with(
        capsys, output,
        f"object 1 of {tmp_path}/SegmentationObject/{first}.png: the class PNG has no class there",
        "has several classes there (pixels: car", f"{second}.png does not exist", "2009_000001.jpg does not exist",
        arguments=["pascal_voc", tmp_path],
    )  # fmt: skip


def test_mapillary_writes_smaller_copies_with_matching_masks(tmp_path, output, monkeypatch, capsys):
    truth = trees.mapillary(tmp_path)
    assert run("mapillary", tmp_path, "--short-side", 30, "--images-output", tmp_path / "small") == 0
    images = opened("mapillary", tmp_path / "small", monkeypatch)
    assert {name: (i.height, i.width) for name, i in images.items()} == {"big": (30, 40), "small": (20, 26)}
    for name, image in images.items():
        ids = downsampling.resize_ids(truth[name], (image.height, image.width))
        assert image.categories == [1, 3, 3]  # a bird: label 0, countable; two persons: label 2
        for value, mask in zip([1, 513, 514], masks(image), strict=True):
            assert (mask == (ids == value)).all() and mask.any()
        assert (ignore_mask(image) == (ids == 3 * 256)).all()
    assert f"MAPILLARY_IMAGES_DIR={tmp_path / 'small'}" in capsys.readouterr().out


def test_mapillary_panoptic_gives_the_same_masks(tmp_path, output, monkeypatch):
    truth = trees.mapillary(tmp_path, form="panoptic")
    assert run("mapillary", tmp_path) == 0
    images = opened("mapillary", tmp_path / "downsampled", monkeypatch)
    for name, image in images.items():
        assert image.categories == [1, 3]
        for value, mask in zip([1, 513], masks(image), strict=True):
            assert (mask == (truth[name] == value)).all()
        assert (ignore_mask(image) == ((truth[name] == 3 * 256) | (truth[name] == 514))).all()  # unlabeled and crowd


def test_mapillary_takes_sizes_from_an_existing_file_and_keeps_copies(tmp_path, output, monkeypatch):
    trees.mapillary(tmp_path)
    assert run("mapillary", tmp_path, "--short-side", 15) == 0
    published = tmp_path / "published.json"
    (output / "mapillary.json").rename(published)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "downsampled").iterdir()}
    assert run("mapillary", tmp_path, "--sizes-from", published) == 0
    assert (output / "mapillary.json").read_bytes() == published.read_bytes()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "downsampled").iterdir()} == before


def test_mapillary_copies_never_replace_the_originals(tmp_path, output, capsys):
    trees.mapillary(tmp_path)
    original = tmp_path / "training/images/big.jpg"
    before = original.read_bytes()
    for given, expected in ((original.parent, "would replace the originals"), (original, "could not make the folder")):
        fails_with(capsys, output, expected, str(given), arguments=["mapillary", tmp_path, "--images_output", given])
    assert original.read_bytes() == before


def test_mapillary_problems(tmp_path, output, capsys):
    trees.mapillary(tmp_path)
    trees.write_16bit_png(tmp_path / "training/instances/big.png", trees.id_map(0, [1]))
    (tmp_path / "validation/instances/small.png").unlink()
    fails_with(
        capsys, output, "big.png is 24 x 40, but its image is 60 x 80", "small.png does not exist",
        arguments=["mapillary", tmp_path],
    )  # fmt: skip
    trees.mapillary(tmp_path, form="panoptic")
    trees.edit_json(
        tmp_path / "training/panoptic/panoptic_2018.json", lambda c: c["annotations"][0]["segments_info"].pop(0)
    )
    trees.edit_json(tmp_path / "validation/panoptic/panoptic_2018.json", lambda c: c["annotations"].clear())
    fails_with(
        capsys, output, "big.png: segment 70001 is not in the panoptic file",
        "small.jpg has no entry in the panoptic file",
        arguments=["mapillary", tmp_path, "--format", "panoptic"],
    )  # fmt: skip


def test_shrinking_takes_the_nearest_id_and_never_enlarges():
    ids = np.arange(12).reshape(3, 4)
    assert (downsampling.resize_ids(ids, (3, 4)) == ids).all()
    assert downsampling.resize_ids(ids, (1, 2)).tolist() == [[5, 7]]
    assert downsampling.shrunk_size(2448, 3264, short_side=1024) == (1024, 1365)
    assert downsampling.shrunk_size(500, 700, short_side=1024) == (500, 700)


def test_all_forms_of_a_coco_mask_agree():
    mask = trees.id_map(1, [1]) > 0
    mask[0, 0] = True  # the run lengths then start with an empty background
    forms = [trees.compressed(mask), trees.uncompressed(mask)]
    assert len({rle_from_coco(form, *mask.shape) for form in forms}) == 1
    assert rle_from_coco(trees.uncompressed(np.zeros((4, 5))), 4, 5) is None
    with pytest.raises(DataError, match="mask is 4 x 5, but its image is 5 x 4"):
        rle_from_coco(trees.uncompressed(np.zeros((4, 5))), 5, 4)
