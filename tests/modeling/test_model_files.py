"""Models in one file, and those that ship with the package by their name."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stemseg.modeling import weights
from stemseg.modeling.model_files import ModelInfo, check_class_names, pack_model, read_model_info
from stemseg.modeling.weights import find_checkpoint, load_model_weights, pretrained_names
from stemseg.utils.errors import CheckpointError

INFO = ModelInfo(
    config={"INPUT": {"NUM_CLASSES": 3, "IMAGE_MEAN": [1.0, 2.0]}},
    category_names={1: "cat", 2: "dog"},
    about={"license": "for research only"},
)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models that holds "tiny"."""
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path / "pretrained")
    (tmp_path / "pretrained").mkdir()
    torch.manual_seed(0)
    torch.save(pack_model(model().state_dict(), INFO), tmp_path / "pretrained" / "tiny.pth")
    return tmp_path / "pretrained" / "tiny.pth"


def test_a_packed_model_comes_back_in_half_precision(shipped: Path) -> None:
    assert read_model_info(shipped) == INFO
    torch.manual_seed(0)
    source, target = model(), model()
    load_model_weights(target, "tiny")
    assert {value.dtype for value in target.parameters()} == {torch.float32}
    for name, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], value, rtol=1e-3, atol=1e-6)
    assert not torch.equal(target[0].weight, source[0].weight)  # it did go through float16
    assert shipped.stat().st_size < 10_000


def test_full_precision_can_be_kept() -> None:
    state = model().state_dict()
    packed = pack_model(state, INFO, half=False)["model"]
    assert all(torch.equal(packed[name], value) for name, value in state.items())


def test_names_are_resolved_after_paths(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pretrained_names() == ["tiny"]
    assert find_checkpoint("tiny") == shipped
    assert find_checkpoint(shipped) == shipped
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"")
    assert find_checkpoint("tiny") == Path("tiny")


def test_an_unknown_name_lists_the_known_ones(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights file huge does not exist; .*: tiny$"):
        load_model_weights(model(), "huge")
    with pytest.raises(CheckpointError, match="is a folder"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_other_checkpoints_say_nothing_of_their_model(tmp_path: Path, legacy: bool) -> None:
    zipped = {"_use_new_zipfile_serialization": not legacy}
    torch.save(model().state_dict(), tmp_path / "plain.pth", **zipped)
    assert read_model_info(tmp_path / "plain.pth") == ModelInfo()
    torch.save({"model": model().state_dict(), "category_names": {1: "cat"}}, tmp_path / "run.pth", **zipped)
    assert read_model_info(tmp_path / "run.pth") == ModelInfo(category_names={1: "cat"})


def test_damaged_entries_are_named(tmp_path: Path) -> None:
    torch.save({"model": {}, "config": [1]}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="'config' is a list, expected a dictionary"):
        read_model_info(tmp_path / "a.pth")


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(CheckpointError, match="needs its configuration"):
        pack_model({}, ModelInfo())
    with pytest.raises(CheckpointError, match="weight big holds values that float16 can't"):
        pack_model({"big": torch.tensor([1e6])}, INFO)


@pytest.mark.parametrize("names", [{1: "cat", "1": "dog", 2: "cow"}, {1: "cat"}, {0: "cat", 1: "dog"}])
def test_names_of_other_classes_than_the_network_has_are_refused(tmp_path, names):
    torch.save({"model": {}, "category_names": names}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth: 'category_names' names .*expected"):
        check_class_names(read_model_info(tmp_path / "a.pth"), 3, tmp_path / "a.pth")
