"""Weights from files: checkpoints, plain state dicts, pretrained backbones. Nothing pickled is ever executed."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from stemseg.utils.errors import CheckpointError
from stemseg.utils.files import user_path, write_file
from stemseg.utils.text import first_line, shorten_list, shown

MODELS_DIR_VARIABLE = "STEMSEG_MODELS_DIR"
_START = 512  # bytes that tell what a file is
_TEXT_BYTES = bytes([9, 10, 13, *range(32, 127)])
PRETRAINED_DIR = Path(__file__).resolve().parents[1] / "pretrained"  # of models that ship with the package
_OTHER_CONFIGURATION = "is the configuration (--cfg, or config.yaml beside the checkpoint) the one it was trained with?"


def models_dir() -> Path:
    """The folder of pretrained weights and checkpoints, ``$STEMSEG_MODELS_DIR``.

    Raises:
        CheckpointError: where the variable is not set.
    """
    value = os.environ.get(MODELS_DIR_VARIABLE)
    if not value:
        raise CheckpointError(
            f"the environment variable {MODELS_DIR_VARIABLE} is not set; set it to the folder that pretrained weights "
            "are read from (its 'pretrained') and checkpoints are written to (its 'checkpoints')"
        )
    return user_path(value)


def pretrained_names() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.stem for path in PRETRAINED_DIR.glob("*.pth"))


def find_checkpoint(name_or_path: str | Path) -> Path:
    """The file that a user means by a path, or by the name of a model that ships with the package.

    Raises:
        CheckpointError: where it is neither; lists the names.
    """
    path = user_path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in pretrained_names():
        return PRETRAINED_DIR / f"{name_or_path}.pth"
    names = ", ".join(pretrained_names()) or "none"
    found = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
    raise CheckpointError(
        f"weights file {name_or_path} {found}; the README's section 'Links' says where published ones are. Give a "
        f"checkpoint's path, or the name of a model that ships with the package: {names}"
    )


def load_weights_file(path: str | Path, *, weights_needed: bool = True) -> Any:
    """The content of a file that ``torch.save`` wrote: tensors, numbers, texts and containers of them, on the CPU.

    Args:
        weights_needed: False where only what stands beside the tensors is of interest; theirs is then left on the disk.

    Raises:
        CheckpointError: where the file is missing, damaged or holds anything else.
    """
    path = find_checkpoint(path)
    _refuse_other_files(path)
    _check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            lazily = not weights_needed and _is_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=lazily)
    except pickle.UnpicklingError as error:
        # PyTorch's own message is not passed on: it advises to load the file unsafely
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise CheckpointError(
            f"{path} {f'holds {name[1]}' if name else 'is damaged or holds other objects'}, expected tensors, numbers "
            "and texts alone, since loading others could run foreign code. Save its state dict alone with torch.save, "
            "or convert a backbone with stemseg-convert-backbone"
        ) from None
    except Exception as error:  # a damaged archive or pickle program can fail in any way
        reason = "" if "weights_only" in str(error) else f" ({type(error).__name__}: {first_line(error)})"
        raise CheckpointError(
            f"{path} can't be read as a PyTorch file{reason}; was it downloaded or copied completely? Do it again"
        ) from None


def _refuse_other_files(path: Path) -> None:
    """Say what a file is that begins as no file of PyTorch's does: a failed download, most of the time.

    Raises:
        CheckpointError: where it is empty or a text.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    head = start.lstrip().lower()
    if not start:
        found = "is empty"
    elif head.startswith(b"version https://git-lfs"):
        found = "is a pointer of Git LFS, not the file itself; run `git lfs pull` in its repository"
    elif head.startswith((b"<!doctype", b"<html", b"<?xml")):
        found = "is a web page, not the file itself; open it in a browser to see what went wrong"
    elif not start.translate(None, _TEXT_BYTES):
        found = f"is a text ({shown(start[:60].decode('latin1'))})"
    else:
        return
    raise CheckpointError(f"{path} {found}, expected a file that torch.save wrote; download or copy it again")


def _check_archive(path: Path) -> None:
    """Compare the records of a file with the checksums that ``torch.save`` wrote beside them; PyTorch does not.

    Raises:
        CheckpointError: naming a record that was changed since, by a flipped bit, say.
    """
    if not _is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
                raise CheckpointError(f"{path} holds compressed records, which torch.save does not write; save it anew")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        damaged = first_line(error)
    if damaged:
        raise CheckpointError(
            f"{path} is damaged: its record {damaged} does not fit the checksum that it was written with. Take an "
            "earlier checkpoint, or download or copy the file again"
        )


