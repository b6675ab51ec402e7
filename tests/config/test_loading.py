"""Strict configuration: what is accepted, what is refused, and how clearly."""

import pickle

import pytest

from stemseg.config import CONFIG_DIR, load_config
from stemseg.utils.errors import ConfigError

NAMES = sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_file_loads_and_survives_a_round_trip(name, tmp_path):
    cfg = load_config(name)
    cfg.save(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").to_dict() == cfg.to_dict()
    assert pickle.loads(pickle.dumps(cfg)).to_dict() == cfg.to_dict()


PUBLISHED = {  # method.md §11
    "davis_1": {"INPUT.MIN_DIM": 736, "INPUT.MAX_DIM": 1248, "INPUT.NUM_FRAMES": 8, "TRAINING.MAX_ITERATIONS": 50000},
    "davis_2": {"INPUT.NUM_FRAMES": 16, "TRAINING.MAX_ITERATIONS": 10000, "TRAINING.FREEZE_BACKBONE": True},
    "youtube_vis": {"INPUT.MIN_DIM": 640, "INPUT.NUM_CLASSES": 41, "MODEL.SEMSEG.INTER_CHANNELS": [256] * 4},
    "kitti_mots_1": {"MODEL.EMBEDDING_DIM_MODE": "xyt", "CLUSTERING.MIN_SEEDINESS_PROB": 0.95},
    "kitti_mots_2": {"INPUT.MAX_DIM": 1792, "DATA.KITTI_MOTS.MAX_INFERENCE_TRACKS": 1000},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name):
    cfg = load_config(name)
    for path, expected in PUBLISHED[name].items():
        value = cfg
        for key in path.split("."):
            value = value[key]
        assert value == expected, path
    assert cfg.TRAINING.LOSSES.EMBEDDING.WEIGHT_VARIANCE_SMOOTHNESS == 10
    assert cfg.CLUSTERING.SECONDARY_PROB_THRESHOLD == 0.3


def test_a_name_with_and_without_ending_and_a_path_mean_the_same():
    cfgs = [load_config(source) for source in ("davis_1", "davis_1.yaml", CONFIG_DIR / "davis_1.yaml")]
    assert cfgs[0].to_dict() == cfgs[1].to_dict() == cfgs[2].to_dict()


def test_overrides_win_and_keep_the_type_of_the_key():
    cfg = load_config("davis_1", ["INPUT.NUM_FRAMES=16", "TRAINING.INITIAL_LR=1", "DATA.MIX={davis: 1}"])
    assert cfg.INPUT.NUM_FRAMES == 16
    assert isinstance(cfg.TRAINING.INITIAL_LR, float)
    assert dict(cfg.DATA.MIX) == {"davis": 1.0}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("INPUT.NUM_FRAME=8", ["INPUT.NUM_FRAME", "Did you mean 'INPUT.NUM_FRAMES'"]),
        ("INPT.MIN_DIM=8", ["INPT", "INPUT"]),
        ("INPUT.NUM_FRAMES=7", ["INPUT.NUM_FRAMES", "7", "expected one of 2, 4, 8"]),
        ("INPUT.NUM_FRAMES=8.0", ["8.0 (float)", "a whole number"]),
        ("MODEL.USE_SEMSEG_HEAD=1", ["true or false"]),
        ("INPUT=5", ["expected a section"]),
        ("INPUT.IMAGE_MEAN=abc", ["a list of numbers"]),
        ("TRAINING.OPTIMIZER=SDG", ["SGD, Adam"]),
        ("TRAINING.MAX_ITERATIONS=0", ["from 1 to"]),
        ("INPUT.NUM_CLASSES=41", ["USE_SEMSEG_HEAD"]),
        ("MODEL.EMBEDDING_DIM_MODE=xyf", ["FREE_DIM_STDS", "1 free dimensions"]),
        ("MODEL.EMBEDDING_DIM_MODE=yx", ["yx", "expected"]),
        ("TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[0.3]", ["FREE_DIM_STDS", "2 free dimensions"]),
        ("DATA.MIX={davos: 1}", ["davos", "expected one of davis"]),
        ("DATA.MIX={davis: 0}", ["above 0"]),
        ("INPUT.MAX_DIM=100", ["MAX_DIM", "smaller"]),
        ("MODEL.EMBEDDINGS.INTER_CHANNELS=[256, 256, 128, 100]", ["GN_NUM_GROUPS"]),
        ("TRAINING.BATCH_SIZE=3", None),
        ("TRAINING.MAX_SAMPLES_PER_GPU=4", ["multiple"]),
        ("no equals sign", ["has no '='"]),
        ("INPUT.MIN_DIM=[", ["not valid YAML"]),
    ],
)
def test_refusals_name_key_found_and_expected(override, words):
    if words is None:
        load_config(None, [override])
        return
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    for word in words:
        assert word in str(error.value)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("INPUT: {MIN_DIMS: 3}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'INPUT\.MIN_DIMS'"):
        load_config(path)
    path.write_text("- a list")
    with pytest.raises(ConfigError, match="found a list"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"Names there: .*davis_1"):
        load_config("no_such_config")


def test_keys_that_published_files_carry_in_vain_are_accepted_with_a_warning(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("MODEL: {RESNETS: {NUM_GROUPS: 1}}")
    with pytest.warns(UserWarning, match="NUM_GROUPS"):
        load_config(path)


def test_configurations_are_read_only_and_missing_keys_are_named():
    cfg = load_config()
    with pytest.raises(ConfigError, match=r"INPUT\.MIN_DIM"):
        cfg.INPUT.MIN_DIM = 3
    with pytest.raises(ConfigError, match=r"no key 'INPUT\.NOTHING'"):
        _ = cfg.INPUT.NOTHING


def test_values_can_be_given_instead_of_a_file():
    cfg = load_config("davis_1")
    assert load_config(cfg.to_dict()) == cfg
    assert load_config({"INPUT": {"NUM_FRAMES": 16}}, ["INPUT.MIN_DIM=320"]).INPUT.NUM_FRAMES == 16
    with pytest.raises(ConfigError, match=r"the given configuration: unknown key 'INPUT.FRAMES'"):
        load_config({"INPUT": {"FRAMES": 16}})
