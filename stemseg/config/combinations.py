"""Values that are fine alone and impossible together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stemseg.config.schema import DECODERS
from stemseg.config.tree import Config
from stemseg.datasets import COPY_PASTE
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.utils.errors import ConfigError

Require = Callable[[bool, str], None]


def check_combinations(cfg: Config, *, where: str) -> None:
    """Refuse values that are fine alone and impossible together.

    Raises:
        ConfigError: naming the keys, what they are and what they must be.
    """

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"{where}: {message}")

    _check_input(cfg, require)
    _check_heads(cfg, require)
    _check_optimization(cfg, require)
    _check_data(cfg.DATA, require)


def _check_input(cfg: Config, require: Require) -> None:
    require(
        cfg.INPUT.NUM_CLASSES == 2 or cfg.MODEL.USE_SEMSEG_HEAD,
        f"'INPUT.NUM_CLASSES' is {cfg.INPUT.NUM_CLASSES}: more than 2 classes need 'MODEL.USE_SEMSEG_HEAD: true'",
    )
    require(
        cfg.INPUT.MAX_DIM >= cfg.INPUT.MIN_DIM,
        f"'INPUT.MAX_DIM' ({cfg.INPUT.MAX_DIM}) is smaller than 'INPUT.MIN_DIM' ({cfg.INPUT.MIN_DIM})",
    )


def _check_heads(cfg: Config, require: Require) -> None:
    model, stds = cfg.MODEL, cfg.TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS
    num_free = parse_dim_mode(model.EMBEDDING_DIM_MODE).num_free
    require(
        len(stds) == num_free,
        f"'TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS' has {len(stds)} values, but 'MODEL.EMBEDDING_DIM_MODE' "
        f"'{model.EMBEDDING_DIM_MODE}' has {num_free} free dimensions; give one value each",
    )
    for section in DECODERS:
        channels, groups = model[section].INTER_CHANNELS, model[section].GN_NUM_GROUPS
        require(
            model[section].NORMALIZATION_LAYER == "none" or all(c % groups == 0 for c in channels),
            f"'MODEL.{section}.INTER_CHANNELS' {channels} must be multiples of its 'GN_NUM_GROUPS' ({groups})",
        )
    require(
        (model.USE_OFFSET_HEAD and model.OFFSET.LOSS == "likelihood") or not cfg.INFERENCE.RATE_APPEARANCE,
        "'INFERENCE.RATE_APPEARANCE' rates by the appearance flow's likelihood and needs 'MODEL.USE_OFFSET_HEAD: true' "
        "and 'MODEL.OFFSET.LOSS: likelihood'",
    )
    require(
        not model.USE_OFFSET_HEAD or model.OFFSET.STANDARDISE or not model.OFFSET.WHITEN,
        "'MODEL.OFFSET.WHITEN' is a way to standardize and needs 'MODEL.OFFSET.STANDARDISE: true'",
    )
    require(
        not model.USE_OFFSET_HEAD
        or model.OFFSET.LOSS == "likelihood"
        or (model.OFFSET.CONDITION, model.OFFSET.LIKELIHOOD) == ("masks", "frame"),
        f"'MODEL.OFFSET.LOSS: {model.OFFSET.LOSS}' has a condition and places of its own: leave "
        "'MODEL.OFFSET.CONDITION' 'masks' and 'MODEL.OFFSET.LIKELIHOOD' 'frame'",
    )


def _check_optimization(cfg: Config, require: Require) -> None:
    training = cfg.TRAINING
    require(
        training.BATCH_SIZE % training.MAX_SAMPLES_PER_GPU == 0,
        f"'TRAINING.BATCH_SIZE' ({training.BATCH_SIZE}) must be a multiple of 'TRAINING.MAX_SAMPLES_PER_GPU' "
        f"({training.MAX_SAMPLES_PER_GPU})",
    )
    require(
        training.OPTIMIZER != "SGD" or not training.NESTEROV or training.MOMENTUM > 0,
        "'TRAINING.NESTEROV' needs a 'TRAINING.MOMENTUM' above 0; set it to false",
    )


def _check_data(data: Config, require: Require) -> None:
    _check_mix("DATA.MIX", data.MIX, require)
    if data.MIX.get(COPY_PASTE, 0) > 0:
        _check_mix("DATA.COPY_PASTE.SOURCES", data.COPY_PASTE.SOURCES, require)
    for key in ("OBJECT_SIZE", "ZOOM"):
        smallest, largest = data.COPY_PASTE[key]
        require(
            smallest <= largest, f"'DATA.COPY_PASTE.{key}' is {[smallest, largest]}, expected the smaller one first"
        )
    for name, section in data.items():
        if "FRAME_GAP_LOWER" in section:
            require(
                section.FRAME_GAP_LOWER <= section.FRAME_GAP_UPPER,
                f"'DATA.{name}.FRAME_GAP_LOWER' ({section.FRAME_GAP_LOWER}) must be at most 'FRAME_GAP_UPPER' "
                f"({section.FRAME_GAP_UPPER})",
            )


def _check_mix(path: str, weights: Mapping[str, float], require: Require) -> None:
    require(sum(weights.values()) > 0, f"'{path}' is {weights}: expected at least one dataset with a weight above 0")
