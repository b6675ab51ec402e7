"""Weights files: what loads, and what the errors say about what does not."""

import errno
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from stemseg.modeling.weights import (
    find_checkpoint,
    load_model_weights,
    load_pretrained_backbone,
    load_weights_file,
    models_dir,
    save_weights_file,
)
from stemseg.utils.errors import CheckpointError, OutputError


def model():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


WRAPPERS = {
    "a plain state dict": lambda state: state,
    "a training checkpoint": lambda state: {"model": state, "iterations": 7, "logger": {"loss": np.float64(0.5)}},
    "one of a distributed run": lambda state: {f"module.{key}": value for key, value in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_weights_come_back(tmp_path, wrap):
    source, target = model(), model()
    load_model_weights(target, saved(tmp_path, wrap(source.state_dict())))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_every_difference_is_named_and_nothing_is_loaded(tmp_path):
    state = model().state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.zeros(1)
    state["1.weight"] = torch.zeros(1, 4)
    target = model()
    before = [p.clone() for p in target.parameters()]
    with pytest.raises(CheckpointError) as error:
        load_model_weights(target, saved(tmp_path, state))
    message = str(error.value)
    assert "1 missing: 0.bias" in message
    assert "1 unexpected: 2.weight" in message
    assert "1.weight (file [1, 4], network [1, 3])" in message
    assert "configuration" in message
    assert all(torch.equal(a, b) for a, b in zip(before, target.parameters(), strict=True))


class Executes:
    def __reduce__(self):
        return eval, ("1 + 1",)


def test_pickled_code_is_not_run(tmp_path):
    with pytest.raises(CheckpointError, match="could run foreign code"):
        load_weights_file(saved(tmp_path, {"model": Executes()}))
    path = tmp_path / "legacy.pkl"
    path.write_bytes(pickle.dumps(Executes(), protocol=2))
    with pytest.raises(CheckpointError, match=r"legacy\.pkl"):
        load_weights_file(path)


def test_damaged_and_missing_files_are_named(tmp_path):
    path = saved(tmp_path, model().state_dict())
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"weights.pth can't be read .* completely\?"):
        load_weights_file(path)
    with pytest.raises(CheckpointError, match=r"no\.pth does not exist"):
        load_weights_file(tmp_path / "no.pth")


def test_what_is_saved_is_read(tmp_path):
    save_weights_file(tmp_path / "new" / "a.pth", {"model": model().state_dict(), "iterations": 3})
    assert load_weights_file(tmp_path / "new" / "a.pth")["iterations"] == 3


@pytest.mark.parametrize("wrapped", [True, False], ids=["as torch reports it", "as the system reports it"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, wrapped):
    path = saved(tmp_path, {"model": {}})
    before = path.read_bytes()

    def fill_up(content, file):
        file.write(b"half a checkp")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            if wrapped:
                raise RuntimeError("unexpected pos 704 vs 598") from error
            raise

    monkeypatch.setattr(torch, "save", fill_up)
    with pytest.raises(OutputError, match=r"could not write .*weights\.pth: No space left on device; free some"):
        save_weights_file(path, {"model": {}})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pth"]


def test_a_file_without_a_state_dict_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_model_weights(model(), saved(tmp_path, [1, 2]))
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_model_weights(model(), saved(tmp_path, {"iterations": 3}))


def test_pretrained_backbones_are_found_by_name_or_path(tmp_path, monkeypatch):
    source, target = model(), model()
    folder = tmp_path / "pretrained"
    folder.mkdir()
    path = saved(folder, source.state_dict())
    monkeypatch.setenv("STEMSEG_MODELS_DIR", str(tmp_path))
    assert models_dir() == tmp_path
    for name in ("weights.pth", path):
        target = model()
        load_pretrained_backbone(target, name)
        assert torch.equal(target[0].weight, source[0].weight)
    with pytest.raises(CheckpointError, match=r"'other.pth' is neither .*pretrained.*stemseg-convert-backbone"):
        load_pretrained_backbone(model(), "other.pth")


def test_an_unset_models_folder_is_named(monkeypatch):
    monkeypatch.delenv("STEMSEG_MODELS_DIR", raising=False)
    with pytest.raises(CheckpointError, match="STEMSEG_MODELS_DIR is not set"):
        models_dir()
    with pytest.raises(CheckpointError, match="STEMSEG_MODELS_DIR is not set"):
        load_pretrained_backbone(model(), "other.pth")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    for value in (float("nan"), float("inf")):
        state = nn.Linear(2, 3).state_dict()
        state["weight"][1, 0] = value
        torch.save({"model": state}, tmp_path / "bad.pth")
        network = nn.Linear(2, 3)
        with pytest.raises(CheckpointError, match=r"bad.pth is damaged: 1 tensors .*not finite: weight"):
            load_model_weights(network, tmp_path / "bad.pth")
        assert network.weight.isfinite().all()


def test_a_flipped_bit_is_noticed(tmp_path):
    """PyTorch compares no checksum; the number need not even be strange."""
    path = tmp_path / "model.pth"
    save_weights_file(path, {"model": {"weight": torch.full((50, 50), 0.5)}, "iterations": 3})
    assert load_weights_file(path)["iterations"] == 3
    content = bytearray(path.read_bytes())
    content[content.index(np.float32(0.5).tobytes() * 8) + 401] ^= 1
    path.write_bytes(bytes(content))
    for weights_needed in (True, False):
        with pytest.raises(
            CheckpointError, match=r"model.pth is damaged: its record .*data/0 does not fit the checksum"
        ):
            load_weights_file(path, weights_needed=weights_needed)


def test_a_flipped_bit_anywhere_in_what_a_checkpoint_holds_is_noticed(tmp_path):
    """Every tensor's record and the pickle program; a bit in the archive's own lists is noticed, or means nothing."""
    torch.manual_seed(0)
    path = tmp_path / "000003.pth"
    tensors = {f"layer{i}.weight": torch.randn(40, 30) for i in range(5)}
    save_weights_file(path, {"model": tensors, "optimizer": {"state": {0: {"m": torch.randn(9)}}}, "iterations": 3})
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        ends = [entry.header_offset for entry in entries[1:]] + [archive.start_dir]
    assert sum("/data/" in entry.filename for entry in entries) == 6
    for entry, end in zip(entries, ends, strict=True):
        content = bytearray(sound)
        position = sound.rindex(archive_content(path, entry.filename), entry.header_offset, end) + entry.file_size // 2
        content[position] ^= 4
        path.write_bytes(bytes(content))
        with pytest.raises(CheckpointError, match=r"000003.pth is damaged: its record .* does not fit the checksum"):
            load_weights_file(path)
        path.write_bytes(sound)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(sound), 150).tolist():
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 16]) + sound[position + 1 :])
        try:
            found = load_weights_file(path)
        except CheckpointError as error:
            assert "000003.pth" in str(error)
        else:
            assert found["iterations"] == 3
            assert all(torch.equal(found["model"][name], value) for name, value in tensors.items())
    path.write_bytes(sound)


def archive_content(path, name):
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


@pytest.mark.parametrize(
    "change", [torch.Tensor.int, torch.Tensor.to_sparse, lambda t: t.to(torch.complex64), lambda t: t.to("meta")]
)
def test_tensors_of_another_kind_are_refused(tmp_path, change):
    network = nn.Linear(2, 3)
    torch.save({"model": {**network.state_dict(), "weight": change(network.weight.detach())}}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd.pth holds 1 tensors that are no plain numbers.*: weight \("):
        load_model_weights(network, tmp_path / "odd.pth")


def test_what_is_no_file_and_what_is_no_archive_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="/dev/null is no regular file"):
        find_checkpoint("/dev/null")
    save_weights_file(tmp_path / "a.pth", {"model": {}})
    (tmp_path / "a.pth").write_bytes(bytes(10) + (tmp_path / "a.pth").read_bytes())
    with pytest.raises(CheckpointError) as caught:
        load_weights_file(tmp_path / "a.pth", weights_needed=False)
    assert "mmap" not in str(caught.value)


def test_files_of_old_torch_have_no_checksums_and_are_read(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_weights_file(tmp_path / "old.pth")["weight"], torch.ones(2))
