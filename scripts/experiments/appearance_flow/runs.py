"""One run of the ablation: train, segment, measure, by the project's own commands; what is done is not done again."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from scripts.experiments.appearance_flow.alignment import alignment_figures
from scripts.experiments.appearance_flow.measure import RunFigures, measure_results, read_training_log
from scripts.experiments.appearance_flow.reidentification import load_run, reidentification_figures
from scripts.experiments.appearance_flow.variants import VARIANTS, Variant, schedule_overrides
from stemseg.config import load_config
from stemseg.training.checkpoints import CONFIG_NAME, CheckpointStore
from stemseg.utils.errors import ConfigError, StemsegError
from stemseg.utils.files import write_text
from stemseg.utils.parallel import map_in_threads

ROOT = Path(__file__).resolve().parents[3]
_LOG_LINES_SHOWN = 15
_FIGURES, _SETTINGS, _BUDGET = "figures.json", "settings.json", "budget.json"


@dataclass(frozen=True)
class Budget:
    """Settings that all runs share.

    Attributes:
        output: folder of the runs.
        videos: folder that holds train.json, val.json and the frames in train/ and val/.
        config: configuration, a name in configs/ or a path.
        iterations: optimizer steps of a run with the network; the flow's warm-up comes before them.
        overrides: of the configuration; a variant's own come after them.
        device: cpu, cuda or mps.
        workers: data-loading processes of each run.
    """

    output: Path
    videos: Path
    config: str
    iterations: int
    overrides: Sequence[str] = ()
    device: str = "cpu"
    workers: int = 0


@dataclass(frozen=True)
class Run:
    """One variant trained with one seed."""

    variant: Variant
    seed: int
    budget: Budget

    @property
    def directory(self) -> Path:
        """The folder of its checkpoints, log, results and figures."""
        return self.budget.output / "runs" / self.variant.name / f"seed_{self.seed}"

    @property
    def overrides(self) -> list[str]:
        """Everything that it changes in the configuration."""
        return [*self.common_overrides, *self.variant.overrides]

    @property
    def common_overrides(self) -> list[str]:
        """The changes that any variant with this seed has."""
        videos = self.budget.videos.resolve()
        data = [f"DATA.CUSTOM.{split.upper()}_JSON={videos / split}.json" for split in ("train", "val")]
        data += [f"DATA.CUSTOM.{split.upper()}_IMAGES={videos / split}" for split in ("train", "val")]
        common = [*schedule_overrides(self.budget.iterations), *self.budget.overrides]
        return [*data, f"TRAINING.SEED={self.seed}", *common]

    def execute(self) -> None:
        """Do what of the run is not done yet.

        Raises:
            ConfigError: where a part of it was made with other settings.
            StemsegError: where a command fails; the message ends with the end of its output.
        """
        self.check_settings()
        if (self.directory / _FIGURES).is_file():
            return
        seconds = self.train()
        results = self._segment()
        cfg, network, clips = load_run(self.directory / CONFIG_NAME, self.newest_checkpoint())
        figures = measure_results(
            results / "results.json",
            self.budget.videos / "val.json",
            with_classes=cfg.INPUT.NUM_CLASSES > 2,
            training_seconds=seconds,
            **reidentification_figures(network, clips),
            **alignment_figures(cfg, network, clips),
            **read_training_log((self.directory / "training.log").read_text(encoding="utf-8")),
        )
        content = {name: None if math.isnan(value) else value for name, value in asdict(figures).items()}
        write_text(self.directory / _FIGURES, json.dumps(content, indent=1))

    def train(self) -> float:
        """Train, or go on with it; returns its seconds, NaN for what is only the rest of a training."""
        is_new = self.newest_checkpoint() is None
        start = time.perf_counter()
        self._command("training", "--model_dir", str(self.directory), "--cfg", self.budget.config,
                      "--set", *self.overrides, "--num_cpu_workers", str(self.budget.workers),
                      "--display_interval", "50", "--picture_interval", "0", "--ckpts_to_keep", "1")  # fmt: skip
        return time.perf_counter() - start if is_new else math.nan

    def _segment(self) -> Path:
        """Segment the held-out videos; returns the folder of the results."""
        folder, checkpoint = self.directory / "results", str(self.newest_checkpoint())
        self._command("inference", checkpoint, "--dataset", "custom", "--output_dir", str(folder), "--overwrite")
        return folder

    def newest_checkpoint(self) -> Path | None:
        """The checkpoint to go on from; None before the first."""
        return CheckpointStore(self.directory, keep=1).newest()

    def completed_checkpoint(self) -> Path | None:
        """The checkpoint of the last iteration, for a run without a flow's warm-up; None before it is done."""
        path = CheckpointStore(self.directory, keep=1).path(self.budget.iterations)
        return path if path.is_file() else None

    def check_settings(self) -> None:
        """Note the run's configuration in its folder.

        Raises:
            ConfigError: where a part of it was made with another.
        """
        path, settings = self.directory / _SETTINGS, load_config(self.budget.config, self.overrides).to_dict()
        if not path.is_file():
            write_text(path, json.dumps(settings))
        elif json.loads(path.read_text(encoding="utf-8")) != settings:
            raise ConfigError(
                f"{self.directory} was made with other settings than this command has; give another --output, or "
                "remove the folder"
            )

    def _command(self, main: str, *arguments: str) -> None:
        title = f"{main} of {self.variant.name}, seed {self.seed}"
        run_main(main, [*arguments, "--device", self.budget.device], log=self.directory / f"{main}.log", title=title)


