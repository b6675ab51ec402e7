"""The command line of training."""

import re
import sys

import pytest
import torch

from stemseg.config import load_config
from stemseg.training import arguments as options_module
from stemseg.training.arguments import (
    configuration,
    describe_batch,
    launch_on_all_gpus,
    parse_arguments,
    run_name,
    scaled_settings,
    torchrun_command,
)
from stemseg.utils.errors import ConfigError
from tests.helpers.paths import ROOT

PUBLISHED = (
    "--model_dir x --cfg davis_1 --no_resume --allow_multigpu --display_interval 1 --summary_interval 2 "
    "--save_interval 3 --num_cpu_workers 4 --ckpts_to_keep 5 --log_level debug"
)


def test_published_flags_are_understood():
    options = parse_arguments([*PUBLISHED.split(), "--restore_session", "a.pth"])
    assert (options.save_interval, options.num_cpu_workers, options.ckpts_to_keep) == (3, 4, 5)
    assert str(parse_arguments(["--model_dir", "x", "--initial_ckpt", "b.pth"]).initial_ckpt) == "b.pth"


def test_overrides_accumulate():
    options = parse_arguments(["--model_dir", "x", "--set", "A=1", "B=2", "--cfg", "davis_1", "--set", "C=3"])
    assert options.set == ["A=1", "B=2", "C=3"]


@pytest.mark.parametrize("wrong", [["--save_interval", "-1"], ["--restore_session", "a", "--initial_ckpt", "b"]])
def test_impossible_options_are_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--model_dir", "x", *wrong])
    assert "expected 0 to" in capsys.readouterr().err or "restore_session" in wrong[0]


def test_configuration_comes_from_beside_the_checkpoint(tmp_path):
    load_config(None, ["TRAINING.SEED=17"]).save(tmp_path / "config.yaml")
    options = parse_arguments(["--restore_session", str(tmp_path / "000004.pth"), "--set", "TRAINING.BATCH_SIZE=6"])
    assert configuration(options).TRAINING.SEED == 17
    assert configuration(options).TRAINING.BATCH_SIZE == 6
    with pytest.raises(ConfigError, match="--cfg davis_1"):
        configuration(parse_arguments([]))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (["--cfg", "davis_1.yaml"], "davis_1"),
        (["--cfg", "davis_1"], "davis_1"),
        (["--cfg", "/my/configs/v1.5.yaml"], "v1.5"),
        (["--cfg", "/models/checkpoints/davis/first/config.yaml"], "first"),
        (["--cfg", "davis_1", "--restore_session", "/runs/old/000004.pth"], "davis_1"),
        (["--restore_session", "/runs/old/000004.pth"], "/runs/old"),
        (["--cfg", "davis_1", "--model_dir", "mine"], "mine"),
    ],
)
def test_a_run_is_named_after_its_configuration_unless_it_has_a_name(given, name):
    assert run_name(parse_arguments(given)) == name


@pytest.mark.parametrize(
    ("gpus", "batch_size", "processes"), [(8, 4, 4), (2, 4, 2), (3, 4, 2), (1, 4, None), (0, 4, None)]
)
def test_all_gpus_that_share_a_batch_evenly_are_used(monkeypatch, gpus, batch_size, processes):
    launched = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(options_module.os, "execv", lambda path, command: launched.append(command))
    monkeypatch.setattr(sys, "argv", ["main.py", "--allow_multigpu"])
    monkeypatch.delenv("RANK", raising=False)
    cfg = load_config(None, [f"TRAINING.BATCH_SIZE={batch_size}"])
    launch_on_all_gpus(parse_arguments(["--model_dir", "x", "--allow_multigpu"]), cfg)
    launch_on_all_gpus(parse_arguments(["--model_dir", "x"]), cfg)  # without the flag: never
    assert launched == ([] if processes is None else [torchrun_command(processes, sys.argv)])


def test_a_process_of_torchrun_launches_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(options_module.os, "execv", lambda *a: pytest.fail("launched"))
    launch_on_all_gpus(parse_arguments(["--model_dir", "x", "--allow_multigpu"]), load_config(None))


@pytest.mark.parametrize("decay", ["exponential", "step"])
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_a_batch_that_cannot_be_shared_is_refused_with_settings_that_work(processes, decay):
    before = load_config("davis_1", ["TRAINING.BATCH_SIZE=1", f"TRAINING.LR_DECAY_TYPE={decay}"])
    with pytest.raises(ConfigError, match=f"{processes} processes cannot share batches of 1 clips") as caught:
        describe_batch(before, processes)
    settings = re.search(r"--set ([^()]*) \(", str(caught.value))[1].split()
    assert settings == scaled_settings(before, processes)
    after = load_config("davis_1", [f"TRAINING.LR_DECAY_TYPE={decay}", *settings])
    assert describe_batch(after, processes).startswith(f"{processes} processes: batches of {processes} clips")
    assert pytest.approx(processes * before.TRAINING.INITIAL_LR) == after.TRAINING.INITIAL_LR
    assert before.TRAINING.MAX_ITERATIONS / processes == after.TRAINING.MAX_ITERATIONS
    if decay == "step":
        assert [i // processes for i in before.TRAINING.LR_DECAY_STEPS] == after.TRAINING.LR_DECAY_STEPS


def test_documented_settings_for_many_processes_are_those_that_are_advised():
    advice = " ".join(scaled_settings(load_config("davis_1"), 4))
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").replace("\\\n", " ")
    assert advice in " ".join(text.split())


def test_gpus_that_are_left_idle_are_named(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(options_module.os, "execv", lambda *a: None)
    monkeypatch.delenv("RANK", raising=False)
    launch_on_all_gpus(parse_arguments(["--model_dir", "x", "--allow_multigpu"]), load_config("davis_1"))
    assert "training on 2 of 8 GPUs: 8 processes cannot share batches of 2 clips" in caplog.text
    assert "--set TRAINING.BATCH_SIZE=8" in caplog.text
