"""Checks of each key: a rule for every number, the keys that follow from others, and published files."""

import re
from itertools import count

import pytest

from stemseg.config import load_config, schema
from stemseg.config.tree import FREE_FORM_KEYS
from stemseg.utils.errors import ConfigError

# the rule that has to refuse, and a value of the right type that it refuses
REFUSED = [
    "TRAINING.INITIAL_LR=.nan", "TRAINING.INITIAL_LR=-0.1", "TRAINING.INITIAL_LR=0", "TRAINING.INITIAL_LR=.inf",
    "TRAINING.WEIGHT_DECAY=-1", "TRAINING.SEED=-1", f"TRAINING.SEED={10**23}", "TRAINING.GRAD_CLIP_NORM=-1",
    "TRAINING.GRAD_CLIP_NORM=.nan", "TRAINING.MOMENTUM=-0.1", "TRAINING.MAX_ITERATIONS=0",
    f"TRAINING.MAX_ITERATIONS={10**11}", f"TRAINING.BATCH_SIZE={10**8}", "TRAINING.LR_DECAY_STEPS=[-1]",
    "TRAINING.LR_DECAY_FACTOR=0", "TRAINING.LR_WARMUP_ITERATIONS=-1", "TRAINING.GLOW_EPOCH=-1",
    "TRAINING.LOSSES.SEMSEG.WEIGHT=-1", "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[0.3, 0]",
    "MODEL.EMBEDDINGS.GN_NUM_GROUPS=0", "MODEL.BACKBONE.NORM_GROUPS=0", "MODEL.RESNETS.STEM_OUT_CHANNELS=0",
    "MODEL.SEMSEG.INTER_CHANNELS=[256, 256, 128, 0]", "MODEL.SEMSEG.INTER_CHANNELS=[256, 256, 128]",
    "MODEL.EMBEDDINGS.TIME_SCALE=0", "MODEL.OFFSET.N_FLOW=0", "MODEL.OFFSET.GRADIENT_SCALE=-1",
    f"MODEL.EMBEDDING_DIM_MODE=xyt{'f' * 90}", "INPUT.IMAGE_MEAN=[1]", "INPUT.IMAGE_MEAN=[.nan, 1, 1]",
    "INPUT.IMAGE_STD=[0, 1, 1]", "INPUT.MIN_DIM=100000", "INPUT.MIN_DIM=15", "INPUT.MAX_DIM=31", "INPUT.NUM_CLASSES=1",
    f"INPUT.NUM_CLASSES={10**9}", "DATA.MIX={davis: .inf}", "DATA.MIX={davis: -1, coco: 2}", "DATA.MIX={davis: .nan}",
    "DATA.DAVIS.FRAME_GAP_LOWER=0", "DATA.DAVIS.INFERENCE_FRAME_OVERLAP=0", "DATA.DAVIS.MAX_INFERENCE_TRACKS=-1",
    "DATA.KITTI_MOTS.FILTER_MIN_AREA=[1]", "DATA.KITTI_MOTS.FILTER_MIN_BOX_FILL=[0, 2]",
    "CLUSTERING.MIN_SEEDINESS_PROB=1.5", "CLUSTERING.MAX_INSTANCES=0", "INFERENCE.FRAMES_PER_BATCH=0",
    "DATA.MIX={davis: 1" + "0" * 400 + "}", "TRAINING.WEIGHT_DECAY=0x1" + "0" * 6000,
]  # fmt: skip


@pytest.mark.parametrize("override", REFUSED, ids=lambda override: override[:50])
def test_numbers_out_of_range_are_refused(override):
    path = override.partition("=")[0]
    with pytest.raises(ConfigError, match=r"expected (a|\d) numbers? (from|above)") as error:
        load_config(None, [override])
    assert len(str(error.value)) < 600
    if path != "MODEL.EMBEDDING_DIM_MODE":  # refused by its length, EMBEDDING_SIZE
        assert f"'{path}' is " in str(error.value)


