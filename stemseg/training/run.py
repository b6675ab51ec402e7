"""A training run: everything that its options and configuration describe is built here, started and run.

:func:`start_run` starts it from nothing, from other weights, or from where it was.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stemseg.config import Config
from stemseg.config.yaml_reader import read_yaml
from stemseg.data.dataset import build_training_dataset, open_training_sets, total_iterations, training_category_names
from stemseg.data.preprocessing import collate_clips
from stemseg.data.sources import OpenedStills, OpenedVideos
from stemseg.modeling.model_files import read_model_info
from stemseg.modeling.network import Network, build_network, check_random_start
from stemseg.modeling.weights import (
    check_model_weights,
    find_checkpoint,
    load_model_weights,
    load_pretrained_backbone,
    models_dir,
)
from stemseg.training.arguments import TrainerSettings, configuration, describe_batch, launch_on_all_gpus, run_name
from stemseg.training.checkpoints import CONFIG_NAME, CheckpointStore, TrainingState, check_resumable
from stemseg.training.interrupts import InterruptListener
from stemseg.training.logger import LOG_NAME, TrainingLogger, log_to_file
from stemseg.training.loss import TrainingLoss, build_loss
from stemseg.training.optimizer import build_optimizer, build_scaler, build_schedule
from stemseg.training.trainer import OptimizationStep, Trainer
from stemseg.training.validation import best_measure, build_validator, open_validation_split
from stemseg.training.visualization import build_visualizer
from stemseg.utils import distributed
from stemseg.utils.distributed import ProcessInfo
from stemseg.utils.errors import ConfigError
from stemseg.utils.files import make_folder, user_path
from stemseg.utils.folder_lock import held_folder
from stemseg.utils.text import shown

_logger = logging.getLogger("stemseg.training")


def train(options: argparse.Namespace, interrupts: InterruptListener) -> int:
    """Build everything that the options describe and train; returns the exit code."""
    with distributed.alike():
        cfg = configuration(options)
        launch_on_all_gpus(options, cfg)
        directory = run_directory(cfg, run_name(options))
        name_hint = "" if options.model_dir else " (--model_dir NAME names it otherwise)"
        _logger.info("this run is %s%s", directory, name_hint)
        _logger.info(describe_batch(cfg, distributed.process_from_environment().world_size))
    device = distributed.choose_device(options.device)
    process = distributed.initialize(device)
    store = CheckpointStore(directory, keep=options.ckpts_to_keep)
    start = StartFrom(options.restore_session, options.initial_ckpt, resume=not options.no_resume)
    with distributed.together(device):
        torch.manual_seed(cfg.TRAINING.SEED)
        training_loss = build_loss(cfg, build_network(cfg).to(device))
        start.check(training_loss.network, store)  # before data are looked at and a folder is made
        sets = open_training_sets(cfg)
        dataset = build_training_dataset(cfg, sets)
        held_out = open_validation_split(cfg) if options.eval_interval else None
    if not (options.no_data_check or check_data(sets.values(), held_out, options, process, interrupts)):
        return interrupts.exit_code
    log = TrainingLogger(
        directory / "logs" if process.is_main else None,
        max_iterations=total_iterations(cfg),
        display_interval=options.display_interval,
        summary_interval=options.summary_interval,
    )
    state = build_state(cfg, training_loss, log, device)
    state.category_names = {} if cfg.INPUT.NUM_CLASSES == 2 else training_category_names(cfg)
    state.config = cfg.to_dict()
    with ExitStack() as held:
        with distributed.together(device):
            if process.is_main:
                held.enter_context(held_folder(directory))
            start_run(state, store, start, cfg, is_main=process.is_main)
        if process.is_main:
            log_to_file(directory / LOG_NAME)
            record_config(cfg, directory, resumed=state.progress.iterations > 0)
        trainer = Trainer(
            state=state,
            step=build_step(cfg, state, process, device),
            dataset=dataset,
            collate=collate_clips,
            checkpoints=store,
            settings=build_settings(cfg, options),
            process=process,
            device=device,
            interrupts=interrupts,
            paint=build_visualizer(cfg, training_loss.network.free_dim_bandwidths),
            evaluate=build_validator(cfg, held_out, process, device, state.category_names) if held_out else None,
        )
        is_complete = trainer.run()
    newest = store.newest()
    if is_complete:
        _logger.info("training is complete: %s", newest or f"nothing is left to do; see {options.restore_session}")
        return 0
    _logger.warning("interrupted and saved; give the same command again to go on from %s", newest)
    return interrupts.exit_code


def check_data(
    sets: Iterable[OpenedVideos | OpenedStills],
    held_out: OpenedVideos | None,
    options: argparse.Namespace,
    process: ProcessInfo,
    interrupts: InterruptListener,
) -> bool:
    """Look at all images and masks that the run will read; False where the user ended that."""
    from stemseg.data.check import check_training_data  # here: a part of a run's start alone

    with distributed.alike():
        return check_training_data(
            sets,
            held_out,
            process=process,
            tolerant=options.skip_bad_samples > 0,
            is_cancelled=lambda: interrupts.requested,
        )


def build_state(cfg: Config, training_loss: TrainingLoss, log: TrainingLogger, device: torch.device) -> TrainingState:
    """Optimizer, schedule and loss scale of a training loss that is on its device."""
    optimizer = build_optimizer(cfg, training_loss)
    return TrainingState(
        training_loss=training_loss,
        optimizer=optimizer,
        schedule=build_schedule(cfg, optimizer),
        scaler=build_scaler(cfg.TRAINING.AMP, device),
        log=log,
    )


def build_step(cfg: Config, state: TrainingState, process: ProcessInfo, device: torch.device) -> OptimizationStep:
    """The step that changes the weights of ``state``."""
    return OptimizationStep(
        distribute(state.training_loss, process, may_skip_weights=cfg.MODEL.USE_OFFSET_HEAD),
        state.optimizer,
        scaler=state.scaler,
        device=device,
        amp=cfg.TRAINING.AMP,
        max_gradient_norm=cfg.TRAINING.GRAD_CLIP_NORM,
    )


def build_settings(cfg: Config, options: argparse.Namespace) -> TrainerSettings:
    """The plain values of the loop."""
    return TrainerSettings(
        max_iterations=total_iterations(cfg),
        batch_size=cfg.TRAINING.BATCH_SIZE,
        micro_batch_size=cfg.TRAINING.MAX_SAMPLES_PER_GPU,
        warm_up_clips=cfg.TRAINING.GLOW_EPOCH * cfg.TRAINING.BATCH_SIZE if cfg.MODEL.USE_OFFSET_HEAD else 0,
        warm_up_before_schedule=total_iterations(cfg) - cfg.TRAINING.MAX_ITERATIONS,
        seed=cfg.TRAINING.SEED,
        num_workers=options.num_cpu_workers,
        save_interval=options.save_interval,
        save_minutes=options.save_minutes,
        skip_bad_samples=options.skip_bad_samples,
        picture_interval=options.picture_interval,
        evaluation_interval=options.eval_interval,
        best_measure=best_measure(cfg),
    )


def distribute(training_loss: nn.Module, process: ProcessInfo, *, may_skip_weights: bool = False) -> nn.Module:
    """Let the processes start from the main one's weights and average their gradients; alone, nothing is wrapped.

    Args:
        training_loss: the same in all processes.
        process: which one this is.
        may_skip_weights: some losses leave weights without a gradient (the appearance flow's warm-up does); looking for
            them in each step costs a little time.
    """
    if process.world_size == 1:
        return training_loss
    return DistributedDataParallel(training_loss, find_unused_parameters=may_skip_weights)


class StartFrom(NamedTuple):
    """The start that the user wants for a run.

    Attributes:
        restore_session: go on from this checkpoint, whatever the run's directory holds.
        initial_ckpt: start a new run with the model weights of this checkpoint.
        resume: without ``restore_session``, go on from the directory's newest checkpoint where there is one.
    """

    restore_session: Path | None = None
    initial_ckpt: Path | None = None
    resume: bool = True

    def from_run(self, store: CheckpointStore) -> Path | None:
        """The checkpoint of a run that is gone on from; None for a new run."""
        return self.restore_session or (store.newest() if self.resume else None)

    def check(self, network: Network, store: CheckpointStore) -> None:
        """Refuse weights that don't fit the network.

        Raises:
            CheckpointError: where a file is missing or damaged, or does not fit.
        """
        if (source := self.from_run(store)) is not None:
            check_resumable(network, source)
        elif self.initial_ckpt is not None:
            check_model_weights(network, self.initial_ckpt)


def run_directory(cfg: Config, model_dir: str) -> Path:
    """``$STEMSEG_MODELS_DIR/checkpoints/<TRAINING.MODE>/<model_dir>``; an absolute ``model_dir`` is taken as it is."""
    path = user_path(model_dir)
    return path if path.is_absolute() else models_dir() / "checkpoints" / cfg.TRAINING.MODE / path


def start_run(state: TrainingState, store: CheckpointStore, start: StartFrom, cfg: Config, *, is_main: bool) -> None:
    """Restore or initialize ``state``; checkpoints that a new or rewound run leaves behind are moved aside.

    Raises:
        CheckpointError: where a file is missing or damaged, or does not fit.
        ConfigError: where the run has done more iterations already than it is to have.
        OutputError: where the run's directory can't be made.
    """
    if is_main:
        make_folder(store.directory)
    source = start.from_run(store)
    if source is not None:
        state.restore(source)
        _refuse_fewer_iterations(state.progress.iterations, cfg, source)
        _logger.info("going on from %s, after iteration %d", source, state.progress.iterations)
    else:
        _initialize(state, start.initial_ckpt, cfg)
    if is_main and (source is None or start.restore_session is not None):
        store.set_aside(after=state.progress.iterations if source else -1)


def _refuse_fewer_iterations(done: int, cfg: Config, source: Path) -> None:
    wanted = cfg.TRAINING.MAX_ITERATIONS
    before = total_iterations(cfg) - wanted  # the appearance flow's own
    if done > wanted + before:
        raise ConfigError(
            f"{source} has {done} iterations done, but TRAINING.MAX_ITERATIONS is {wanted}; set it to "
            f"{done - before} or more, go on from an earlier checkpoint with --restore_session, or begin anew with "
            "--no_resume"
        )


def record_config(cfg: Config, directory: Path, *, resumed: bool) -> None:
    """Write ``config.yaml`` into the run's directory; tell what changed since a ``resumed`` run wrote its own."""
    path = directory / CONFIG_NAME
    if resumed and path.is_file():
        for change in config_changes(read_yaml(path), cfg.to_dict()):
            _logger.warning("the configuration changed since this run began: %s", change)
    cfg.save(path)


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """A line "KEY: old -> new" for each value of ``after`` that differs."""
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from config_changes(old, value, f"{prefix}{key}.")
        elif old != value:
            yield f"{prefix}{key}: {old} -> {value}"


def _initialize(state: TrainingState, initial_ckpt: Path | None, cfg: Config) -> None:
    """Give a new run its first weights."""
    network = state.training_loss.network
    if initial_ckpt is not None:
        load_model_weights(network, initial_ckpt)
        _logger.info("starting with the weights of %s", initial_ckpt)
        _warn_of_other_classes(state, initial_ckpt)
    elif cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS is not None:
        load_pretrained_backbone(network.backbone, cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS)
        _logger.info("starting with the backbone %s", cfg.MODEL.BACKBONE.PRETRAINED_WEIGHTS)
    else:
        check_random_start(network)
        _logger.info("starting with random weights")


def _warn_of_other_classes(state: TrainingState, initial_ckpt: Path) -> None:
    """Tell where the weights' classes are others than those to be trained: as many, so that they fit nevertheless."""
    names = read_model_info(find_checkpoint(initial_ckpt)).category_names
    if names and state.category_names and names != dict(state.category_names):
        _logger.warning(
            "%s was trained on the classes %s, this run has %s: what it knows of classes will be learned anew",
            initial_ckpt, shown(names), shown(dict(state.category_names)),
        )  # fmt: skip
