import json
from pathlib import Path

import pytest

from stemseg.config import load_config
from stemseg.data.categories import (
    CategorySpace,
    all_synonyms,
    build_category_space,
    load_category_space,
    match_classes,
)
from stemseg.utils.errors import ConfigError, DataError
from tests.helpers.paths import GOLDEN_DIR

MAPS = json.loads((GOLDEN_DIR / "category_maps.json").read_text())
FILE = Path("annotations.json")
# the labels of the official files, by id
COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant",
    23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack", 34: "frisbee", 35: "skis", 36: "snowboard",
    37: "sports ball", 38: "kite", 39: "baseball bat", 41: "skateboard", 42: "surfboard", 43: "tennis racket",
    44: "bottle", 74: "mouse",
}  # fmt: skip
VOC = dict(enumerate(
    ["aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
     "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"], start=1))  # fmt: skip
SOURCES = {"coco": COCO, "pascal_voc": VOC}


@pytest.mark.parametrize("dataset", SOURCES)
def test_class_agnostic_training_keeps_the_published_categories(dataset):
    rule = load_category_space("davis").rule(dataset, SOURCES[dataset], FILE)
    assert dict(rule.targets) == dict.fromkeys(MAPS[dataset]["kept_for_class_agnostic"], 1)
    assert rule.default is None


@pytest.mark.parametrize("dataset", SOURCES)
def test_youtube_vis_categories_are_the_published_ones(dataset):
    rule = load_category_space("youtube_vis").rule(dataset, SOURCES[dataset], FILE)
    assert {str(k): v for k, v in rule.targets.items()} == MAPS[dataset]["to_youtube_vis_2019"]


def test_limits_are_the_published_ones():
    space = load_category_space("youtube_vis")
    assert space.rule("pascal_voc", VOC, FILE).min_instance_area == MAPS["pascal_voc"]["min_instance_area"]
    assert space.rule("coco", COCO, FILE).max_instances is None


def test_mapillary_and_kitti_mots_ids():
    kept = {int(label.split()[0]): (label.split()[1], i) for label, i in MAPS["mapillary"]["to_kitti_mots"].items()}
    ignored = {int(i): name for i, name in MAPS["mapillary"]["ignored"].items()}
    labels = {**{i: name for i, (name, _) in kept.items()}, **ignored, 1: "Bird"}
    space = load_category_space("kitti_mots")
    rule = space.rule("mapillary", labels, FILE)
    assert rule.targets == {i: target for i, (_, target) in kept.items()} and rule.ignored == set(ignored)
    assert (rule.min_instance_area, rule.max_instances) == (30, 30)
    rule = space.rule("kitti_mots", {1: "car", 2: "pedestrian", 3: "ignore"}, FILE)
    assert rule.targets == {1: 1, 2: 2} and rule.ignored == {3}


@pytest.mark.parametrize("mode", ["youtube_vis", "youtube_vis_2021", "ovis"])
def test_a_dataset_in_its_own_mode_keeps_its_ids(mode):
    space = load_category_space(mode)
    names = MAPS["youtube_vis_2019" if mode == "youtube_vis" else mode]
    labels = dict(enumerate(names, start=1))
    assert dict(space.names) == labels
    assert space.rule(mode, labels, FILE).targets == {i: i for i in labels}
    assert dict(space.rule(mode, {i: n.replace("_", " ").upper() for i, n in labels.items()}, FILE).targets)[2] == 2


def test_coco_maps_by_name_with_synonyms_and_its_mouse_is_no_animal():
    names = load_category_space("youtube_vis_2021").names
    rule = load_category_space("youtube_vis_2021").rule("coco", COCO, FILE)
    by_name = {COCO[i]: names[target] for i, target in rule.targets.items()}
    assert by_name["motorcycle"] == "motorbike" and by_name["frisbee"] == "flying_disc" and by_name["bird"] == "bird"
    assert "mouse" not in by_name
    ovis = load_category_space("ovis")
    by_name = {COCO[i]: ovis.names[target] for i, target in ovis.rule("coco", COCO, FILE).targets.items()}
    assert by_name["bus"] == by_name["car"] == "Vehical"


@pytest.mark.parametrize("mode", ["davis", "youtube_vis", "youtube_vis_2021", "ovis", "kitti_mots"])
def test_every_map_names_categories_that_exist(mode):
    space = load_category_space(mode)
    for source, entry in space.sources.items():
        targets = set(entry["keep"].values())
        assert targets <= set(space.names.values()), source
        known = {"youtube_vis": "youtube_vis_2019"}.get(source, source)
        if isinstance(MAPS.get(known), list) and "*" not in entry["keep"]:
            assert set(entry["keep"]) <= set(MAPS[known]), source


def test_ids_follow_names():
    swapped = {**COCO, 1: "car", 3: "person"}
    rule = load_category_space("youtube_vis").rule("coco", swapped, FILE)
    assert rule.targets[1] == 6 and rule.targets[3] == 1


def test_a_missing_name_is_an_error():
    labels = {i: "persona" if name == "person" else name for i, name in COCO.items()}
    with pytest.raises(DataError, match=r"annotations.json.*lack person; found 1 persona.*synonyms"):
        load_category_space("davis").rule("coco", labels, FILE)


def test_other_ids_in_its_own_mode_are_an_error():
    labels = dict(enumerate(MAPS["youtube_vis_2021"], start=1))
    with pytest.raises(DataError, match="category 1 is 'airplane', expected 'person'"):
        load_category_space("youtube_vis").rule("youtube_vis", labels, FILE)


