"""Every deliberate bug is caught by a seed that CI runs: by the ones that are known to, else by the first that does."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from phxqueue.paxos.entry import Entry
from phxqueue.testing.sim.run import Outcome
from tests.simulation.mutants import MUTANTS, BrokenMutant, Mutant
from tests.simulation.mutants.table import Patch, replace, wrap
from tests.simulation.test_seeds import SEEDS

TRIED = 60
"""How many of CI's seeds are tried when the known ones do not catch a mutant any more."""

pytestmark = pytest.mark.usefixtures("quietly")


def first_catch(mutant: Mutant) -> Outcome | None:
    for seed in mutant.promising(SEEDS)[:TRIED]:
        outcome = mutant.caught_by(seed)
        gc.collect(1)
        if outcome is not None:
            return outcome
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_caught(mutant: Mutant) -> None:
    assert max(mutant.seeds, default=0) < SEEDS
    assert first_catch(mutant) is not None, f"{mutant.apply.__doc__} None of {TRIED} seeds notices"


def test_there_are_many_and_they_are_told_apart() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40


def set_gone(patch: Patch) -> None:
    wrap(patch, Entry, "no_such_method", lambda original: original)


def replace_inherited(patch: Patch) -> None:
    replace(patch, Entry, "__init_subclass__", lambda: None)


def replace_other_parameters(patch: Patch) -> None:
    replace(patch, Entry, "same_value", lambda self: True)


def raise_type_error(patch: Patch) -> None:
    wrap(patch, Entry, "valid", lambda original: lambda self, missing: True)


@pytest.mark.parametrize("apply", [set_gone, replace_inherited, replace_other_parameters, raise_type_error])
def test_one_that_does_not_fit_the_code_is_no_catch(apply: Callable[[Patch], None]) -> None:
    with pytest.raises(BrokenMutant):
        Mutant("broken", apply, ()).caught_by(0)


def test_the_harmless_escapes() -> None:
    assert Mutant("harmless", lambda patch: None, ()).caught_by(0) is None
