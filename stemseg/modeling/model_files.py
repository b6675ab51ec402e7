"""Models in one file: weights, configuration, class names and where they come from; some ship with the package.

Such a file is a dictionary that ``torch.save`` wrote:

    model           state dict; floating-point weights may be float16
    config          the whole resolved configuration as plain dictionaries
    category_names  name of each category id that results may have, ids as texts; empty for a class-agnostic model
    about           texts for people: how it was trained, what it reached, under which license

A training checkpoint holds the first three, and has its ``config.yaml`` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemseg.modeling.weights import load_weights_file
from stemseg.utils.errors import CheckpointError, DataError
from stemseg.utils.json_values import text, whole_key
from stemseg.utils.text import shorten_list


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model's description beside its weights; empty where its file says nothing.

    Attributes:
        config: every configuration value, as plain dictionaries; None where the file holds none.
        category_names: name of each category id.
        about: texts by title.
        is_of_a_run: whether it is a checkpoint of training, with the run's ``config.yaml`` beside it.
    """

    config: dict[str, Any] | None = None
    category_names: dict[int, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    is_of_a_run: bool = False


NO_INFO = ModelInfo()


def read_model_info(path: Path) -> ModelInfo:
    """Read a checkpoint's or model file's description of its model, without the weights.

    Raises:
        CheckpointError: where the file is damaged, or an entry is not what it should be.
    """
    content = load_weights_file(path, weights_needed=False)
    if not isinstance(content, Mapping) or not isinstance(content.get("model"), Mapping):
        return NO_INFO  # a plain state dict
    config, names, about = (content.get(key) for key in ("config", "category_names", "about"))
    for key, value in (("config", config), ("category_names", names), ("about", about)):
        if value is not None and not isinstance(value, Mapping):
            raise CheckpointError(f"{path}: '{key}' is a {type(value).__name__}, expected a dictionary")
    return ModelInfo(
        config=dict(config) if config else None,
        category_names=_category_names(names or {}, path),
        about={str(title): str(text) for title, text in (about or {}).items()},
        is_of_a_run="iterations" in content,
    )


def _category_names(names: Mapping[Any, Any], path: Path) -> dict[int, str]:
    where = f"{path}: 'category_names'"
    try:
        found = {whole_key(str(i), where): text(name, f"{where}, category {i}") for i, name in names.items()}
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if len(found) < len(names):
        raise CheckpointError(f"{where} names a category twice, expected each once; correct it")
    return found


def check_class_names(info: ModelInfo, num_classes: int, path: Path) -> None:
    """Refuse names of other classes than a network has; ``num_classes`` counts the background.

    Raises:
        CheckpointError: with the ids that are named.
    """
    expected = range(1, num_classes)
    if info.category_names and num_classes > 2 and set(info.category_names) != set(expected):
        raise CheckpointError(
            f"{path}: 'category_names' names the categories {shorten_list(sorted(info.category_names))}, expected 1 to "
            f"{expected[-1]}, since INPUT.NUM_CLASSES is {num_classes}. Is the configuration the one of its training?"
        )


def pack_model(weights: Mapping[str, Tensor], info: ModelInfo, *, half: bool = True) -> dict[str, Any]:
    """The content of a model's file.

    Args:
        weights: state dict of the network.
        info: what is said of it; its configuration is needed.
        half: store floating-point weights as float16.

    Raises:
        CheckpointError: where the configuration is missing, or a weight is too large for float16.
    """
    if info.config is None:
        raise CheckpointError("a model's file needs its configuration; read it from the config.yaml of its training")
    return {
        "model": {name: _to_half(name, value) if half else value for name, value in weights.items()},
        "config": info.config,
        "category_names": {str(i): name for i, name in info.category_names.items()},
        "about": dict(info.about),
    }


def _to_half(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    stored = value.half()
    if not torch.isfinite(stored).all():
        raise CheckpointError(f"weight {name} holds values that float16 can't (up to {value.abs().max():.3g})")
    return stored
