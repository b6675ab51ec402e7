"""What a configuration value may be: its type, its choices, and which values go together."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from stemseg.config.tree import Config
from stemseg.datasets import COPY_PASTE, find_dataset, video_datasets
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.utils.errors import ConfigError

CLIP_LENGTHS = (2, 4, 8, 16, 24, 32)

# keys whose default is null, with the type that a value must have
_NULLABLE: dict[str, type] = {
    "MODEL.BACKBONE.PRETRAINED_WEIGHTS": str,
    "DATA.CUSTOM.TRAIN_JSON": str,
    "DATA.CUSTOM.TRAIN_IMAGES": str,
    "DATA.CUSTOM.VAL_JSON": str,
    "DATA.CUSTOM.VAL_IMAGES": str,
}
_DECODERS = ("EMBEDDINGS", "SEEDINESS", "SEMSEG")
_CHOICES: dict[str, tuple] = {
    "INPUT.NUM_FRAMES": CLIP_LENGTHS,
    "MODEL.BACKBONE.TYPE": ("R-14-FPN", "R-26-FPN", "R-50-FPN", "R-101-FPN", "EfficientNet-Lite0-FPN"),
    "MODEL.BACKBONE.NORM": ("frozen", "batch", "group"),
    "MODEL.BACKBONE.FREEZE_AT_STAGE": (0, 1, 2, 3, 4, 5),
    "MODEL.EMBEDDINGS.SCALE": ([4, 8, 16, 32],),
    "MODEL.SEEDINESS.FEATURE_SCALE": ([4, 8, 16, 32],),
    "MODEL.SEMSEG.FEATURE_SCALE": ([4, 8, 16, 32],),
    **{f"MODEL.{d}.HEAD_TYPE": ("squeeze_expand_decoder",) for d in _DECODERS},
    **{f"MODEL.{d}.NORMALIZATION_LAYER": ("gn", "none") for d in _DECODERS},
    **{f"MODEL.{d}.POOL_TYPE": ("avg", "max") for d in _DECODERS},
    "MODEL.OFFSET.HEAD_TYPE": ("glow",),
    "MODEL.OFFSET.FEATURES": ("stride32", "trunk"),
    "MODEL.OFFSET.CONDITION": ("none", "masks", "identity"),
    "MODEL.OFFSET.LIKELIHOOD": ("frame", "instance_pixels", "instance_means"),
    "MODEL.OFFSET.DEQUANTISATION": ("uniform", "floor"),
    "MODEL.OFFSET.DOWN_SAMPLE": (0, 1, 2),
    "MODEL.OFFSET.N_BITS": tuple(range(1, 9)),
    "TRAINING.AMP": ("none", "bf16", "fp16"),
    "INFERENCE.AMP": ("none", "bf16", "fp16"),
    "TRAINING.OPTIMIZER": ("SGD", "Adam"),
    "TRAINING.LR_DECAY_TYPE": ("none", "step", "exponential"),
}
_POSITIVE = (
    "INPUT.MIN_DIM", "INPUT.MAX_DIM", "TRAINING.MAX_ITERATIONS", "TRAINING.BATCH_SIZE", "TRAINING.MAX_SAMPLES_PER_GPU",
    "MODEL.OFFSET.N_FLOW", "MODEL.OFFSET.N_BLOCK", "MODEL.OFFSET.HIDDEN_CHANNELS", "MODEL.OFFSET.CONDITION_CHANNELS",
    "TRAINING.LR_EXP_DECAY_STEPS", "TRAINING.LR_EXP_DECAY_FACTOR", "CLUSTERING.MAX_INSTANCES",
    "INFERENCE.FRAMES_PER_BATCH",
)  # fmt: skip


def _warn_unused(path: str, where: str) -> None:
    warnings.warn(f"{where}: key '{path}' was never read by the published code either and is ignored", stacklevel=5)


# keys of published configuration files that have no effect there
LEGACY_KEYS: dict[str, Callable[[str, str], None]] = {
    "MODEL.OFFSET.SIZE_IN": _warn_unused,
    "MODEL.OFFSET.FEATURE_WEIGHT": _warn_unused,
    **{
        f"MODEL.RESNETS.{key}": _warn_unused
        for key in ("NUM_GROUPS", "TRANS_FUNC", "STEM_FUNC", "RES5_DILATION", "STAGE_WITH_DCN", "WITH_MODULATED_DCN",
                    "DEFORMABLE_GROUPS")
    },
    "MODEL.FPN.USE_GN": _warn_unused,
    "MODEL.FPN.USE_RELU": _warn_unused,
}  # fmt: skip


def check_value(path: str, value: Any, default: Any, *, where: str) -> Any:
    """Return ``value`` in the type that the default has, and datasets by their ids.

    Raises:
        ConfigError: where the type differs, the value is none of the key's choices, or a dataset is unknown.
    """
    value = _by_canonical_name(path, _check_type(path, value, default, where), where)
    choices = _CHOICES.get(path)
    if choices is not None and value not in choices:
        raise ConfigError(f"{where}: '{path}' is {value!r}, expected one of {', '.join(map(str, choices))}")
    if path in _POSITIVE and value <= 0:
        raise ConfigError(f"{where}: '{path}' is {value!r}, expected a number above 0")
    return value


def _check_type(path: str, value: Any, default: Any, where: str) -> Any:
    if path in _NULLABLE:
        if value is None or isinstance(value, _NULLABLE[path]):
            return value
        expected = f"{_NULLABLE[path].__name__} or null"
    elif isinstance(default, Mapping):
        if isinstance(value, Mapping) and all(isinstance(k, str) and _is_number(v) for k, v in value.items()):
            return {k: float(v) for k, v in value.items()}
        expected = "a mapping from names to numbers"
    elif isinstance(default, list):
        if isinstance(value, (list, tuple)) and all(_is_number(v) for v in value):
            return [type(default[0])(v) if default else v for v in value]
        expected = "a list of numbers"
    elif isinstance(default, float):
        if _is_number(value):
            return float(value)
        expected = "a number"
    elif type(value) is type(default):
        return value
    else:
        expected = {bool: "true or false", int: "a whole number", str: "a text"}[type(default)]
    raise ConfigError(f"{where}: '{path}' is {value!r} ({type(value).__name__}), expected {expected}")


def _by_canonical_name(path: str, value: Any, where: str) -> Any:
    """The value with its datasets by the ids of the registry, whichever alias names them."""
    try:
        if path == "TRAINING.MODE":
            return find_dataset(value, video_datasets()).name
        if path in ("DATA.MIX", "DATA.COPY_PASTE.SOURCES"):
            others = (COPY_PASTE,) if path == "DATA.MIX" else ()
            mix = {name if name in others else find_dataset(name).name: weight for name, weight in value.items()}
            if len(mix) < len(value):
                raise ConfigError(f"{', '.join(value)} name a dataset twice")
            return mix
    except ConfigError as error:
        raise ConfigError(f"{where}: '{path}': {error}") from None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_combinations(cfg: Config, *, where: str) -> None:
    """Refuse values that are fine alone and impossible together.

    Raises:
        ConfigError: naming the keys, what they are and what they must be.
    """

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"{where}: {message}")

    model, losses = cfg.MODEL, cfg.TRAINING.LOSSES
    dims = parse_dim_mode(model.EMBEDDING_DIM_MODE)
    require(
        dims.size == model.EMBEDDINGS.EMBEDDING_SIZE,
        f"'MODEL.EMBEDDINGS.EMBEDDING_SIZE' is {model.EMBEDDINGS.EMBEDDING_SIZE}, but 'MODEL.EMBEDDING_DIM_MODE' "
        f"'{model.EMBEDDING_DIM_MODE}' has {dims.size} dimensions; make them agree",
    )
    require(
        cfg.INPUT.NUM_CLASSES == 2 or model.USE_SEMSEG_HEAD,
        f"'INPUT.NUM_CLASSES' is {cfg.INPUT.NUM_CLASSES}: more than 2 classes need 'MODEL.USE_SEMSEG_HEAD: true'",
    )
    require(cfg.INPUT.NUM_CLASSES >= 2, f"'INPUT.NUM_CLASSES' is {cfg.INPUT.NUM_CLASSES}, expected 2 or more")
    require(
        cfg.INPUT.MAX_DIM >= cfg.INPUT.MIN_DIM,
        f"'INPUT.MAX_DIM' ({cfg.INPUT.MAX_DIM}) is smaller than 'INPUT.MIN_DIM' ({cfg.INPUT.MIN_DIM})",
    )
    num_free = dims.num_free
    require(
        len(losses.EMBEDDING.FREE_DIM_STDS) == num_free,
        f"'TRAINING.LOSSES.EMBEDDING.FREE_DIM_STDS' has {len(losses.EMBEDDING.FREE_DIM_STDS)} values, but "
        f"'MODEL.EMBEDDING_DIM_MODE' '{model.EMBEDDING_DIM_MODE}' has {num_free} free dimensions; give one value each",
    )
    for section in _DECODERS:
        channels = model[section].INTER_CHANNELS
        require(len(channels) == 4, f"'MODEL.{section}.INTER_CHANNELS' has {len(channels)} values, expected 4")
        groups = model[section].GN_NUM_GROUPS
        require(
            model[section].NORMALIZATION_LAYER == "none" or all(c % groups == 0 for c in channels),
            f"'MODEL.{section}.INTER_CHANNELS' {channels} must be multiples of its 'GN_NUM_GROUPS' ({groups})",
        )
    if model.USE_OFFSET_HEAD:
        _check_appearance(cfg, require)
    _check_training(cfg, require)


def _check_appearance(cfg: Config, require: Callable[[bool, str], None]) -> None:
    model = cfg.MODEL
    require(
        model.STEM_DIM_MODE + model.GLOW_DIM_MODE == model.EMBEDDING_DIM_MODE,
        f"'MODEL.EMBEDDING_DIM_MODE' is '{model.EMBEDDING_DIM_MODE}', but with 'MODEL.USE_OFFSET_HEAD' it must be "
        f"'MODEL.STEM_DIM_MODE' and 'MODEL.GLOW_DIM_MODE' joined: '{model.STEM_DIM_MODE}' + '{model.GLOW_DIM_MODE}'",
    )
    require(
        set(model.GLOW_DIM_MODE) == {"f"},
        f"'MODEL.GLOW_DIM_MODE' is '{model.GLOW_DIM_MODE}', expected one 'f' for each appearance dimension",
    )
    require(
        model.OFFSET.STANDARDISE or not model.OFFSET.WHITEN,
        "'MODEL.OFFSET.WHITEN' is a way to standardize and needs 'MODEL.OFFSET.STANDARDISE: true'",
    )
    require(
        model.OFFSET.GRADIENT_SCALE >= 0,
        f"'MODEL.OFFSET.GRADIENT_SCALE' is {model.OFFSET.GRADIENT_SCALE}, expected 0 or more",
    )
    require(
        cfg.TRAINING.GLOW_EPOCH >= 0,
        f"'TRAINING.GLOW_EPOCH' is {cfg.TRAINING.GLOW_EPOCH}, expected 0 or more optimizer steps",
    )


def _check_training(cfg: Config, require: Callable[[bool, str], None]) -> None:
    training, mix = cfg.TRAINING, cfg.DATA.MIX
    require(
        training.BATCH_SIZE % training.MAX_SAMPLES_PER_GPU == 0,
        f"'TRAINING.BATCH_SIZE' ({training.BATCH_SIZE}) must be a multiple of 'TRAINING.MAX_SAMPLES_PER_GPU' "
        f"({training.MAX_SAMPLES_PER_GPU})",
    )
    require(
        bool(mix) and all(weight >= 0 for weight in mix.values()) and sum(mix.values()) > 0,
        f"'DATA.MIX' is {dict(mix)}: expected at least one dataset with a weight above 0 and none below 0",
    )
    if mix.get(COPY_PASTE, 0) > 0:
        _check_copy_paste(cfg.DATA.COPY_PASTE, require)
    for name, section in cfg.DATA.items():
        if name in ("MIX", COPY_PASTE.upper()):
            continue
        require(
            1 <= section.FRAME_GAP_LOWER <= section.FRAME_GAP_UPPER,
            f"'DATA.{name}.FRAME_GAP_LOWER' ({section.FRAME_GAP_LOWER}) must be at least 1 and at most "
            f"'FRAME_GAP_UPPER' ({section.FRAME_GAP_UPPER})",
        )
        require(
            section.INFERENCE_FRAME_OVERLAP >= 1,
            f"'DATA.{name}.INFERENCE_FRAME_OVERLAP' is {section.INFERENCE_FRAME_OVERLAP}, expected 1 or more",
        )


def _check_copy_paste(section: Config, require: Callable[[bool, str], None]) -> None:
    sources = section.SOURCES
    require(
        all(weight >= 0 for weight in sources.values()) and sum(sources.values()) > 0,
        f"'DATA.COPY_PASTE.SOURCES' is {dict(sources)}: expected at least one dataset with a weight above 0 and none "
        "below 0",
    )
    require(
        min(section.HEIGHT, section.WIDTH) >= 1 and section.MAX_OBJECTS >= 0,
        f"'DATA.COPY_PASTE' makes clips of {section.HEIGHT} x {section.WIDTH} pixels with up to {section.MAX_OBJECTS} "
        "objects; expected a 'HEIGHT' and 'WIDTH' of 1 or more and 'MAX_OBJECTS' of 0 or more",
    )
    for key, lowest in (("OBJECT_SIZE", 0.01), ("ZOOM", 1.0)):
        values = section[key]
        require(
            len(values) == 2 and lowest <= values[0] <= values[1],
            f"'DATA.COPY_PASTE.{key}' is {values}, expected the smallest and the largest, from {lowest} on",
        )