def _is_archive(path: Path) -> bool:
    """Whether a file begins and ends as a zip archive; those that torch before 1.6 wrote do not, nor have checksums."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" and zipfile.is_zipfile(path)


def _numpy_globals() -> list[Any]:
    """NumPy's arrays and numbers, which stand beside the model in many training checkpoints and run no code.

    Each under the names that NumPy 1 and NumPy 2 write.
    """
    functions = {"_reconstruct": np.zeros(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    aliases = [(function, f"{module}.{name}") for name, function in functions.items() for module in modules]
    number_types = [type(np.dtype(t)) for t in (np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8)]
    return [*aliases, np.ndarray, np.dtype, *number_types]


def save_weights_file(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write what :func:`load_weights_file` reads, whole or not at all.

    Raises:
        OutputError: where the file can't be written.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # torch's, raised over the operating system's error: a full disk, say
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    write_file(path, write)


def load_model_weights(network: nn.Module, name_or_path: str | Path) -> None:
    """Load the weights of a checkpoint, a shipped model or a plain state dict into a network, strictly.

    Args:
        name_or_path: see :func:`find_checkpoint`.

    Raises:
        CheckpointError: where the file can't be read or its keys and shapes differ from the network's.
    """
    path = find_checkpoint(name_or_path)
    load_state(network, _model_of(load_weights_file(path)), where=path, next_step=_OTHER_CONFIGURATION)


def check_model_weights(network: nn.Module, name_or_path: str | Path) -> None:
    """Refuse a checkpoint that :func:`load_model_weights` would refuse, at once, without its numbers in memory.

    Raises:
        CheckpointError: as :func:`load_model_weights` does.
    """
    path = find_checkpoint(name_or_path)
    content = load_weights_file(path, weights_needed=False)
    check_state(network, _model_of(content), where=path, next_step=_OTHER_CONFIGURATION)


def _model_of(content: Any) -> Any:
    """The state dict in a checkpoint; what is none is its own."""
    has_others = isinstance(content, Mapping) and isinstance(content.get("model"), Mapping)
    return content["model"] if has_others else content


def load_pretrained_backbone(backbone: nn.Module, name_or_path: str | Path) -> None:
    """Load a pretrained backbone (keys ``body.*`` and ``fpn.*``) strictly.

    Args:
        name_or_path: an existing file, or the name of one in ``$STEMSEG_MODELS_DIR/pretrained``.

    Raises:
        CheckpointError: where the file is missing or does not fit.
    """
    path = user_path(name_or_path)
    if not path.is_file():
        path = models_dir() / "pretrained" / name_or_path
    if not path.is_file():
        raise CheckpointError(
            f"pretrained backbone '{name_or_path}' is neither a file nor in {path.parent}; put it there, make one with "
            "stemseg-convert-backbone, or train from scratch: MODEL.BACKBONE.PRETRAINED_WEIGHTS=null "
            "MODEL.BACKBONE.NORM=group MODEL.BACKBONE.FREEZE_AT_STAGE=0"
        )
    load_state(
        backbone,
        load_weights_file(path),
        where=path,
        next_step="do MODEL.BACKBONE.TYPE and NORM fit the file? stemseg-convert-backbone converts other formats",
    )


def load_state(module: nn.Module, state: Any, *, where: str | Path, next_step: str) -> None:
    """Load a state dict into a module, strictly: all of it or, with an error, nothing; see :func:`check_state`."""
    module.load_state_dict(check_state(module, state, where=where, next_step=next_step), strict=True)


def check_state(module: nn.Module, state: Any, *, where: str | Path, next_step: str) -> dict[str, Tensor]:
    """The state dict that fits a module.

    Args:
        state: as it was read: names, also those of a process that was wrapped for distributed training, and tensors.
        where: the file, for messages.
        next_step: what a user can do where the file does not fit.

    Raises:
        CheckpointError: where it is no state dict, keys and shapes differ from the module's, or a number is not finite.
    """
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise CheckpointError(
            f"{where} holds no state dict (names and tensors), found a {type(state).__name__}; is it a checkpoint?"
        )
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = module.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} (file {list(state[key].shape)}, network {list(own[key].shape)})"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    found = "; ".join(f"{len(keys)} {kind}: {shorten_list(keys)}" for kind, keys in problems.items() if keys)
    if found:
        raise CheckpointError(f"{where} does not fit the network: {found}. Next: {next_step}")
    kinds = [f"{key} ({_kind(state[key])})" for key, value in own.items() if not _is_alike(state[key], value)]
    if kinds:
        raise CheckpointError(
            f"{where} holds {len(kinds)} tensors that are no plain numbers of the network's kind: "
            f"{shorten_list(kinds)}; save the network's own state dict with torch.save"
        )
    refuse_non_finite(state, where)
    return state


def _is_alike(saved: Tensor, own: Tensor) -> bool:
    """Whether a tensor holds numbers, one beside the other, that can stand where another's do without loss of kind."""
    is_plain = saved.layout == torch.strided and saved.device.type == "cpu" and not saved.is_quantized
    return is_plain and not saved.is_complex() and saved.is_floating_point() == own.is_floating_point()


def _kind(tensor: Tensor) -> str:
    return " ".join(map(str, (tensor.layout, tensor.dtype, tensor.device.type))).replace("torch.", "")


def refuse_non_finite(state: Mapping[str, Tensor], where: str | Path) -> None:
    """Raise where a tensor holds NaN or infinity: with such weights a network finds nothing, without a word.

    Raises:
        CheckpointError: naming ``where`` and the tensors.
    """
    found = non_finite_names(state)
    if found:
        raise CheckpointError(
            f"{where} is damaged: {len(found)} tensors hold values that are not finite: {shorten_list(found)}. Take an "
            "earlier checkpoint, or download or copy the file again"
        )


def non_finite_names(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    finite = {name: tensor.isfinite().all() for name, tensor in state.items() if tensor.is_floating_point()}
    return [name for name, is_finite in finite.items() if not is_finite]
