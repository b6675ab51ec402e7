"""The loop: its intervals, its hooks, and what it does when the loss explodes."""

import cv2
import numpy as np
import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from tiny_training import TinyDataset, make_trainer

from stemseg.utils.errors import TrainingError


def _events(directory):
    """(tag, step) of every value in TensorBoard's files."""
    found = []
    for path in directory.glob("events*"):
        data, position = path.read_bytes(), 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 8], "little")
            event = Event.FromString(data[position + 12 : position + 12 + length])
            found += [(value.tag, event.step) for value in event.summary.value]
            position += length + 16
    return found


def test_checkpoints_are_written_at_intervals_and_at_the_end(tmp_path):
    make_trainer(tmp_path, settings={"max_iterations": 5}).run()
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["000004.pth", "000005.pth"]


def test_workers_start_after_opencv_used_its_threads(tmp_path):
    cv2.setNumThreads(2)
    cv2.resize(np.zeros((500, 500, 3), np.float32), (3000, 3000))
    assert make_trainer(tmp_path, settings={"num_workers": 1}).run()  # a forked pool without its threads would hang


def test_a_complete_run_has_nothing_left_to_do(tmp_path):
    make_trainer(tmp_path).run()
    before = (tmp_path / "000006.pth").stat().st_mtime_ns
    assert make_trainer(tmp_path).run()
    assert (tmp_path / "000006.pth").stat().st_mtime_ns == before


def test_scalars_and_pictures_reach_tensorboard(tmp_path):
    def paint(batch, output):
        assert batch.frames.shape[0] == 1 and not output.requires_grad
        return {"clip": np.zeros((4, 5, 3), np.uint8)}

    make_trainer(tmp_path, logs=tmp_path / "logs", paint=paint, settings={"picture_interval": 3}).run()
    events = _events(tmp_path / "logs")
    for name in ("loss/total", "loss/area", "optimization/learning_rate", "optimization/gradient_norm"):
        assert [step for tag, step in events if tag == name] == [2, 4, 6]
    assert ("time/data_wait_seconds", 2) in events and ("time/iteration_seconds", 2) in events
    assert [step for tag, step in events if tag == "clip"] == [3, 6]


def test_evaluation_is_without_gradient_and_training_goes_on_in_training_mode(tmp_path):
    seen = []

    def evaluate(network, iteration):
        seen.append((iteration, network.training, torch.is_grad_enabled()))
        return {"validation/score": 0.5}

    trainer = make_trainer(
        tmp_path, logs=tmp_path / "logs", evaluate=evaluate, settings={"evaluation_interval": 4, "max_iterations": 5}
    )
    trainer.run()
    assert seen == [(4, False, False)]
    assert ("validation/score", 4) in _events(tmp_path / "logs")
    assert trainer._state.training_loss.network.training


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(tmp_path):
    class Broken(TinyDataset):
        def __getitem__(self, index):
            clip = super().__getitem__(index)
            if index == 10:
                clip.frames.fill_(float("nan"))
            return clip

    with pytest.raises(TrainingError, match=r"after iteration 3 \(total nan.*tiny 11.*000002.pth"):
        make_trainer(tmp_path, dataset=Broken()).run()
    assert not (tmp_path / "000003.pth").exists()


def test_the_checkpoint_with_the_highest_figure_is_kept(tmp_path):
    figures = {2: 0.1, 4: 0.7, 6: 0.3}
    settings = {"evaluation_interval": 2, "best_measure": "validation/score"}
    make_trainer(
        tmp_path, evaluate=lambda network, iteration: {"validation/score": figures[iteration]}, settings=settings
    ).run()
    assert torch.load(tmp_path / "best.pth", weights_only=True)["iterations"] == 4
