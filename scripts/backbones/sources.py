"""Reads published weights: a .pkl, a .pth, or the name of torchvision's weights, which are then downloaded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.backbones.safe_pickle import read_pickle
from stemseg.modeling.weights import load_weights_file
from stemseg.utils.errors import CheckpointError

_TORCHVISION_NAME = re.compile(r"\w+_Weights\.\w+")
_PREFIXES = ("module.", "model.")


class Source(NamedTuple):
    """Tensors by the names of the file, and who made the file, where it says so."""

    tensors: dict[str, Tensor]
    author: str


def read_source(source: str) -> Source:
    """Read weights.

    Args:
        source: path of a .pkl (Caffe2, detectron2) or of a file by ``torch.save``, or a name such as
            "ResNet50_Weights.IMAGENET1K_V2" or "MaskRCNN_ResNet50_FPN_Weights.COCO_V1".

    Raises:
        CheckpointError: where the file cannot be read or holds no tensors, or the download fails.
    """
    path = Path(source).expanduser()
    if not path.is_file() and _TORCHVISION_NAME.fullmatch(source):
        content = _download(source)
    else:
        content = read_pickle(path) if path.suffix == ".pkl" else load_weights_file(path)
    author = content.get("__author__", "") if isinstance(content, Mapping) else ""
    return Source(_tensors(content, source), str(author))


def _download(name: str) -> Any:
    """Content of the file of torchvision's weights of this name."""
    try:
        from torchvision.models import get_weight
    except (ImportError, RuntimeError) as error:
        raise CheckpointError(
            f"'{name}' is no file, and torchvision, which knows where weights of that name are, cannot be imported "
            f"({error}). Download the file yourself and give its path"
        ) from error
    try:
        url = get_weight(name).url
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"torchvision has no weights '{name}': {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(url).name
        checksum = re.search(r"-([0-9a-f]{8,})\.pth$", url)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=checksum[1] if checksum else None)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"could not download {url}: {error}. Get the file another way and give its path"
            ) from error
        return load_weights_file(path)


def _tensors(content: Any, source: str) -> dict[str, Tensor]:
    """The state dict in a file: at its top, or under "model" (training checkpoints), "blobs" or "state_dict"."""
    for key in ("model", "blobs", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{source} holds a {type(content).__name__}, expected names and tensors")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
        if isinstance(value, Tensor):
            tensors[_without_prefix(str(name))] = value
    if not tensors:
        raise CheckpointError(f"{source} holds no tensors; found the keys {', '.join(map(str, list(content)[:8]))}")
    return tensors


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