def leaves(values, prefix=""):
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in FREE_FORM_KEYS:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def test_every_number_of_the_defaults_has_a_rule():
    for path, value in leaves(load_config().to_dict()):
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        is_number = any(isinstance(v, (int, float)) and not isinstance(v, bool) for v in entries)
        has_rule = path in schema._CHOICES or path in schema.DERIVED_KEYS or schema.range_of(path) is not None
        assert has_rule or not is_number, path


def test_every_rule_is_of_a_key_that_exists():
    paths = {path for path, _ in leaves(load_config().to_dict())}
    assert set(schema._CHOICES) | set(schema._PATHS) | set(schema.DERIVED_KEYS) <= paths
    assert set(schema._RANGES) <= {path.split(".")[-1] for path in paths}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("INPUT.MIN_DIM=" + "9" * 4000, "expected a number from"),
        ("INPUT.MIN_DIM=[" + "1," * 20000 + "1]", "expected a whole number"),
        ("TRAINING.MODE='" + "x" * 50000 + "'", "expected one of"),
        ("A" * 50000 + "=1", "unknown key"),
        ("DATA.MIX={" + ",".join(f"a{i}: 1" for i in range(5000)) + "}", "expected one of davis"),
        ("TRAINING.LR_DECAY_STEPS=[1.5]", "a list of whole numbers"),
        ("DATA.CUSTOM.TRAIN_JSON=''", "a path or null"),
        ('DATA.CUSTOM.TRAIN_JSON="a\\0b"', "a path or null"),
        ("TRAINING.MOMENTUM=0", "NESTEROV"),
    ],
    ids=count(),
)
def test_errors_are_short_whatever_the_value(override, words):
    with pytest.raises(ConfigError, match=re.escape(words)) as error:
        load_config(None, [override])
    assert len(str(error.value)) < 900


def test_numbers_may_be_written_with_an_exponent():
    cfg = load_config(None, ["TRAINING.INITIAL_LR=1e-4", "TRAINING.WEIGHT_DECAY=5.e-5"])
    assert (cfg.TRAINING.INITIAL_LR, cfg.TRAINING.WEIGHT_DECAY) == (1e-4, 5e-5)


HEVIS = ("MODEL.USE_OFFSET_HEAD=true", "MODEL.EMBEDDING_DIM_MODE=xytfff",
         "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[0.3, 0.3, 0.3]")  # fmt: skip


def test_keys_that_follow_from_others_are_derived():
    model = load_config(None, ["MODEL.EMBEDDING_DIM_MODE=xyt", "TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[]"]).MODEL
    assert model.EMBEDDINGS.EMBEDDING_SIZE == 3
    assert model.SEMSEG.FEATURE_SCALE == model.EMBEDDINGS.SCALE == [4, 8, 16, 32]
    assert (model.SEEDINESS.HEAD_TYPE, model.OFFSET.HEAD_TYPE) == ("squeeze_expand_decoder", "glow")
    model = load_config(None, HEVIS).MODEL
    assert (model.STEM_DIM_MODE, model.GLOW_DIM_MODE, model.EMBEDDINGS.EMBEDDING_SIZE) == ("xyt", "fff", 6)


