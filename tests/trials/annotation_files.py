"""Sound annotation and result files: the standard JSON, official files, results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts import visualize_clips
from stemseg.data.prepare import main as prepare
from stemseg.evaluation import main as evaluate
from stemseg.structures.rle import rle_run_lengths
from tests.helpers import official_trees as trees
from tests.helpers import tiny_datasets
from tests.helpers.evaluation_samples import HEIGHT, WIDTH, box, rle, write_json
from tests.trials.bench import Bench, a_number, a_text, an_area, an_inner_path, anything, near_the_image, one_of
from tests.trials.mutations import DELETE, TWICE


def standard_videos(folder: Path) -> Bench:
    """The standard JSON of videos as ground truth of an evaluation."""
    sequence = {
        "id": "bear",
        "height": HEIGHT,
        "width": WIDTH,
        "image_paths": ["bear/0.jpg", "bear/1.jpg"],
        "categories": {"1": 1, "2": 2},
        "segmentations": [{"1": box(2, 2, 9, 9), "2": box(20, 2, 9, 9)}, {"1": box(3, 2, 9, 9)}],
    }
    document = {"meta": {"category_labels": {"1": "cat", "2": "dog"}}, "sequences": [sequence]}
    results = [{"video_id": "bear", "category_id": 1, "score": 0.5, "segmentations": [rle(box(2, 2, 9, 9)), None]}]
    write_json(folder / "results.json", results)
    path = write_json(folder / "truth.json", document)
    return Bench(
        "standard JSON of videos",
        path,
        evaluate.main,
        ["--dataset", "custom", "--results", folder / "results.json", "--gt", path, "--workers", "1"],
        document,
        {
            "meta/category_labels/*": a_text,
            "sequences/*/image_paths/*": an_inner_path,
            "sequences/*/segmentations/*": one_of(None, {}),
            "sequences/*/segmentations/*/*": one_of(None, DELETE),
            "sequences/*/*": one_of(TWICE),
            "sequences": one_of(TWICE),
            "meta": one_of(TWICE),
            "meta/category_labels": one_of(TWICE),
        },
        num_cases=120,
    )


def standard_stills(folder: Path) -> Bench:
    """The standard JSON of stills, trained on."""
    tiny_datasets.make_stills(folder, count=2)
    path = folder / "stills.json"
    document = json.loads(path.read_text())
    settings = [
        "DATA.MIX={custom: 1.0}",
        "TRAINING.MODE=custom",
        "INPUT.NUM_CLASSES=4",
        "INPUT.NUM_FRAMES=2",
        "INPUT.MIN_DIM=20",
        "INPUT.MAX_DIM=32",
        "MODEL.USE_SEMSEG_HEAD=true",
        f"DATA.CUSTOM.TRAIN_JSON={path}",
        f"DATA.CUSTOM.TRAIN_IMAGES={folder}",
    ]
    return Bench(
        "standard JSON of stills",
        path,
        visualize_clips.main,
        ["--cfg", "defaults", "--set", *settings, "--output", folder / "clips", "--num_clips", "2"],
        document,
        {
            "meta/category_labels/*": a_text,
            "meta/category_labels": one_of(TWICE),
            "images": one_of(TWICE),
            "meta": one_of(TWICE),
            "images/*/*": one_of(TWICE),
            "images/*": one_of(DELETE, TWICE),
            "images/*/ignore": one_of(None, DELETE, TWICE),
        },
        named=["0.png", "1.png", "TRAIN_JSON"],
        num_cases=40,
    )


def _official() -> dict[str, Any]:
    masks = {
        "compressed": rle(box(4, 6, 9, 5)),
        "runs": {"size": [HEIGHT, WIDTH], "counts": rle_run_lengths(box(4, 6, 9, 5))},
    }
    videos = [{"id": 7, "height": HEIGHT, "width": WIDTH, "length": 2, "file_names": ["a/0.jpg", "a/5.jpg"]}]
    annotations = [
        {
            "id": 31,
            "video_id": 7,
            "category_id": 3,
            "segmentations": [masks["compressed"], None],
            "areas": [45, None],
            "iscrowd": 0,
        },
        {"id": 32, "video_id": 7, "category_id": 3, "segmentations": [masks["runs"], [[20.5, 2, 30, 2, 30, 10]]]},
    ]
    return {"videos": videos, "categories": [{"id": 3, "name": "cat"}], "annotations": annotations}


def official_truth(folder: Path) -> Bench:
    """An official YouTube-VIS file as ground truth of an evaluation."""
    results = [{"video_id": 7, "category_id": 3, "score": 0.5, "segmentations": [rle(box(2, 2, 9, 9)), None]}]
    write_json(folder / "results.json", results)
    path = write_json(folder / "official.json", _official())
    return Bench(
        "official YouTube-VIS file",
        path,
        evaluate.main,
        ["--dataset", "ytvis", "--results", folder / "results.json", "--gt", path, "--workers", "1"],
        _official(),
        {
            "categories/*/name": a_text,
            "videos/*/file_names/*": an_inner_path,
            "videos/*/length": anything,
            "annotations/*": one_of(DELETE),
            "annotations/*/id": lambda v: v in (0, 10**3),
            "annotations/*/video_id": one_of("7"),
            "videos/*/id": one_of("7"),
            "annotations/*/segmentations/*": one_of(None, []),
            "annotations/*/iscrowd": one_of(None, True, 0, DELETE, TWICE),
            "annotations/*/areas": one_of(None, [], [None], DELETE, TWICE),
            "annotations/*/areas/*": an_area,
            "*": one_of(TWICE),
            "*/*/*": one_of(TWICE),
            "annotations/*/segmentations/*/*": one_of(TWICE),
            "annotations/*/segmentations/*/*/*": near_the_image,
        },
        num_cases=120,
    )


def results(folder: Path) -> Bench:
    """The results.json that an evaluation reads."""
    truth = write_json(folder / "official.json", _official())
    polygon = [[4.0, 6.0, 13.0, 6.0, 13.0, 11.0, 4.0, 11.0]]
    document = [
        {"video_id": 7, "category_id": 3, "score": 0.5, "segmentations": [rle(box(4, 6, 9, 5)), None]},
        {
            "video_id": "7",
            "category_id": 3.0,
            "score": 1,
            "segmentations": [polygon, {"size": [HEIGHT, WIDTH], "counts": [900, 60]}],
        },
    ]
    path = write_json(folder / "results.json", document)
    return Bench(
        "results.json",
        path,
        evaluate.main,
        ["--dataset", "ytvis", "--results", path, "--gt", truth, "--workers", "1"],
        document,
        {
            "": one_of([], DELETE, TWICE),
            "*": one_of(DELETE, TWICE),
            "*/score": a_number,
            "*/video_id": one_of("7"),
            "*/segmentations/*": one_of(None, []),
            "*/*": one_of(TWICE),
            "*/segmentations/*/*": one_of(TWICE),
            "*/segmentations/*/*/*": near_the_image,
        },
        num_cases=120,
    )


def coco(folder: Path) -> Bench:
    """COCO's official file, prepared."""
    trees.coco(folder)
    path = folder / "annotations/instances_train2017.json"
    document = json.loads(path.read_text())
    document["categories"] = document["categories"][:2]
    path.write_text(json.dumps(document))
    return Bench(
        "official COCO file",
        path,
        prepare.main,
        ["coco", folder, "-o", folder / "json", "--workers", "1"],
        document,
        {
            "*": one_of(TWICE),
            "*/*": one_of(TWICE),
            "*/*/*": one_of(TWICE),
            "*/*/segmentation/*": one_of(TWICE),
            "categories/*/name": a_text,
            "annotations/*/id": anything,
            "annotations/*/iscrowd": one_of(None, True, 0, DELETE),
            "annotations/*": one_of(DELETE),
            "annotations": one_of([]),
            "annotations/*/segmentation/*/*": near_the_image,
        },
        named=["coco.json"],
        num_cases=50,
    )


