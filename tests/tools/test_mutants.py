"""The list of mutants is true: each one's place is in the sources, and its tests are there."""

import pytest

from tests.helpers.paths import ROOT
from tests.tools.mutants import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_can_be_applied(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert mutant.old in text, f"update tests/tools/mutants.py: {mutant.file} has changed"
    assert text.replace(mutant.old, mutant.new, 1) != text
    assert all((ROOT / test).exists() for test in mutant.tests.split())
