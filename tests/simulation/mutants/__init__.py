"""Deliberate bugs: each breaks one rule of the system in memory, for the length of a test, never in the source.

A simulator that passes proves nothing until it has been seen to fail. Every mutant here is a mistake that somebody
could make while changing the code; the checkers must catch each of them within the seeds that CI runs
(``tests/simulation/test_mutants.py``).

Two mistakes were tried and are not here, because no client can notice them: a cursor move that rode on an entry which
failed need not be tried again (the mastership has ended, and readers acknowledge again), and a proposer's comparison of
its payload with what was applied is a second line of defence (a mastership and its proposals end before another's entry
can be applied at their instances), which ``tests/replica/test_group_runtime.py`` tests.

That a group which has left the files is given up at last is nothing that the simulator waits for: see
``tests/store/test_groups.py``.

``python -m tests.simulation.mutants [NAME ...]`` tells which of the first seeds catch each mutant.
"""

from tests.simulation.mutants import (
    consensus,
    disk,
    groups,
    leases,
    ledgers,
    members,
    outcomes,
    promised,
    relocation,
    replays,
    service,
    timers,
)
from tests.simulation.mutants.table import MUTANTS, BrokenMutant, Mutant

__all__ = [
    "MUTANTS",
    "BrokenMutant",
    "Mutant",
    "consensus",
    "disk",
    "groups",
    "leases",
    "ledgers",
    "members",
    "outcomes",
    "promised",
    "relocation",
    "replays",
    "service",
    "timers",
]
