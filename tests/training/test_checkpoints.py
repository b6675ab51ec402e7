"""Checkpoints are whole or absent, damage is named with the way out"""

import json

import pytest
import torch

from stemseg.modeling.model_files import read_model_info
from stemseg.training.checkpoints import CheckpointStore, check_resumable, read_checkpoint
from stemseg.utils.errors import CheckpointError, TrainingError
from tests.helpers.tiny_training import make_trainer

CONTENT = {"model": {"w": torch.ones(2)}, "optimizer": {"state": {}, "param_groups": []}, "iterations": 3}


def test_what_is_written_is_read(tmp_path):
    path = CheckpointStore(tmp_path / "run", keep=1).save(CONTENT, 3)
    assert path.name == "000003.pth"
    content = read_checkpoint(path)
    assert content["iterations"] == 3 and torch.equal(content["model"]["w"], torch.ones(2))


def test_only_the_newest_are_kept_and_other_files_are_left_alone(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    (tmp_path / "best.pth").touch()
    for iteration in (5, 10, 999999, 1000000):
        store.save(CONTENT, iteration)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1000000.pth", "999999.pth", "best.pth"]
    assert store.newest() == tmp_path / "1000000.pth"


def test_zero_keeps_all(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    for iteration in range(4):
        store.save(CONTENT, iteration)
    assert store.iterations() == [0, 1, 2, 3]


def test_damage_names_the_next_older_file(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    for iteration in (1, 2, 3):
        store.save(CONTENT, iteration)
    data = store.path(3).read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"nonsense"):
        store.path(3).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"000003.pth .*--restore_session .*000002.pth"):
            read_checkpoint(store.newest())
    store.path(1).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no older one"):
        read_checkpoint(store.path(1))


def test_nothing_but_weights_is_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({**CONTENT, "logger": Evil()}, tmp_path / "000001.pth")
    with pytest.raises(CheckpointError, match="holds print, expected tensors"):
        read_checkpoint(tmp_path / "000001.pth")


def test_bare_weights_are_not_a_session(tmp_path):
    torch.save({"model": {}}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"no optimizer, iterations.*--initial_ckpt"):
        read_checkpoint(tmp_path / "weights.pth")


def test_setting_aside_keeps_earlier_files_and_loses_none(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    for _ in range(2):
        for iteration in (1, 2, 3):
            store.save(CONTENT, iteration)
        store.set_aside(after=1)
    assert store.iterations() == [1]
    assert len(list(tmp_path.glob("set_aside_*/*.pth"))) == 4


def test_the_best_is_the_highest_of_this_run(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    assert store.save_best({"a": 1}, 10, 0.5, measure="AP")
    assert not store.save_best({"a": 2}, 20, 0.5, measure="AP")
    assert store.save_best({"a": 3}, 30, 0.6, measure="AP")
    assert torch.load(tmp_path / "best.pth", weights_only=True) == {"a": 3}
    assert store.save_best({"a": 4}, 25, 0.1, measure="AP"), "iteration 30 is of a time line that was left"


def test_a_new_run_sets_the_best_of_an_earlier_one_aside(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    store.save_best({"a": 1}, 10, 0.5, measure="AP")
    store.set_aside(after=10)
    assert (tmp_path / "best.pth").exists()
    store.set_aside(after=-1)
    assert not (tmp_path / "best.pth").exists()
    assert (tmp_path / "set_aside_1" / "best.pth").exists()
    assert store.save_best({"a": 2}, 20, 0.1, measure="AP")


def test_the_best_names_its_measure_and_another_one_is_not_compared(tmp_path):
    store = CheckpointStore(tmp_path, keep=0)
    assert store.save_best(CONTENT, 1, 0.9, measure="AP")
    assert not store.save_best(CONTENT, 2, 0.5, measure="AP")
    assert store.save_best(CONTENT, 3, 0.5, measure="J&F")
    record = json.loads((tmp_path / "best.json").read_text())
    assert record == {"iteration": 3, "value": 0.5, "measure": "J&F"}


def test_settings_of_the_optimizer_are_the_configurations(tmp_path):
    make_trainer(tmp_path, "TRAINING.MAX_ITERATIONS=2").run()
    changed = ("TRAINING.WEIGHT_DECAY=0.25", "TRAINING.MOMENTUM=0.5", "TRAINING.NESTEROV=true")
    optimizer = make_trainer(tmp_path, *changed).state.optimizer
    group = optimizer.param_groups[0]
    assert (group["weight_decay"], group["momentum"], group["nesterov"]) == (0.25, 0.5, True)
    assert all("momentum_buffer" in state for state in optimizer.state.values()) and optimizer.state
    with pytest.raises(CheckpointError, match=r"000002.pth was trained with SGD, but TRAINING.OPTIMIZER is Adam"):
        make_trainer(tmp_path, "TRAINING.OPTIMIZER=Adam")


def test_states_that_are_not_finite_are_neither_saved_nor_resumed(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.run()
    with torch.no_grad():
        trainer.state.training_loss.network.layers[0].weight[0, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"after iteration 6 1 weights are not finite: layers.0.weight"):
        trainer.state.capture()
    content = torch.load(tmp_path / "000006.pth", weights_only=True)
    content["optimizer"]["state"][0]["momentum_buffer"][0] = float("nan")
    torch.save(content, tmp_path / "000006.pth")
    with pytest.raises(CheckpointError, match=r"000006.pth is damaged.*momentum_buffer of parameter 0"):
        make_trainer(tmp_path)


def test_a_checkpoint_tells_configuration_and_classes_and_other_classes_are_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.state.category_names = {1: "cat", 2: "dog"}
    trainer.state.config = {"INPUT": {"NUM_CLASSES": 3}}
    path = CheckpointStore(tmp_path, keep=0).save(trainer.state.capture(), 1)
    info = read_model_info(path)
    assert info.category_names == {1: "cat", 2: "dog"} and info.config == {"INPUT": {"NUM_CLASSES": 3}}
    trainer.state.restore(path)
    trainer.state.category_names = {1: "dog", 2: "cat"}
    with pytest.raises(
        CheckpointError, match=r"classes {1: 'cat', 2: 'dog'}, but the data now have {1: 'dog', 2: 'cat'}"
    ):
        trainer.state.restore(path)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("iterations", ["3", -1, 1.5, None, [1], True, 10**12]),
        ("glow_iterations", ["x", -1, [], {}]),
        ("optimizer", [None, [], "x", 3, {}, {"state": [1], "param_groups": []}, {"state": {}, "param_groups": ["x"]}]),
        ("optimizer", [{"state": {0: "x"}, "param_groups": [{"params": [0]}]}]),
    ],
)
def test_what_stands_beside_the_weights_is_checked(tmp_path, key, values):
    make_trainer(tmp_path).run()
    path = tmp_path / "000006.pth"
    content = torch.load(path, weights_only=True)
    for value in values:
        torch.save({**content, key: value}, path)
        with pytest.raises(CheckpointError, match=rf"000006.pth: .*{key}.*000004.pth"):
            read_checkpoint(path)


def test_moments_of_another_shape_and_classes_that_are_none_are_refused(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.run()
    path = tmp_path / "000006.pth"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "category_names": {"a": 1}}, path)
    with pytest.raises(CheckpointError, match="'category_names'"):
        check_resumable(trainer.state.training_loss.network, path)
    moments = content["optimizer"]["state"][0]
    name = next(name for name, value in moments.items() if torch.is_tensor(value) and value.dim())
    moments[name] = torch.zeros(3)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"{name} of shape \[3\], expected"):
        trainer.state.restore(path)


@pytest.mark.parametrize(
    "log",
    [None, [], "x", {"means": {"strange": {}}}, {"recent_seconds": ["x"]}, {"total_seconds": "x"},
     {"means": {"display": {"sums": {"a": "x"}, "count": 0}}}],
)  # fmt: skip
def test_the_log_of_another_implementation_is_left_aside(tmp_path, log):
    trainer = make_trainer(tmp_path)
    trainer.run()
    content = torch.load(tmp_path / "000006.pth", weights_only=True)
    torch.save({**content, "logger": log}, tmp_path / "000006.pth")
    trainer.state.restore(tmp_path / "000006.pth")
    assert trainer.state.progress.iterations == 6