def test_fewer_appearance_than_free_dimensions_are_possible():
    model = load_config(None, [*HEVIS, "MODEL.GLOW_DIM_MODE=ff"]).MODEL
    assert (model.STEM_DIM_MODE, model.GLOW_DIM_MODE) == ("xytf", "ff")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("MODEL.EMBEDDINGS.EMBEDDING_SIZE=4", ["is 4", "must be 6", "letters of 'MODEL.EMBEDDING_DIM_MODE'"]),
        ("MODEL.GLOW_DIM_MODE=ffff", ["is 'ffff'", "'fff'", "free dimensions"]),
        ("MODEL.GLOW_DIM_MODE=''", ["is ''"]),
        ("MODEL.STEM_DIM_MODE=xy", ["is 'xy'", "must be 'xyt'", "without 'MODEL.GLOW_DIM_MODE'"]),
        ("MODEL.SEMSEG.HEAD_TYPE=fpn", ["is 'fpn'", "must be 'squeeze_expand_decoder'", "leave the key out"]),
        ("MODEL.EMBEDDINGS.SCALE=[4, 8]", ["is [4, 8]", "must be [4, 8, 16, 32]"]),
        ("MODEL.EMBEDDINGS.EMBEDDING_SIZE=four", ["a whole number"]),
    ],
)
def test_values_that_contradict_the_derived_ones_are_refused(override, words):
    with pytest.raises(ConfigError) as error:
        load_config(None, [*HEVIS, override])
    assert override.partition("=")[0] in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_without_an_appearance_embedding_its_letters_mean_nothing():
    model = load_config(None, ["MODEL.STEM_DIM_MODE=xy", "MODEL.GLOW_DIM_MODE=f"]).MODEL
    assert (model.STEM_DIM_MODE, model.GLOW_DIM_MODE) == ("xy", "f")


PUBLISHED = """
INPUT: {MIN_DIM: 352, MAX_DIM: 640, NUM_FRAMES: 8, NUM_CLASSES: 41}
MODEL:
  EMBEDDING_DIM_MODE: xytfff
  STEM_DIM_MODE: xyt
  GLOW_DIM_MODE: fff
  USE_SEEDINESS_HEAD: False
  USE_SEMSEG_HEAD: True
  USE_OFFSET_HEAD: True
  BACKBONE: {TYPE: R-50-FPN, FREEZE_AT_STAGE: 2, PRETRAINED_WEIGHTS: mask_rcnn_R_50_FPN_backbone.pth}
  RESNETS: {NUM_GROUPS: 1, TRANS_FUNC: BottleneckWithFixedBatchNorm, STAGE_WITH_DCN: [false, false, false, false]}
  FPN: {USE_GN: False, USE_RELU: False}
  EMBEDDINGS: {HEAD_TYPE: squeeze_expand_decoder, EMBEDDING_SIZE: 6, SCALE: [4, 8, 16, 32], TANH_ACTIVATION: True}
  SEEDINESS: {HEAD_TYPE: squeeze_expand_decoder, FEATURE_SCALE: [4, 8, 16, 32]}
  SEMSEG: {HEAD_TYPE: squeeze_expand_decoder, FEATURE_SCALE: [4, 8, 16, 32], INTER_CHANNELS: [256, 256, 256, 256]}
  OFFSET: {HEAD_TYPE: glow, SIZE_IN: [80, 44], FEATURE_WEIGHT: 1, DOWN_SAMPLE: 2, N_BITS: 5, N_FLOW: 32, N_BLOCK: 1}
TRAINING:
  MODE: youtube_vis
  MAX_ITERATIONS: 160000
  GLOW_EPOCH: 2000
  BATCH_SIZE: 4
  INITIAL_LR: 0.00005
  LR_DECAY_TYPE: exponential
  LR_EXP_DECAY_START: 60000
  LR_EXP_DECAY_STEPS: 100000
  LR_EXP_DECAY_FACTOR: 0.01
  LOSSES: {EMBEDDING: {FREE_DIM_STDS: [0.3, 0.3, 0.3]}}
DATA: {MIX: {coco: 0.15, pascal_voc: 0.05, youtube_vis: 0.8}}
"""


@pytest.mark.filterwarnings("ignore:.*was never read:UserWarning")
def test_a_file_as_published_with_keys_without_effect_is_ours(tmp_path):
    (tmp_path / "old.yaml").write_text(PUBLISHED)
    assert load_config(tmp_path / "old.yaml").to_dict() == load_config("youtube_vis_hevis").to_dict()
