"""Gives the space of trimmed entries back, a little at a time, in the writer's thread.

Deleting an entry costs about as much as storing it: Berkeley DB reads what it deletes and logs it. So a step is
bounded by entries and by time, and `TrimShare` says when the next may run beside a stream of commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from phxqueue.journal import bdb, layout
from phxqueue.journal.damage import Damage
from phxqueue.journal.database import Database, Put, Table

STEP_SECONDS = 0.003
"""A step ends after this long, between two transactions. Not configured: what matters is the share of time, and this
is far below the time of a flush.
"""

MAX_DAMAGED_RUN = 1000
"""After so many unreadable entries in a row the trimming of a group is given up until the next start. Not configured:
`max_damaged_entries` ends the node on a disk like that.
"""


class TrimShare:
    """Decides when a step may run: commits earn it, a step spends it."""

    def __init__(self, percent: int) -> None:
        """`percent`: most of the writer's time that trimming takes while commits keep coming."""
        self._ratio = percent / (100 - percent)
        self._earned = 0.0

    def commit_took(self, seconds: float) -> None:
        """Earn time for trimming; what is not used is not saved up beyond one step."""
        self._earned = min(self._earned + seconds * self._ratio, STEP_SECONDS)

    def step_took(self, seconds: float) -> None:
        """Spend time; a long step is paid back by the commits that follow."""
        self._earned -= seconds

    def may_step(self) -> bool:
        """Whether enough has been earned."""
        return self._earned >= STEP_SECONDS


class Trimmer:
    """The trims to carry out, and how far each is."""

    def __init__(self, database: Database, damage: Damage, max_entries: int) -> None:
        self._database = database
        self._damage = damage
        self._chunk = max_entries
        self._below: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, Callable[[], None]]]] = {}
        self.deleted = 0

    def add(self, group: int, below: int) -> None:
        """Delete the entries of `group` below `below`, from now on."""
        self._below[group] = max(below, self._below.get(group, 0))

    def wait(self, group: int, below: int, done: Callable[[], None]) -> None:
        """Have `done` called once nothing below `below` is left; at once when that is so already."""
        if group not in self._below:
            done()
        else:
            self._waiting.setdefault(group, []).append((below, done))

    @property
    def pending(self) -> bool:
        """Whether there is anything left to do."""
        return bool(self._below)

    def step(self) -> float:
        """Delete some entries; return the seconds it took. Raises the binding's errors."""
        began = time.monotonic()
        while self._below and time.monotonic() - began < STEP_SECONDS:
            group = next(iter(self._below))
            self._trim_chunk(group)
        return time.monotonic() - began

    def _trim_chunk(self, group: int) -> None:
        below = self._below[group]
        first = self._first(group, below)
        last = min(first + self._chunk, below)
        if first < last:
            self._delete(group, range(first, last))
            self._next[group] = last
        if last >= below:
            del self._below[group]
            self._finished(group, below)

    def _first(self, group: int, below: int) -> int:
        """Return the first instance to delete. They are dense, so it has to be looked for at most once per hole."""
        start = self._next.get(group)
        if start is not None and (start >= below or not self._is_missing(group, start)):
            return start
        for instance in range(start or 0, min((start or 0) + MAX_DAMAGED_RUN, below)):
            key = layout.entry_key(group, instance)
            try:
                found = self._database.first_key(Table.ENTRIES, key)
            except self._database.error as error:
                self._damage.note(key, error)
                continue
            if found is None:
                return below
            found_group, first = layout.split_entry_key(found)
            return first if found_group == group else below
        return below

    def _is_missing(self, group: int, instance: int) -> bool:
        key = layout.entry_key(group, instance)
        try:
            return not self._database.has(Table.ENTRIES, key)
        except self._database.error as error:
            self._damage.note(key, error)
            return False

    def _delete(self, group: int, instances: range) -> None:
        """Delete these entries in one transaction, stepping over those that lie on damaged pages.

        The nearest neighbours of such entries stay as well: a page that becomes empty is unlinked from those beside it,
        which must be readable for that.
        """
        for instance in range(instances.start, instances.stop + 1):
            self._is_missing(group, instance)
        for _ in range(len(instances) + 1):  # each turn but the last finds one more damaged entry
            puts = [
                Put(Table.ENTRIES, layout.entry_key(group, instance), None)
                for instance in instances
                if not any(self._is_damaged(group, near) for near in (instance - 1, instance, instance + 1))
            ]
            puts += [
                Put(Table.REPAIRS, layout.entry_key(group, instance), None)
                for instance in instances
                if self._is_damaged(group, instance)
            ]
            try:
                self._database.commit_unsynced(puts)
            except self._database.error as error:
                if not bdb.is_damaged(error):
                    raise
                self._find_damage(group, instances, error)
            else:
                self.deleted += len(puts)
                return

    def _is_damaged(self, group: int, instance: int) -> bool:
        return len(self._damage) > 0 and instance >= 0 and layout.entry_key(group, instance) in self._damage

    def _find_damage(self, group: int, instances: range, cause: Exception) -> None:
        """Read these entries whole, to find those of which some page is damaged."""
        before = len(self._damage)
        for instance in instances:
            key = layout.entry_key(group, instance)
            try:
                self._database.get(Table.ENTRIES, key)
            except self._database.error as error:
                self._damage.note(key, error)
        if len(self._damage) == before:
            raise cause

    def _finished(self, group: int, below: int) -> None:
        waiting = self._waiting.pop(group, [])
        later = [(wanted, done) for wanted, done in waiting if wanted > below]
        if later:
            self._waiting[group] = later
        for wanted, done in waiting:
            if wanted <= below:
                done()
