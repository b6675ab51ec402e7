"""Mutants of the package, each a plausible mistake, and the tests that must fail on it.

    python tests/tools/mutants.py             apply each in a copy of the sources, run its tests, say which survive
    python tests/tools/mutants.py warm-up     those alone whose name contains a word

A new test that is meant to catch a mistake belongs here together with the mistake.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("stemseg", "tests", "configs", "scripts", "pyproject.toml")


class Mutant(NamedTuple):
    """A mistake: ``old`` in a file replaced by ``new``; ``tests`` are run on it and must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "compat: the mask of free points is not stale",
        "stemseg/inference/clustering.py",
        "if self.compat and len(instances) == self.max_instances:",
        "if False:",
        "tests/inference/test_clustering.py",
    ),
    Mutant(
        "categories: synonyms ignored",
        "stemseg/data/categories.py",
        "return synonyms.get(normal, normal)",
        "return normal",
        "tests/data/test_categories.py",
    ),
    Mutant(
        "categories: '-' not folded",
        "stemseg/data/categories.py",
        '.replace("-", " ")',
        "",
        "tests/data/test_categories.py",
    ),
    Mutant(
        "flow: instances that vanish on its grid kept",
        "stemseg/modeling/flow/appearance_flow.py",
        "visible = total[:, 0, 0, 0] > 0",
        "visible = total[:, 0, 0, 0] > -1",
        "tests/modeling/flow/test_appearance_flow.py",
    ),
    Mutant(
        "flow: warm-up given in steps",
        "stemseg/training/run.py",
        "cfg.TRAINING.GLOW_EPOCH * cfg.TRAINING.BATCH_SIZE",
        "cfg.TRAINING.GLOW_EPOCH",
        "tests/training/test_flow_training.py",
    ),
    Mutant(
        "flow: warm-up counted in steps",
        "stemseg/training/trainer.py",
        "glow_iterations += self.settings.batch_size",
        "glow_iterations += 1",
        "tests/training/test_flow_training.py",
    ),
    Mutant(
        "training: find_unused_parameters not passed",
        "stemseg/training/run.py",
        ", find_unused_parameters=may_skip_weights",
        "",
        "tests/training/test_flow_training.py tests/training/test_trainer.py",
    ),
    Mutant(
        "training: weights may always be skipped",
        "stemseg/training/run.py",
        ", may_skip_weights=cfg.MODEL.USE_OFFSET_HEAD",
        "",
        "tests/training/test_flow_training.py tests/training/test_trainer.py",
    ),
    Mutant(
        "KITTI-MOTS: the rule for tracks before the rule for masks",
        "stemseg/inference/writers/kitti_mots.py",
        "if not self._is_good_track(sorted(kept)):",
        "if not self._is_good_track(frames):",
        "tests/inference/test_writers.py",
    ),
    Mutant(
        "tracks: scores relative to all tracks",
        "stemseg/inference/tracks.py",
        "statistics = store.measure(list(segmentations))",
        "statistics = store.measure(list(store.records))",
        "tests/inference/test_tracks.py",
    ),
    Mutant(
        "mix: the smallest remainders rounded up",
        "stemseg/data/dataset.py",
        "np.argsort(counts - exact",
        "np.argsort(exact - counts",
        "tests/data/test_dataset.py",
    ),
    Mutant(
        "imports: imgaug at the start of every program",
        "stemseg/data/augmentation.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\n\nimport stemseg.data.imgaug_import\n",
        "tests/test_architecture.py",
    ),
    Mutant(
        "AP75 taken at IoU 0.7",
        "stemseg/evaluation/youtube_vis/average_precision.py",
        "ap75=_mean(precision[5",
        "ap75=_mean(precision[4",
        "tests/evaluation/youtube_vis",
    ),
    Mutant(
        "AR10 of a hundred detections",
        "stemseg/evaluation/youtube_vis/average_precision.py",
        "ar10=_mean(recall[:, :, 0, 1])",
        "ar10=_mean(recall[:, :, 0, 2])",
        "tests/evaluation/youtube_vis",
    ),
)


def check(mutant: Mutant) -> str:
    """Run the mutant's tests on a copy that has the mistake; returns "killed" or "SURVIVED"."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutant.old, mutant.new, 1), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "--no-header", "-p", "no:cacheprovider", *mutant.tests.split()]
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    # 1: tests failed; anything else means that they could not be run
    outcome = {0: "SURVIVED", 1: "killed"}.get(result.returncode)
    return outcome or f"not tested:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


def main(words: Sequence[str]) -> int:
    """Print what becomes of each mutant; returns the number of those that were not killed."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    alive = 0
    for mutant in chosen:
        outcome = check(mutant)
        alive += outcome != "killed"
        print(f"{outcome:10}{mutant.name}", flush=True)
    return alive


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
