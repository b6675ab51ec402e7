"""Values that are fine alone and impossible together are refused, naming the keys and the way out."""

import pytest

from stemseg.config import load_config
from stemseg.config.combinations import check_combinations
from stemseg.utils.errors import ConfigError

IMPOSSIBLE = [
    (["INPUT.NUM_CLASSES=5", "MODEL.USE_SEMSEG_HEAD=false"], r"NUM_CLASSES' is 5.*USE_SEMSEG_HEAD: true"),
    (["INPUT.MIN_DIM=480", "INPUT.MAX_DIM=320"], r"MAX_DIM' \(320\) is smaller than 'INPUT.MIN_DIM' \(480\)"),
    (["TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS=[0.1]"], r"FREE_DIM_STDS' has 1 values.*'xyff' has 2 free dimensions"),
    (["MODEL.SEMSEG.INTER_CHANNELS=[30, 32, 32, 32]"], r"\[30, 32, 32, 32\] must be multiples of its 'GN_NUM_GROUPS'"),
    (
        ["MODEL.USE_OFFSET_HEAD=true", "MODEL.OFFSET.STANDARDISE=false", "MODEL.OFFSET.WHITEN=true"],
        r"WHITEN'.*needs 'MODEL.OFFSET.STANDARDISE: true'",
    ),
    (
        ["MODEL.USE_OFFSET_HEAD=true", "MODEL.OFFSET.LOSS=image", "MODEL.OFFSET.CONDITION=none"],
        r"LOSS: image' has a condition and places of its own: leave 'MODEL.OFFSET.CONDITION' 'masks'",
    ),
    (["INFERENCE.RATE_APPEARANCE=true"], r"RATE_APPEARANCE' .* needs 'MODEL.USE_OFFSET_HEAD: true'"),
    (["TRAINING.BATCH_SIZE=3", "TRAINING.MAX_SAMPLES_PER_GPU=2"], r"BATCH_SIZE' \(3\) must be a multiple of.*\(2\)"),
    (["TRAINING.NESTEROV=true", "TRAINING.MOMENTUM=0"], r"NESTEROV' needs a 'TRAINING.MOMENTUM' above 0"),
    (["DATA.MIX={davis: 0}"], r"'DATA.MIX' is .*expected at least one dataset with a weight above 0"),
    (["DATA.MIX={copy_paste: 1}", "DATA.COPY_PASTE.SOURCES={davis: 0}"], r"'DATA.COPY_PASTE.SOURCES' is "),
    (["DATA.COPY_PASTE.ZOOM=[2.0, 1.0]"], r"ZOOM' is \[2.0, 1.0\], expected the smaller one first"),
    (["DATA.DAVIS.FRAME_GAP_LOWER=9", "DATA.DAVIS.FRAME_GAP_UPPER=8"], r"FRAME_GAP_LOWER' \(9\) must be at most"),
]


@pytest.mark.parametrize(("overrides", "message"), IMPOSSIBLE, ids=[overrides[-1] for overrides, _ in IMPOSSIBLE])
def test_impossible_combinations_are_refused_with_their_keys(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, ["MODEL.EMBEDDING_DIM_MODE=xyff", "DATA.MIX={davis: 1}", *overrides])


def test_the_source_of_the_values_is_named():
    cfg = load_config(None)
    check_combinations(cfg, where="mine.yaml")
    values = cfg.to_dict()
    values["INPUT"]["MAX_DIM"] = 1
    with pytest.raises(ConfigError, match=r"^mine.yaml: "):
        check_combinations(type(cfg)(values), where="mine.yaml")
