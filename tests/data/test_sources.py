import pytest

from stemseg.config import load_config
from stemseg.data.sources import open_stills, open_training_set, open_videos
from stemseg.datasets import DATASETS
from stemseg.structures.annotations import StillAnnotations, save_video_annotations
from stemseg.utils.errors import ConfigError, DataError
from tests.helpers.tiny_datasets import LABELS, custom_config, make_sequence, make_stills, make_videos

CFG = load_config()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("STEMSEG_JSON_ANNOTATIONS_DIR", *(entry.variable for entry in DATASETS.values() if entry.variable)):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def annotations(tmp_path, monkeypatch):
    """A folder for annotation files, known to the environment."""
    folder = tmp_path / "annotations"
    folder.mkdir()
    monkeypatch.setenv("STEMSEG_JSON_ANNOTATIONS_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "split", "json_name", "variable", "subfolder"),
    [
        ("davis", "train", "davis_train.json", "DAVIS_BASE_DIR", "JPEGImages/480p"),
        ("davis", "val", "davis_val.json", "DAVIS_BASE_DIR", "JPEGImages/480p"),
        ("youtube_vis", "train", "youtube_vis_train.json", "YOUTUBE_VIS_BASE_DIR", "train"),
        ("youtube_vis", "val", "youtube_vis_val.json", "YOUTUBE_VIS_BASE_DIR", "valid"),
        ("youtube_vis", "val", "youtube_vis_val.json", "YOUTUBE_VIS_BASE_DIR", "val"),
        ("youtube_vis", "minival", "youtube_vis_minival.json", "YOUTUBE_VIS_BASE_DIR", "train/JPEGImages"),
        ("youtube_vis_2021", "train", "youtube_vis_2021_train.json", "YOUTUBE_VIS_2021_BASE_DIR", "train/JPEGImages"),
        ("ovis", "val", "ovis_val.json", "OVIS_BASE_DIR", "valid"),
        ("kitti_mots", "train", "kittimots_train.json", "KITTIMOTS_BASE_DIR", ""),
        ("kitti_mots", "val", "kittimots_val.json", "KITTIMOTS_BASE_DIR", "training/image_02"),
    ],
)
def test_video_folders(tmp_path, monkeypatch, annotations, name, split, json_name, variable, subfolder):
    base = tmp_path / "base"
    images = base / subfolder
    sequence = make_sequence(images, "seq", 2)
    save_video_annotations(annotations / json_name, [sequence], LABELS)
    monkeypatch.setenv(variable, str(base))
    opened, image_dir = open_videos(name, split, CFG)
    assert image_dir == images and opened.sequences == [sequence]


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("coco", "COCO_TRAIN_IMAGES_DIR"),
        ("pascal_voc", "PASCAL_VOC_IMAGES_DIR"),
        ("mapillary", "MAPILLARY_IMAGES_DIR"),
    ],
)
def test_still_folders(tmp_path, monkeypatch, annotations, name, variable):
    images = make_stills(tmp_path / "images")
    (tmp_path / "images" / "stills.json").rename(annotations / f"{name}.json")
    monkeypatch.setenv(variable, str(tmp_path / "images"))
    opened, image_dir = open_stills(name, CFG)
    assert image_dir == tmp_path / "images" and opened.images == images
    assert isinstance(open_training_set(name, CFG).annotations, StillAnnotations)


def test_missing_variables_are_named(tmp_path, monkeypatch, annotations):
    make_videos(tmp_path / "images")
    (tmp_path / "images" / "videos.json").rename(annotations / "davis_train.json")
    with pytest.raises(DataError, match=r"environment variable DAVIS_BASE_DIR is not set.*export DAVIS_BASE_DIR="):
        open_videos("davis", "train", CFG)
    monkeypatch.setenv("DAVIS_BASE_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"DAVIS_BASE_DIR is '.*nowhere', which is not a folder"):
        open_videos("davis", "train", CFG)
    monkeypatch.setenv("DAVIS_BASE_DIR", str(annotations))
    with pytest.raises(DataError, match=r"first image of the annotations is not there. Looked for: .*480p/seq0"):
        open_videos("davis", "train", CFG)
    monkeypatch.delenv("STEMSEG_JSON_ANNOTATIONS_DIR")
    with pytest.raises(DataError, match="STEMSEG_JSON_ANNOTATIONS_DIR is not set"):
        open_videos("davis", "train", CFG)


def test_a_missing_file_is_named(annotations):
    with pytest.raises(DataError, match=r"ovis_val.json does not exist; stemseg-prepare"):
        open_videos("ovis", "val", CFG)


def test_kinds_and_names_are_checked():
    with pytest.raises(ConfigError, match=r"'coco' \(COCO 2017 instances, stills\) is not possible here.*davis"):
        open_videos("coco", "train", CFG)
    with pytest.raises(ConfigError, match=r"'davis' \(.*, videos\) is not possible here.*coco"):
        open_stills("davis", CFG)
    with pytest.raises(ConfigError, match="dataset 'nothing' is unknown; expected one of davis"):
        open_videos("nothing", "train", CFG)


def test_custom_paths_come_from_the_configuration_with_variables(tmp_path, monkeypatch):
    sequences = make_videos(tmp_path)
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    overrides = ["DATA.CUSTOM.VAL_JSON=$MY_DATA/videos.json", "DATA.CUSTOM.VAL_IMAGES=${MY_DATA}"]
    opened, image_dir = open_videos("custom", "val", load_config(None, overrides))
    assert image_dir == tmp_path and opened.sequences == sequences
    monkeypatch.delenv("MY_DATA")
    with pytest.raises(DataError, match=r"'DATA.CUSTOM.VAL_JSON' is .*environment variable MY_DATA is not set"):
        open_videos("custom", "val", load_config(None, overrides))


def test_custom_paths_that_are_missing(tmp_path):
    with pytest.raises(ConfigError, match=r"'DATA.CUSTOM.TRAIN_JSON' is null"):
        open_training_set("custom", CFG)
    with pytest.raises(ConfigError, match="train and val, not 'test'"):
        open_videos("custom", "test", CFG)
    cfg = custom_config(tmp_path, "videos.json", f"DATA.CUSTOM.TRAIN_IMAGES={tmp_path / 'no'}")
    with pytest.raises(DataError, match=r"'DATA.CUSTOM.TRAIN_IMAGES' is '.*no', which is not a folder"):
        open_training_set("custom", cfg)


def test_a_custom_dataset_may_hold_stills(tmp_path):
    make_stills(tmp_path)
    opened = open_training_set("custom", custom_config(tmp_path, "stills.json"))
    assert isinstance(opened.annotations, StillAnnotations)
