"""A trial that stays: more than 500 malformed files, each given to the command that reads it.

Whatever a file holds, its command ends within seconds: with exit code 0 where the change means nothing (a label of
another name, a frame that is null), else with a message that names the file and says what was expected and what to do.
There is no traceback and no crash of C code. The cases are drawn by fixed seeds from all changes that
:mod:`tests.trials.mutations` knows; ``pytest -s`` prints how many there were of each kind.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from stemseg.utils import files
from tests.trials.bench import Bench
from tests.trials.benches import BENCHES
from tests.trials.harness import Restored, complaint, run
from tests.trials.mutations import Mutation, json_mutations, text_mutations

COUNTS: Counter[str] = Counter()


def check(bench: Bench, cases: Iterable[Mutation]) -> None:
    """Give every case to the bench's command; fail with a list of what went wrong."""
    wrong = []
    for case in cases:
        with Restored(bench.path) as path:
            path.write_bytes(case.content)
            outcome = run(bench.command, bench.arguments)
        trouble = complaint(outcome, named=bench.named, may_pass=bench.is_harmless(case))
        COUNTS[f"{bench.name}: {'taken' if outcome.code == 0 else 'refused'}"] += 1
        if trouble:
            wrong.append(f"{case.name}: {trouble}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture(scope="module", params=BENCHES, ids=lambda build: build.__name__)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    build: Callable[[Path], Bench] = request.param
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp(build.__name__)
        patch.setattr(files, "_sync", lambda path: None)  # nothing here need outlive a power cut
        patch.setenv("STEMSEG_MODELS_DIR", str(folder))
        patch.chdir(folder)
        yield build(folder)


def test_the_files_themselves_are_sound(bench: Bench) -> None:
    outcome = run(bench.command, bench.arguments)
    assert outcome.code == 0 and not outcome.crash, (outcome.text[-2000:], outcome.crash)


def test_values_of_a_wrong_kind(bench: Bench) -> None:
    cases: Sequence[Mutation] = bench.mutations or (json_mutations(bench.document) if bench.document else [])
    check(bench, random.Random(0).sample(cases, min(bench.num_cases, len(cases))))


def test_texts_that_are_no_such_file(bench: Bench) -> None:
    check(bench, text_mutations(bench.path.read_text(encoding="utf-8")) if bench.is_text else [])


def test_there_were_enough_cases() -> None:
    print("\n" + "\n".join(f"{count:5d} {kind}" for kind, count in sorted(COUNTS.items())))
    if len({kind.partition(":")[0] for kind in COUNTS}) < len(BENCHES):
        pytest.skip("not all kinds of files were tried in this process")
    assert COUNTS.total() >= 500