def test_an_unlisted_category_id_is_an_error_except_in_class_agnostic_training():
    rule = load_category_space("youtube_vis").rule("coco", COCO, FILE)
    assert rule.target(10, "image 'a'") is None  # known, and left out
    with pytest.raises(DataError, match="image 'a': category 99 is not in the file's category_labels"):
        rule.target(99, "image 'a'")
    assert load_category_space("davis").rule("davis", {}, FILE).target(99, "sequence 'a'") == 1


@pytest.mark.parametrize(
    ("mode", "dataset", "spelling", "name"),
    [
        ("ovis", "custom", "Vehicle", "Vehical"),
        ("ovis", "custom", "motorbike", "Motorcycle"),
        ("youtube_vis_2021", "custom", "sedan", "car"),
        ("kitti_mots", "custom", "person", "pedestrian"),
        ("youtube_vis", "custom", "giant-panda", "giant_panda"),
        ("youtube_vis", "custom", "Giant Panda", "giant_panda"),
        ("ovis", "ovis", "Vehicle", "Vehical"),
        ("youtube_vis_2021", "youtube_vis_2021", "frisbee", "flying_disc"),
        ("youtube_vis", "youtube_vis", "giant-panda", "giant_panda"),
    ],
)
def test_synonyms_and_other_separators_name_the_same_category(mode, dataset, spelling, name):
    space = load_category_space(mode)
    (wanted,) = (i for i, ours in space.names.items() if ours == name)
    labels = dict(space.names) if dataset == mode else {wanted: name}
    assert space.rule(dataset, labels | {wanted: spelling}, FILE).targets[wanted] == wanted


def test_a_map_finds_its_categories_under_a_synonym_and_with_any_separator():
    """COCO's names as a detector's file may spell them; the map in category_maps names 'flying disc' a frisbee."""
    sources = {"coco": {"keep": {"sports ball": "ball", "car": "car"}, "ignore": ["traffic light"]}}
    space = CategorySpace("tiny", {1: "ball", 2: "car"}, {"auto-mobile": "car"}, sources)
    rule = space.rule("coco", {5: "Sports-Ball", 6: "auto mobile", 7: "traffic_light"}, FILE)
    assert (dict(rule.targets), rule.ignored) == ({5: 1, 6: 2}, frozenset({7}))


def test_two_classes_mean_class_agnostic_whatever_the_mode():
    cfg = load_config(None, ["TRAINING.MODE=youtube_vis", "INPUT.NUM_CLASSES=2"])
    assert build_category_space(cfg, None).names == {1: "object"}


def test_number_of_classes_must_fit_the_mode():
    cfg = load_config(None, ["TRAINING.MODE=youtube_vis", "INPUT.NUM_CLASSES=26", "MODEL.USE_SEMSEG_HEAD=true"])
    with pytest.raises(ConfigError, match=r"'INPUT.NUM_CLASSES' is 26.*set it to 41"):
        build_category_space(cfg, None)


def test_custom_categories_define_their_own_space():
    cfg = load_config(None, ["TRAINING.MODE=custom", "INPUT.NUM_CLASSES=3", "MODEL.USE_SEMSEG_HEAD=true"])
    space = build_category_space(cfg, {1: "horse", 2: "cart"})
    assert space.rule("custom", {1: "horse", 2: "cart"}, FILE).targets == {1: 1, 2: 2}
    assert space.rule("coco", COCO, FILE).targets == {19: 1}  # other datasets join by name
    with pytest.raises(DataError, match="none of its categories"):
        CategorySpace("custom", {1: "yeti"}).rule("coco", COCO, FILE)
    with pytest.raises(ConfigError, match="expected 1 to 2 without gaps"):
        build_category_space(cfg, {1: "horse", 5: "cart"})
    with pytest.raises(ConfigError, match=r"'DATA.MIX' does not name"):
        build_category_space(cfg, None)


def test_a_custom_dataset_in_another_mode_maps_by_name():
    space = load_category_space("youtube_vis")
    assert space.rule("custom", {1: "dog", 2: "Giant Panda"}, FILE).targets == {1: 8, 2: 2}
    with pytest.raises(DataError, match="category 2 is 'yeti', expected 1 person"):
        space.rule("custom", {1: "dog", 2: "yeti"}, FILE)


def test_a_models_classes_are_found_by_name_in_a_dataset():
    ovis = {1: "Person", 2: "Motorcycle", 3: "Giant_panda"}
    model = {1: "giant panda", 2: "motorbike", 3: "yeti", 4: "person"}
    found = match_classes(model, ovis, all_synonyms(), "file.json")
    assert {i: c.result_id for i, c in found.items()} == {1: 3, 2: 2, 3: None, 4: 1}


def test_every_class_is_an_object_where_a_dataset_has_nothing_else():
    found = match_classes({1: "cat", 2: "dog"}, {1: "object"}, {}, "file.json")
    assert [c.result_id for c in found.values()] == [1, 1]


@pytest.mark.parametrize("labels", [{1: "airplane", 2: "bear"}, {1: "Persona"}])
def test_classes_without_a_common_name_are_refused_with_both_lists(labels):
    with pytest.raises(ConfigError, match=r"file.json .* The file has 1 .*; the model has 1 person, 2 cat"):
        match_classes({1: "person", 2: "cat"}, labels, all_synonyms(), "file.json")
