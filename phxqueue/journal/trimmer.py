"""Gives the space of trimmed entries back, a little at a time, in the writer's thread.

Deleting an entry costs about as much as storing it: Berkeley DB reads what it deletes and logs it. So a step is
bounded by entries and by time, and `TrimShare` says when the next may run beside a stream of commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.logger import Logger

from phxqueue.journal import bdb, layout
from phxqueue.journal.database import Database, Put, Table

STEP_SECONDS = 0.003
"""A step ends after this long, between two transactions."""

STEP_ENTRIES = 16
"""Entries deleted in one transaction of a step; also how often the clock is read."""

SHARE = 0.4
"""Most of the writer's time that trimming takes while commits keep coming."""

MAX_DAMAGED_RUN = 1000
"""After so many unreadable entries in a row the trimming of a group is given up until the next start."""


class TrimShare:
    """Decides when a step may run: commits earn it, a step spends it."""

    def __init__(self) -> None:
        self._earned = 0.0

    def commit_took(self, seconds: float) -> None:
        """Earn time for trimming; what is not used is not saved up beyond one step."""
        self._earned = min(self._earned + seconds * SHARE / (1 - SHARE), STEP_SECONDS)

    def step_took(self, seconds: float) -> None:
        """Spend time; a long step is paid back by the commits that follow."""
        self._earned -= seconds

    def may_step(self) -> bool:
        """Whether enough has been earned."""
        return self._earned >= STEP_SECONDS


class Trimmer:
    """The trims to carry out, and how far each is."""

    def __init__(self, database: Database, damaged: set[bytes], max_entries: int) -> None:
        self._database = database
        self._damaged = damaged
        self._chunk = min(max_entries, STEP_ENTRIES)
        self._below: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, Callable[[], None]]]] = {}
        self._log = Logger()
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
        keys = self._present(group, below)
        if keys:
            self._delete(keys)
            self._next[group] = layout.split_entry_key(keys[-1])[1] + 1
        if self._next.get(group, 0) >= below or not keys:
            del self._below[group]
            self._finished(group, below)

    def _present(self, group: int, below: int) -> list[bytes]:
        """Return the next keys to delete. Instances are dense, so only the first has to be looked up."""
        start = self._next.get(group)
        if start is None or not self._database.has(Table.ENTRIES, layout.entry_key(group, start)):
            start = self._seek(group, start or 0, below)
        last = min(start + self._chunk, below)
        return [layout.entry_key(group, instance) for instance in range(start, last)]

    def _seek(self, group: int, start: int, below: int) -> int:
        for instance in range(start, min(start + MAX_DAMAGED_RUN, below)):
            try:
                key = self._database.first_key(Table.ENTRIES, layout.entry_key(group, instance))
            except self._database.error as error:
                if not bdb.is_damaged(error):
                    raise
                continue
            if key is None:
                return below
            found_group, found = layout.split_entry_key(key)
            return found if found_group == group else below
        return below

    def _delete(self, keys: list[bytes]) -> None:
        """Delete these entries in one transaction, stepping over those that lie on damaged pages."""
        while True:
            puts = [Put(Table.ENTRIES, key, None) for key in keys if key not in self._damaged]
            puts += [Put(Table.REPAIRS, key, None) for key in keys if key in self._damaged]
            try:
                self._database.commit_unsynced(puts)
            except self._database.error as error:
                if not bdb.is_damaged(error):
                    raise
                self._find_damaged(keys)
                continue
            self.deleted += len(puts)
            return

    def _find_damaged(self, keys: list[bytes]) -> None:
        before = len(self._damaged)
        for key in keys:
            try:
                self._database.get(Table.ENTRIES, key)
            except self._database.error as error:
                if not bdb.is_damaged(error):
                    raise
                self._damaged.add(key)
                self._log.error(
                    "entry {instance} of group {group} lies on a damaged page; its space is not given back",
                    group=layout.split_entry_key(key)[0],
                    instance=layout.split_entry_key(key)[1],
                )
        if len(self._damaged) == before:
            raise self._database.error("a page was damaged while deleting, and is not while reading")

    def _finished(self, group: int, below: int) -> None:
        waiting = self._waiting.pop(group, [])
        later = [(wanted, done) for wanted, done in waiting if wanted > below]
        if later:
            self._waiting[group] = later
        for wanted, done in waiting:
            if wanted <= below:
                done()
