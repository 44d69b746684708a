"""Everything that is written down about one run of locks: what clients were told, what was chosen, who checks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import xxhash

from phxqueue.lock.placement import paxos_group
from phxqueue.testing.linearizability import Recorder, Verdict, check_history
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.locks.exclusion import Exclusion
from phxqueue.testing.sim.locks.reference import LockReference
from phxqueue.testing.sim.world import World

MAX_STATES = 200_000


class LockBooks:
    """Where clients and nodes report; hands each report to the checker it concerns, and hashes the history.

    Attributes:
        recorder: what the users of strings did.
        operations: calls that were answered.
        contenders: all of them; they renew each other's locks.

    Args:
        fence: of a lock group that was restored from a backup; else 0.
    """

    def __init__(self, world: World, paxos_groups: int, fence: int = 0) -> None:
        self.exclusion = Exclusion(world)
        self.recorder = Recorder(lambda: world.now)
        self.operations = 0
        self.contenders: list[Any] = []
        self._world = world
        self._references = [LockReference(fence) for _ in range(paxos_groups)]
        self._floors = [-1] * paxos_groups
        self._history = xxhash.xxh3_64()

    @property
    def digest(self) -> int:
        """Hash of everything written down so far, with its times: equal for equal histories."""
        return self._history.intdigest()

    def note(self, *event: Any) -> None:
        """Add an event to the history."""
        self._history.update(repr((self._world.now, event)).encode())

    # ---- nodes ------------------------------------------------------------------------------------

    def chosen(self, group_id: int, instance: int, payload: bytes, first: Callable[[int], int]) -> None:
        """The next entry of a Paxos group was applied somewhere, for the first time."""
        self.note("chosen", group_id, instance, len(payload))
        self._references[group_id].chosen(instance, payload)

    def applied_by_master(self, group_id: int, instance: int) -> None:
        """A master applied an entry."""

    # ---- clients ----------------------------------------------------------------------------------

    def floor(self, name: str) -> int:
        """The latest place of the log that anybody has seen the effect of: later calls must not see less."""
        return self._floors[self.group(name)]

    def group(self, name: str) -> int:
        """The Paxos group of a lock."""
        return paxos_group(name, len(self._floors))

    def told(self, name: str, floor: int, client_id: str, version: int) -> None:
        """A client that called when the floor was `floor` was told who holds a lock; ("", 0): nobody."""
        self.note("told", name, client_id, version)
        self.operations += 1
        group_id = self.group(name)
        place = self._references[group_id].find(name, (client_id, version), floor)
        self._floors[group_id] = max(self._floors[group_id], place)

    def check_strings(self) -> None:
        """Raise Violation when no order explains what the users of strings saw."""
        report = check_history(self.recorder.operations(), max_states=MAX_STATES)
        if report.verdict is not Verdict.LINEARIZABLE:
            raise Violation(f"what clients saw has no order: {report}")
