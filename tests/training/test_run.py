"""A run starts from nothing, from other weights, or from where it was; its configuration is kept and shown."""

import logging
from pathlib import Path

import pytest
import torch

from stemseg.config import load_config
from stemseg.training.checkpoints import CheckpointStore
from stemseg.training.run import StartFrom, config_changes, record_config, run_directory, start_run
from stemseg.utils.errors import CheckpointError
from tests.helpers.tiny_training import make_trainer

CFG = load_config(None)


@pytest.fixture
def finished_run(tmp_path) -> Path:
    """A directory with the checkpoints of iterations 4 and 6."""
    make_trainer(tmp_path / "run").run()
    return tmp_path / "run"


def _start(directory: Path, start: StartFrom):
    state = make_trainer(directory.parent / "nothing here").state
    start_run(state, CheckpointStore(directory, keep=0), start, CFG, is_main=True)
    return state


def _equals_checkpoint(state, path: Path) -> bool:
    saved = torch.load(path, weights_only=True)["model"]
    return all(torch.equal(value, saved[name]) for name, value in state.training_loss.network.state_dict().items())


def test_the_newest_checkpoint_is_resumed(finished_run):
    state = _start(finished_run, StartFrom())
    assert state.progress.iterations == 6
    assert _equals_checkpoint(state, finished_run / "000006.pth")


def test_an_explicit_checkpoint_wins_and_later_ones_are_moved_aside(finished_run):
    state = _start(finished_run, StartFrom(restore_session=finished_run / "000004.pth"))
    assert state.progress.iterations == 4
    assert CheckpointStore(finished_run, keep=0).iterations() == [4]
    assert (finished_run / "set_aside_1" / "000006.pth").is_file()


def test_starting_anew_moves_all_aside(finished_run):
    state = _start(finished_run, StartFrom(resume=False))
    assert state.progress.iterations == 0
    assert CheckpointStore(finished_run, keep=0).iterations() == []
    assert len(list((finished_run / "set_aside_1").iterdir())) == 2


def test_initial_weights_start_a_new_run_with_the_model_alone(finished_run, tmp_path):
    state = _start(tmp_path / "new", StartFrom(initial_ckpt=finished_run / "000006.pth"))
    assert state.progress.iterations == 0
    assert not state.optimizer.state_dict()["state"]
    assert _equals_checkpoint(state, finished_run / "000006.pth")


def test_initial_weights_of_other_classes_are_told(finished_run, caplog):
    """They fit, where there are as many: a forgotten class map would go unnoticed."""
    path = finished_run / "000006.pth"
    content = torch.load(path, weights_only=True)
    for names, told in (({1: "cat"}, False), ({1: "dog"}, True), ({}, False)):
        torch.save({**content, "category_names": names}, path)
        state = make_trainer(finished_run.parent / "nothing here").state
        state.category_names = {1: "cat"}
        caplog.clear()
        store = CheckpointStore(finished_run.parent / "new", keep=0)
        start_run(state, store, StartFrom(initial_ckpt=path), CFG, is_main=True)
        assert ("was trained on the classes {1: 'dog'}, this run has {1: 'cat'}" in caplog.text) == told


def test_another_network_is_named_with_the_way_out(finished_run):
    path = finished_run / "000006.pth"
    content = torch.load(path, weights_only=True)
    content["model"] = {"other.weight": torch.zeros(1)}
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"(?s)does not fit the network.*other\.weight.*--initial_ckpt"):
        _start(finished_run, StartFrom())


def test_run_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("STEMSEG_MODELS_DIR", str(tmp_path))
    assert run_directory(CFG, "mine") == tmp_path / "checkpoints" / "davis" / "mine"
    monkeypatch.delenv("STEMSEG_MODELS_DIR")
    assert run_directory(CFG, str(tmp_path / "x")) == tmp_path / "x"
    with pytest.raises(CheckpointError, match="STEMSEG_MODELS_DIR is not set"):
        run_directory(CFG, "mine")


def test_changes_of_the_configuration_are_told(tmp_path, caplog):
    record_config(CFG, tmp_path, resumed=False)
    changed = load_config(None, ["TRAINING.INITIAL_LR=0.5"])
    with caplog.at_level(logging.WARNING):
        record_config(changed, tmp_path, resumed=True)
    assert "TRAINING.INITIAL_LR: 0.001 -> 0.5" in caplog.text
    assert load_config(tmp_path / "config.yaml").to_dict() == changed.to_dict()
    assert list(config_changes(CFG.to_dict(), CFG.to_dict())) == []