def run_main(main: str, arguments: Sequence[str], *, log: Path, title: str) -> None:
    """Run one of the main scripts, "training" or "inference"; its output goes to the end of ``log``.

    Raises:
        StemsegError: where it fails; the message ends with the end of its output.
    """
    command = [sys.executable, str(ROOT / "stemseg" / main / "main.py"), *arguments]
    # runs share the cores by being many
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with log.open("a", encoding="utf-8") as output:
        status = subprocess.call(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if status:
        lines = log.read_text(encoding="utf-8").splitlines()[-_LOG_LINES_SHOWN:]
        raise StemsegError(f"{title}, ended with status {status}; {log} ends with:\n" + "\n".join(lines))


def check_budget(budget: Budget, **more: float) -> None:
    """Keep a folder to one budget, and ``more`` settings, so that all runs in it can be compared.

    Raises:
        ConfigError: where the folder's runs were made with another one.
    """
    path = budget.output / _BUDGET
    content = {"videos": str(budget.videos.resolve()), "config": budget.config, "iterations": budget.iterations,
               "overrides": list(budget.overrides), **more}  # fmt: skip
    if not path.is_file():
        write_text(path, json.dumps(content, indent=1))
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != content:
        raise ConfigError(f"the runs in {budget.output} were made with {found}, not {content}; give another --output")


def finished_results(output: Path) -> dict[str, dict[int, RunFigures]]:
    """The figures of every run in a folder that is done, by variant, known ones first, in their order, and by seed."""
    names = [path.name for path in sorted((output / "runs").iterdir())]
    ordered = [name for name in VARIANTS if name in names] + [name for name in names if name not in VARIANTS]
    files = {name: sorted((output / "runs" / name).glob(f"seed_*/{_FIGURES}")) for name in ordered}
    return {
        name: {int(path.parent.name.removeprefix("seed_")): read_figures(path) for path in paths}
        for name, paths in files.items()
        if paths
    }


def read_figures(path: Path) -> RunFigures:
    """The figures of a run that is done.

    Raises:
        ConfigError: where an earlier version of this experiment wrote them.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    unknown = sorted(set(content) - {field.name for field in fields(RunFigures)})
    if unknown:
        raise ConfigError(
            f"{path} holds figures of another version ({', '.join(unknown)}); remove that file and run the command "
            "again: it measures anew, and trains nothing"
        )
    return RunFigures(**{name: math.nan if value is None else value for name, value in content.items()})


def execute_all(runs: Iterable[Run], *, jobs: int, finished: Callable[[Run], None]) -> None:
    """Execute runs in their order, ``jobs`` at a time; ``finished`` is called after each.

    Raises:
        StemsegError: of the first run that fails; those that were under way are completed, no other is started.
    """
    runs = list(runs)
    done = map_in_threads(Run.execute, runs, workers=jobs, max_ahead=len(runs))
    for run, _ in zip(runs, done, strict=True):
        finished(run)
