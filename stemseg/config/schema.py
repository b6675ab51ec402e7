"""The values that a single key may have: type, choices or range, and the source of those that follow from others."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from stemseg.datasets import COPY_PASTE, find_dataset, video_datasets
from stemseg.structures.embedding_dims import parse_dim_mode
from stemseg.utils.errors import ConfigError
from stemseg.utils.text import shorten_list, shown

CLIP_LENGTHS = (2, 4, 8, 16, 24, 32)
DECODERS = ("EMBEDDINGS", "SEEDINESS", "SEMSEG")

# keys whose value is a path, or null
_PATHS = (
    "MODEL.BACKBONE.PRETRAINED_WEIGHTS", "DATA.CUSTOM.TRAIN_JSON", "DATA.CUSTOM.TRAIN_IMAGES", "DATA.CUSTOM.VAL_JSON",
    "DATA.CUSTOM.VAL_IMAGES",
)  # fmt: skip
_CHOICES: dict[str, tuple] = {
    "INPUT.NUM_FRAMES": CLIP_LENGTHS,
    "MODEL.BACKBONE.TYPE": ("R-14-FPN", "R-26-FPN", "R-50-FPN", "R-101-FPN", "EfficientNet-Lite0-FPN"),
    "MODEL.BACKBONE.NORM": ("frozen", "batch", "group"),
    "MODEL.BACKBONE.FREEZE_AT_STAGE": (0, 1, 2, 3, 4, 5),
    **{f"MODEL.{d}.NORMALIZATION_LAYER": ("gn", "none") for d in DECODERS},
    **{f"MODEL.{d}.POOL_TYPE": ("avg", "max") for d in DECODERS},
    "MODEL.OFFSET.FEATURES": ("stride32", "stride4", "trunk"),
    "MODEL.OFFSET.LOSS": ("likelihood", "classifier", "image", "color", "gaussian"),
    "MODEL.OFFSET.CONDITION": ("none", "masks", "identity"),
    "MODEL.OFFSET.LIKELIHOOD": ("frame", "instance_pixels", "instance_means"),
    "MODEL.OFFSET.DEQUANTISATION": ("uniform", "floor"),
    "MODEL.OFFSET.DOWN_SAMPLE": (0, 1, 2),
    "MODEL.OFFSET.N_BITS": tuple(range(1, 9)),
    "TRAINING.AMP": ("none", "auto", "bf16", "fp16"),
    "INFERENCE.AMP": ("none", "auto", "bf16", "fp16"),
    "INFERENCE.TRACK_SCORE": ("auto", "pixels", "confidence"),
    "TRAINING.OPTIMIZER": ("SGD", "Adam"),
    "TRAINING.LR_DECAY_TYPE": ("none", "step", "exponential"),
}


class Range(NamedTuple):
    """The finite numbers from ``low`` to ``high``, or so many of them where the key holds a list."""

    low: float
    high: float
    above: bool = False  # above ``low``, not ``low`` itself
    length: int | None = None

    def allows(self, value: Any) -> bool:
        """Whether a number, each one of a list, or each value of a mapping lies in the range; NaN never does."""
        if isinstance(value, Mapping):
            return all(map(self.allows, value.values()))
        if isinstance(value, list):
            return self.length in (None, len(value)) and all(map(self.allows, value))
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        numbers = f"{self.length} numbers" if self.length else "a number"
        start = f"above {self.low:.10g} and at most" if self.above else f"from {self.low:.10g} to"
        return f"{numbers} {start} {self.high:.10g}"


_STEPS, _COUNT, _CHANNELS = Range(0, 1e8), Range(1, 4096), Range(1, 8192)
_SHARE, _WEIGHT, _FACTOR = Range(0, 1), Range(0, 1e6), Range(0, 1, above=True)
# by the last part of a key, which means the same in every section; every number of defaults.yaml has choices or a range
# (those of losses' weights, WEIGHT and WEIGHT_..., are in range_of)
_RANGES: dict[str, Range] = {
    "IMAGE_MEAN": Range(0, 255, length=3),
    "IMAGE_STD": Range(1e-4, 1e4, length=3),
    "MIN_DIM": Range(16, 16384),  # the network's input is padded to multiples of 32: of less, most would be padding
    "MAX_DIM": Range(32, 16384),
    "NUM_CLASSES": Range(2, 10000),
    "EMBEDDING_SIZE": Range(2, 64),
    "INTER_CHANNELS": _CHANNELS._replace(length=4),
    **dict.fromkeys(
        ("STEM_OUT_CHANNELS", "RES2_OUT_CHANNELS", "WIDTH_PER_GROUP", "BACKBONE_OUT_CHANNELS", "CONDITION_CHANNELS",
         "HIDDEN_CHANNELS"), _CHANNELS),
    **dict.fromkeys(("NORM_GROUPS", "GN_NUM_GROUPS"), _COUNT),
    "TIME_SCALE": Range(0, 1000, above=True),
    "GRADIENT_SCALE": _WEIGHT,
    "N_FLOW": Range(1, 256),
    "N_BLOCK": Range(1, 8),
    "SEED": Range(0, 2**32 - 1),
    "MAX_ITERATIONS": Range(1, 1e8),
    **dict.fromkeys(("BATCH_SIZE", "MAX_SAMPLES_PER_GPU", "FRAMES_PER_BATCH"), _COUNT),
    **dict.fromkeys(("GLOW_EPOCH", "LR_WARMUP_ITERATIONS", "LR_DECAY_STEPS", "LR_EXP_DECAY_START"), _STEPS),
    "LR_EXP_DECAY_STEPS": Range(1, 1e8),
    "GRAD_CLIP_NORM": Range(0, 1e9),
    "INITIAL_LR": Range(0, 100, above=True),
    "BACKBONE_LR_FACTOR": Range(0, 100, above=True),
    "MOMENTUM": _SHARE,
    "WEIGHT_DECAY": Range(0, 10),
    **dict.fromkeys(("LR_DECAY_FACTOR", "LR_EXP_DECAY_FACTOR"), _FACTOR),
    "MIX": _WEIGHT,
    "FREE_DIM_STDS": Range(1e-3, 1e3),
    **dict.fromkeys(("FRAME_GAP_LOWER", "FRAME_GAP_UPPER"), Range(1, 1e6)),
    "INFERENCE_FRAME_OVERLAP": Range(1, max(CLIP_LENGTHS) - 1),
    "MAX_INFERENCE_TRACKS": Range(1, 1e6),
    "MIN_TRACK_SCORE": _SHARE,
    **dict.fromkeys(("FILTER_MIN_AREA", "FILTER_MIN_TRACK_LENGTH"), Range(0, 1e9, length=2)),
    **dict.fromkeys(("FILTER_MIN_BOX_FILL", "FILTER_MAX_GAP_RATIO"), _SHARE._replace(length=2)),
    **dict.fromkeys(
        ("MIN_SEEDINESS_PROB", "PRIMARY_PROB_THRESHOLD", "SECONDARY_PROB_THRESHOLD", "MIN_MATCH_IOU",
         "SEEDINESS_THRESHOLD"), _SHARE),
    "MAX_INSTANCES": Range(1, 10000),
    # DATA.COPY_PASTE
    "SOURCES": _WEIGHT,
    **dict.fromkeys(("HEIGHT", "WIDTH"), Range(1, 16384)),
    "MAX_OBJECTS": Range(0, 1000),
    "OBJECT_SIZE": Range(0.01, 4, length=2),
    "ZOOM": Range(1, 100, length=2),
    "MOTION": Range(0, 100),
    "LIGHT": Range(0, 255),
    **dict.fromkeys(("BEHIND_PROBABILITY", "BLUR_PROBABILITY", "PAIR_PROBABILITY"), _SHARE),
}  # fmt: skip


def range_of(path: str) -> Range | None:
    """The range of a key that holds numbers; one whose name begins with WEIGHT is the weight of a loss."""
    name = path.rpartition(".")[2]
    return _RANGES.get(name) or (_WEIGHT if name.startswith("WEIGHT") else None)


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


class DerivedKey(NamedTuple):
    """A key of published files that follows from others, or has one possible value; ours leave it out.

    Attributes:
        example: a possible value; others have its type.
        derive: the value in a whole configuration.
        reason: of that value, for the error about another one.
        is_possible: whether a value that a file gives may stand beside the derived one.
    """

    example: Any
    derive: Callable[[Mapping[str, Any]], Any]
    reason: str
    is_possible: Callable[[Mapping[str, Any], Any, Any], bool] = lambda values, given, derived: given == derived


def _only(value: Any) -> DerivedKey:
    return DerivedKey(value, lambda values: value, "nothing else exists")


def _appearance_letters(values: Mapping[str, Any]) -> str:
    """One "f" for each free dimension; without an appearance embedding what published files say there in vain."""
    model = values["MODEL"]
    return model["EMBEDDING_DIM_MODE"].lstrip("xyt") if model["USE_OFFSET_HEAD"] else "fff"


def _remaining_letters(values: Mapping[str, Any]) -> str:
    model = values["MODEL"]
    if not model["USE_OFFSET_HEAD"]:
        return "xyt"
    return model["EMBEDDING_DIM_MODE"][: -len(model["GLOW_DIM_MODE"])]


def _may_be_appearance(values: Mapping[str, Any], given: str, derived: str) -> bool:
    return not values["MODEL"]["USE_OFFSET_HEAD"] or (given != "" and derived.endswith(given))


def _may_remain(values: Mapping[str, Any], given: str, derived: str) -> bool:
    return not values["MODEL"]["USE_OFFSET_HEAD"] or given == derived


# in the order in which they are derived
DERIVED_KEYS: dict[str, DerivedKey] = {
    **{f"MODEL.{d}.HEAD_TYPE": _only("squeeze_expand_decoder") for d in DECODERS},
    "MODEL.OFFSET.HEAD_TYPE": _only("glow"),
    "MODEL.EMBEDDINGS.SCALE": _only([4, 8, 16, 32]),
    "MODEL.SEEDINESS.FEATURE_SCALE": _only([4, 8, 16, 32]),
    "MODEL.SEMSEG.FEATURE_SCALE": _only([4, 8, 16, 32]),
    "MODEL.EMBEDDINGS.EMBEDDING_SIZE": DerivedKey(
        4,
        lambda values: parse_dim_mode(values["MODEL"]["EMBEDDING_DIM_MODE"]).size,
        "the number of letters of 'MODEL.EMBEDDING_DIM_MODE'",
    ),
    "MODEL.GLOW_DIM_MODE": DerivedKey(
        "fff", _appearance_letters, "the free dimensions of 'MODEL.EMBEDDING_DIM_MODE', or fewer", _may_be_appearance
    ),
    "MODEL.STEM_DIM_MODE": DerivedKey(
        "xyt", _remaining_letters, "'MODEL.EMBEDDING_DIM_MODE' without 'MODEL.GLOW_DIM_MODE'", _may_remain
    ),
}


def derive_values(values: dict[str, Any], *, where: str) -> None:
    """Write the derived keys into a whole configuration, in place.

    Raises:
        ConfigError: where a file gave one of them another value than it can have.
    """
    for path, key in DERIVED_KEYS.items():
        *sections, name = path.split(".")
        section = values
        for part in sections:
            section = section[part]
        try:
            derived = key.derive(values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        given = section.setdefault(name, derived)
        if not key.is_possible(values, given, derived):
            raise ConfigError(
                f"{where}: '{path}' is {shown(given)}, but it must be {shown(derived)}, {key.reason}; leave the key out"
            )
        _check_limits(path, given, where)


def check_value(path: str, value: Any, default: Any, *, where: str) -> Any:
    """Return ``value`` in the type that the default has, and datasets by their ids.

    Raises:
        ConfigError: where the type differs, the value is none of the key's choices or out of its range, or a dataset is
            unknown.
    """
    value = _by_canonical_name(path, _check_type(path, value, default, where), where)
    _check_limits(path, value, where)
    return value


def _check_limits(path: str, value: Any, where: str) -> None:
    choices = _CHOICES.get(path)
    if choices is not None and value not in choices:
        raise ConfigError(f"{where}: '{path}' is {shown(value)}, expected one of {', '.join(map(str, choices))}")
    limits = range_of(path)
    if choices is None and limits is not None and not limits.allows(value):
        raise ConfigError(f"{where}: '{path}' is {shown(value)}, expected {limits}")


def _check_type(path: str, value: Any, default: Any, where: str) -> Any:
    if path in _PATHS:
        if value is None or (isinstance(value, str) and value and "\0" not in value):
            return value
        expected = "a path or null"
    elif isinstance(default, Mapping):
        if isinstance(value, Mapping) and all(isinstance(k, str) and _is_number(v) for k, v in value.items()):
            return {k: _to_float(v) for k, v in value.items()}
        expected = "a mapping from names to numbers"
    elif isinstance(default, list):
        whole = isinstance(default[0], int)
        if isinstance(value, list) and all(type(v) is int if whole else _is_number(v) for v in value):
            return value if whole else [_to_float(v) for v in value]
        expected = "a list of whole numbers" if whole else "a list of numbers"
    elif isinstance(default, float):
        if _is_number(value):
            return _to_float(value)
        expected = "a number"
    elif type(value) is type(default):
        return value
    else:
        expected = {bool: "true or false", int: "a whole number", str: "a text"}[type(default)]
    raise ConfigError(f"{where}: '{path}' is {shown(value)} ({type(value).__name__}), expected {expected}")


def _by_canonical_name(path: str, value: Any, where: str) -> Any:
    """The value with its datasets by the ids of the registry, whichever alias names them."""
    try:
        if path == "TRAINING.MODE":
            return find_dataset(value, video_datasets()).name
        if path in ("DATA.MIX", "DATA.COPY_PASTE.SOURCES"):
            others = (COPY_PASTE,) if path == "DATA.MIX" else ()
            mix = {name if name in others else find_dataset(name).name: weight for name, weight in value.items()}
            if len(mix) < len(value):
                raise ConfigError(f"{shorten_list(value)} name a dataset twice")
            return mix
    except ConfigError as error:
        raise ConfigError(f"{where}: '{path}': {error}") from None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf
