"""The command line of training (method.md §12), and the plain values of the loop that come of it."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemseg.config import CONFIG_DIR, Config, load_config
from stemseg.utils.arguments import CommandParser, count
from stemseg.utils.errors import ConfigError

_logger = logging.getLogger("stemseg.training")
_DESCRIPTION = """Train a network. A run that was interrupted, in whatever way, goes on with the same command.
Several processes: torchrun --nproc_per_node K -m stemseg.training.main ..."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``arguments`` None takes the process's own."""
    parser = CommandParser(description=_DESCRIPTION, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add(
        "--model_dir",
        metavar="NAME",
        help="the run's folder: $STEMSEG_MODELS_DIR/checkpoints/<MODE>/NAME, or an absolute path; by default named "
        "after the configuration, or without --cfg the folder of --restore_session",
    )
    add("--cfg", help="a name in configs/, or a file; by default the config.yaml beside --restore_session")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override single configuration keys")
    add("--show_config", action="store_true", help="print the configuration that these options give, and end")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--restore_session", type=Path, metavar="CKPT", help="go on from this checkpoint")
    start.add_argument("--initial_ckpt", type=Path, metavar="CKPT", help="start a new run with its weights alone")
    add("--no_resume", action="store_true", help="start anew although the run has checkpoints; they are moved aside")
    add("--device", help="cpu, cuda, cuda:1, ...; by default a GPU where there is one")
    add(
        "--allow_multigpu",
        action="store_true",
        help="train on all visible GPUs, as torchrun with a process for each would",
    )
    add("--display_interval", type=count, default=5, metavar="N", help="iterations between lines on the console")
    add("--summary_interval", type=count, default=10, metavar="N", help="iterations between scalars in TensorBoard")
    add("--picture_interval", type=count, default=500, metavar="N", help="iterations between pictures in TensorBoard")
    add("--save_interval", type=count, default=10000, metavar="N", help="iterations between checkpoints")
    add("--save_minutes", type=count, default=0, metavar="M", help="minutes between further checkpoints; 0: none")
    add(
        "--eval_interval",
        type=count,
        default=0,
        metavar="N",
        help="iterations between evaluations on the validation split, whose best checkpoint is kept; 0: never",
    )
    add("--ckpts_to_keep", type=count, default=5, metavar="N", help="newest checkpoints that are kept; 0 keeps all")
    add("--num_cpu_workers", type=count, default=8, metavar="N", help="data-loading processes of each training process")
    add(
        "--skip_bad_samples",
        type=count,
        default=0,
        metavar="N",
        help="go on past up to N samples that can't be loaded, in each process; others stand in for them",
    )
    add("--no_data_check", action="store_true", help="start without a look at every image and mask")
    add("--log_level", default="info", choices=("debug", "info", "warning", "error"), help="what the console shows")
    return parser.parse_args(arguments)


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Plain values of the loop.

    Attributes:
        max_iterations: steps of the optimizer of the whole run.
        batch_size: clips of one step, over all processes.
        micro_batch_size: clips of one forward pass.
        warm_up_clips: the appearance flow is trained alone for this many clips (method.md §5).
        warm_up_before_schedule: iterations after which the rate's schedule begins anew, those of the flow alone, so
            that the network has all of it; 0: as published, they count in it.
        seed: of PyTorch's random numbers during training.
        num_workers: data-loading processes of each training process; 0 loads in the training process itself.
        save_interval, picture_interval, evaluation_interval: iterations between checkpoints, pictures in TensorBoard
            and evaluations; 0: never (a last checkpoint is always written).
        save_minutes: minutes after which a checkpoint is written besides; 0: never.
        skip_bad_samples: samples that can't be loaded and are replaced by others, in each process, before the run ends.
        best_measure: figure of an evaluation by which ``best.pth`` is chosen, higher is better; "": keep no best.
    """

    max_iterations: int
    batch_size: int
    micro_batch_size: int = 1
    warm_up_clips: int = 0
    warm_up_before_schedule: int = 0
    seed: int = 0
    num_workers: int = 0
    save_interval: int = 10000
    save_minutes: float = 0
    skip_bad_samples: int = 0
    picture_interval: int = 0
    evaluation_interval: int = 0
    best_measure: str = ""


def configuration(options: argparse.Namespace) -> Config:
    """The resolved configuration that the options ask for.

    Raises:
        ConfigError: where they name none, or it is wrong.
    """
    return load_config(_config_source(options), options.set)


def _config_source(options: argparse.Namespace) -> str | Path:
    if options.cfg is not None:
        return options.cfg
    if options.restore_session is not None:
        return options.restore_session.parent / "config.yaml"
    raise ConfigError(f"no configuration given; add for example --cfg davis_1 ({CONFIG_DIR} holds the others)")


def run_name(options: argparse.Namespace) -> str:
    """The name of the run's folder, or its absolute path: as the user says, or else that of the configuration."""
    if options.model_dir is not None:
        return options.model_dir
    if options.cfg is None:
        return str(options.restore_session.expanduser().resolve().parent)
    path = Path(options.cfg)
    is_of_a_run = path.name == "config.yaml"  # which is named after its folder
    return path.expanduser().resolve().parent.name if is_of_a_run else path.name.removesuffix(".yaml")


def launch_on_all_gpus(options: argparse.Namespace, cfg: Config) -> None:
    """With ``--allow_multigpu`` and several GPUs replace this process by ``torchrun`` of the same command line."""
    import torch  # here, so that --help answers at once

    from stemseg.utils.distributed import in_slurm_step

    if not options.allow_multigpu or "RANK" in os.environ or in_slurm_step():
        return
    num_gpus, shares = torch.cuda.device_count(), cfg.TRAINING.BATCH_SIZE // cfg.TRAINING.MAX_SAMPLES_PER_GPU
    processes = max((k for k in range(1, num_gpus + 1) if shares % k == 0), default=1)
    if processes < num_gpus:
        _logger.warning("training on %d of %d GPUs: %s", processes, num_gpus, _uneven(cfg, num_gpus))
    if processes > 1:
        command = torchrun_command(processes, sys.argv)
        os.execv(command[0], command)


def describe_batch(cfg: Config, num_processes: int) -> str:
    """The way in which the processes share each batch, as a line for the user.

    Raises:
        ConfigError: where they can't share it evenly, with the settings with which they can.
    """
    training = cfg.TRAINING
    share, rest = divmod(training.BATCH_SIZE, training.MAX_SAMPLES_PER_GPU * num_processes)
    if rest:
        raise ConfigError(_uneven(cfg, num_processes))
    who = "1 process" if num_processes == 1 else f"{num_processes} processes"
    return (
        f"{who}: batches of {training.BATCH_SIZE} clips in all, of which each process takes {share} times "
        f"{training.MAX_SAMPLES_PER_GPU} and adds up their gradients; learning rate {training.INITIAL_LR:g}"
    )


def _uneven(cfg: Config, num_processes: int) -> str:
    """The reason why processes can't share a batch, and what to do about it."""
    training = cfg.TRAINING
    possible = [k for k in range(1, num_processes) if training.BATCH_SIZE % (training.MAX_SAMPLES_PER_GPU * k) == 0]
    fewer = f"; or start {' or '.join(map(str, possible))} instead" if possible else ""
    return (
        f"{num_processes} processes cannot share batches of {training.BATCH_SIZE} clips (TRAINING.BATCH_SIZE) evenly, "
        f"{training.MAX_SAMPLES_PER_GPU} at a time (TRAINING.MAX_SAMPLES_PER_GPU). Add to the command: "
        f"--set {' '.join(scaled_settings(cfg, num_processes))} (K times the batch and the rate, a K-th of the "
        f"iterations){fewer}"
    )


def scaled_settings(cfg: Config, num_processes: int) -> list[str]:
    """Settings "KEY=value" that make the batch as large as the processes need, and rate and schedule fit to it.

    The rule is the literature's for SGD: K times the batch, K times the rate, a K-th of the iterations, and a warm-up.
    """
    training = cfg.TRAINING
    step = training.MAX_SAMPLES_PER_GPU * num_processes
    batch = step * math.ceil(training.BATCH_SIZE / step)
    factor = batch / training.BATCH_SIZE
    names = ["MAX_ITERATIONS"]
    names += {"exponential": ["LR_EXP_DECAY_START", "LR_EXP_DECAY_STEPS"]}.get(training.LR_DECAY_TYPE, [])
    warm_up = min(1000, round(training.MAX_ITERATIONS / factor / 10))
    values: dict[str, Any] = {
        "BATCH_SIZE": batch,
        "INITIAL_LR": f"{training.INITIAL_LR * factor:g}",
        "LR_WARMUP_ITERATIONS": max(warm_up, training.LR_WARMUP_ITERATIONS),
        **{name: max(1, round(training[name] / factor)) for name in names},
    }
    if training.LR_DECAY_TYPE == "step":
        values["LR_DECAY_STEPS"] = f"[{','.join(str(round(i / factor)) for i in training.LR_DECAY_STEPS)}]"
    return [f"TRAINING.{name}={value}" for name, value in values.items()]


def torchrun_command(num_processes: int, argv: Sequence[str]) -> list[str]:
    """The command that runs a script, ``argv[0]``, with its arguments in several processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*launcher, f"--nproc_per_node={num_processes}", *argv]
