"""Reads published weights: a .pkl, a .pth, or the name of torchvision's weights, which are then downloaded.

A .pkl of Caffe2 or detectron2 is a pickle, and a pickle is a program: it may call any function that it names. The
reader here knows the few names that stand for arrays, numbers, bytes and ordered dictionaries, and gives harmless
stand-ins for them; naming anything else ends the reading. What comes out are dictionaries, lists, texts, numbers and
arrays of numbers.
"""

from __future__ import annotations

import pickle
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stemseg.modeling.weights import find_checkpoint, load_weights_file
from stemseg.utils.errors import CheckpointError
from stemseg.utils.files import user_path
from stemseg.utils.text import shorten_list

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
    path = user_path(source)
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
        raise CheckpointError(f"{source} holds no tensors; found the keys {shorten_list(content)}")
    return tensors


def _without_prefix(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


_NUMBER_CODE = re.compile(r"[?]|[biuf]\d{1,2}")


def read_pickle(path: Path) -> Any:
    """The content of a pickle of arrays, written by Python 2 or 3.

    Raises:
        CheckpointError: where the file is missing, damaged, or names anything but arrays of numbers.
    """
    with find_checkpoint(path).open("rb") as file:
        try:
            # Python 2 wrote texts and array contents as bytes: latin1 keeps each byte
            return _plain(_ArrayUnpickler(file, encoding="latin1").load())
        except _ForbiddenName as error:
            raise CheckpointError(
                f"{path} wants to call '{error}', but a weights file needs nothing besides arrays of numbers. Nothing "
                "of it was run. Do not open the file with other programs unless you trust where it comes from"
            ) from None
        except RecursionError:
            raise CheckpointError(
                f"{path} holds containers within containers without end; it is no weights file"
            ) from None
        except Exception as error:  # a damaged pickle program can fail in any way
            raise CheckpointError(f"{path} cannot be read as a pickle of arrays ({error}); download it again") from None


class _ForbiddenName(Exception):
    """The pickle names something that is not allowed."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if found is None:
            raise _ForbiddenName(f"{module}.{name}")
        return found


class _NumberType:
    """Stands in for ``numpy.dtype`` of a kind of number."""

    def __init__(self, code: str, *flags: Any) -> None:
        if not _NUMBER_CODE.fullmatch(code):
            raise _ForbiddenName(f"numpy.dtype of {code!r}")
        self._code = code
        self._order: Literal["<", ">", "|", "="] = "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1] if state[1] in ("<", ">", "|") else "="

    def numpy(self) -> np.dtype:
        """The real type."""
        return np.dtype(self._code).newbyteorder(self._order)


class _Array:
    """Stands in for ``numpy.ndarray``."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        shape, number_type, is_fortran, content = state[-4:]
        flat = np.frombuffer(_as_bytes(content), dtype=number_type.numpy())
        self.value = flat.reshape(shape, order="F" if is_fortran else "C").copy()


def _array_class() -> None:
    """Stands in for the name ``numpy.ndarray``, which pickles give to ``_reconstruct``."""


def _reconstruct(*unused: Any) -> _Array:
    return _Array()


def _scalar(number_type: _NumberType, content: str | bytes) -> float | int | bool:
    return np.frombuffer(_as_bytes(content), dtype=number_type.numpy())[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for ``_codecs.encode``, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise _ForbiddenName(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, by which Python 3 writes empty bytes in old protocols."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): _array_class,
    ("numpy", "dtype"): _NumberType,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


def _as_bytes(content: str | bytes) -> bytes:
    return content.encode("latin1") if isinstance(content, str) else content


def _plain(value: Any) -> Any:
    """Stand-ins replaced by the arrays that they hold, in all containers."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    return value