def mapillary_labels(folder: Path) -> Bench:
    """The file that names Mapillary's labels, prepared; ids are its entries' places."""
    trees.mapillary(folder)
    path = folder / "config.json"
    return Bench(
        "Mapillary's labels",
        path,
        prepare.main,
        ["mapillary", folder, "-o", folder / "json", "--workers", "1"],
        json.loads(path.read_text()),
        {
            "*": one_of(TWICE),
            "*/*": one_of(DELETE, TWICE),
            "*/*/*": one_of(TWICE),
            "*/*/readable": a_text,
            "*/*/name": a_text,
            "*/*/instances": one_of(True, 0),
        },
        named=["mapillary.json"],
        num_cases=40,
    )


def mapillary_segments(folder: Path) -> Bench:
    """Mapillary's panoptic file of the training images, prepared."""
    trees.mapillary(folder, form="panoptic")
    path = folder / "training/panoptic/panoptic_2018.json"
    return Bench(
        "Mapillary's panoptic file",
        path,
        prepare.main,
        ["mapillary", folder, "-o", folder / "json", "--workers", "1", "--format", "panoptic"],
        json.loads(path.read_text()),
        {
            "*": one_of(TWICE),
            "*/*/*": one_of(TWICE),
            "*/*/*/*/*": one_of(TWICE),
            "*/*/image_id": anything,
            "categories/*/name": a_text,
            "categories/*/isthing": one_of(True, 0),
            "annotations/*/segments_info/*/iscrowd": one_of(None, True, 0, DELETE),
        },
        named=["mapillary.json", "big.png", "big.jpg"],
        num_cases=50,
    )
