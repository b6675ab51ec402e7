"""The registry: aliases wherever a dataset is named, and everything that an entry names exists."""

import importlib
from dataclasses import fields

import pytest

from stemseg.config import CONFIG_DIR, load_config
from stemseg.data.augmentation import AugmentationRange
from stemseg.data.categories import load_category_space
from stemseg.data.prepare.main import parse_dataset
from stemseg.datasets import DATASETS, convertible_datasets, find_dataset, still_datasets, video_datasets
from stemseg.evaluation.evaluate import EVALUATORS
from stemseg.inference.arguments import parse_arguments
from stemseg.inference.inputs import build_writers
from stemseg.training.validation import best_measure
from stemseg.utils.errors import ConfigError

VIDEOS = sorted(video_datasets())


def test_published_spellings_mean_one_dataset():
    for spelling, name in {
        "ytvis": "youtube_vis", "YouTube-VIS": "youtube_vis", "ytvis21": "youtube_vis_2021", "kittimots": "kitti_mots",
        "KITTI_MOTS": "kitti_mots", "DAVIS": "davis", "Pascal-VOC": "pascal_voc", "custom": "custom",
    }.items():  # fmt: skip
        assert find_dataset(spelling) is DATASETS[name]


def test_no_spelling_means_two_datasets():
    spellings = [spelling for entry in DATASETS.values() for spelling in (entry.name, *entry.aliases)]
    assert len(spellings) == len(set(spellings))
    assert all(spelling == spelling.lower().replace("-", "_") for spelling in spellings)


def test_what_is_not_possible_is_refused_with_what_is():
    with pytest.raises(ConfigError, match=r"'davos' is unknown; expected one of davis .*youtube_vis \(ytvis.*custom"):
        find_dataset("davos")
    with pytest.raises(ConfigError, match=r"'COCO' \(COCO 2017 instances, stills\) is not possible.*davis") as error:
        find_dataset("COCO", video_datasets())
    assert "pascal_voc" not in str(error.value)


def test_configurations_take_aliases_and_hold_ids():
    cfg = load_config(None, ["TRAINING.MODE=KITTI_MOTS", "DATA.MIX={kittimots: 1, mapillary: 2}"])
    assert cfg.TRAINING.MODE == "kitti_mots" and dict(cfg.DATA.MIX) == {"kitti_mots": 1.0, "mapillary": 2.0}
    with pytest.raises(ConfigError, match=r"'DATA.MIX': ytvis, youtube_vis name a dataset twice"):
        load_config(None, ["DATA.MIX={ytvis: 1, youtube_vis: 1}"])
    with pytest.raises(ConfigError, match=r"'TRAINING.MODE': dataset 'coco' .*stills.*not possible"):
        load_config(None, ["TRAINING.MODE=coco"])


def test_commands_take_aliases(capsys):
    assert parse_arguments(["x.pth", "--dataset", "kittimots"]).dataset == "kitti_mots"
    entry, rest = parse_dataset(["ytvis21", "/root", "--skip-invalid"])
    assert entry.name == "youtube_vis_2021" and rest == ["/root", "--skip_invalid"]
    with pytest.raises(SystemExit):
        parse_arguments(["x.pth", "--dataset", "coco"])
    assert "dataset 'coco' (COCO 2017 instances, stills) is not possible here" in capsys.readouterr().err


@pytest.mark.parametrize("name", VIDEOS)
def test_videos_can_be_trained_segmented_and_measured(name, tmp_path):
    entry = DATASETS[name]
    cfg = load_config(entry.config, [f"TRAINING.MODE={name}"])
    assert cfg.DATA[entry.section].INFERENCE_FRAME_OVERLAP >= 1
    assert entry.config is None or (CONFIG_DIR / f"{entry.config}.yaml").is_file()
    assert entry.category_map is None or load_category_space(name).names
    assert len(build_writers(cfg, name, tmp_path)) == len(entry.formats) > 0
    assert {entry.evaluator, *entry.formats} <= set(EVALUATORS)
    assert best_measure(cfg) == f"validation/{entry.best_measure}"


@pytest.mark.parametrize("name", convertible_datasets())
def test_converters_exist(name):
    converter = importlib.import_module(DATASETS[name].converter)
    assert converter.__doc__.count("Expected below ROOT") == 1
    assert callable(converter.add_arguments) and callable(converter.make_plans)


def test_stills_differ_only_in_what_augmentation_knows():
    assert set(still_datasets()) == {"coco", "pascal_voc", "mapillary", "custom"}
    known = {field.name for field in fields(AugmentationRange)}
    assert all(set(entry.augmentation) <= known for entry in DATASETS.values())
