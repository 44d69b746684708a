"""What a restart reads of one group: its marks, and the entries above the chosen one. Blocking, at start-up."""

from __future__ import annotations

from phxqueue.journal import bdb, layout
from phxqueue.journal.batch import Marks
from phxqueue.journal.database import Database, Table
from phxqueue.journal.errors import START_OVER, Corrupt
from phxqueue.journal.reader import Verify
from phxqueue.journal.records import MAX_INSTANCE, GroupState, StoredEntry


def load_group(database: Database, marks: Marks, group: int, verify: Verify | None) -> GroupState:
    """Return the state of `group` and bring its chosen mark in `marks` up to what its entries say.

    Raises Corrupt when an entry above the chosen mark cannot be read: what this node has accepted must be known.
    """
    below = marks.trimmed.get(group, 0)
    limit = layout.entry_key(group, MAX_INSTANCE)
    try:
        last = database.last_before(Table.ENTRIES, limit)
        if last is not None and layout.split_entry_key(last[0]) >= (group, max(below, marks.chosen.get(group, -1) + 1)):
            _raise_chosen(marks, group, layout.unpack_entry(*last)[1])
        entries: list[tuple[int, StoredEntry]] = []
        start = max(below, marks.chosen.get(group, -1) + 1)
        for key, value in database.scan(Table.ENTRIES, layout.entry_key(group, start), limit):
            entry, chosen = layout.unpack_entry(key, value)
            instance = layout.split_entry_key(key)[1]
            _raise_chosen(marks, group, chosen)
            if instance > marks.chosen.get(group, -1) and verify is not None:
                _check(entry, group, instance, verify)
            entries.append((instance, entry))
    except layout.Unreadable as error:
        raise Corrupt(f"group {group}: an entry above the chosen mark does not parse: {error}; {_REMEDY}") from error
    except database.error as error:
        raise Corrupt(f"group {group}: {bdb.explain(error)}; {_REMEDY}") from error
    chosen = marks.chosen.get(group, -1)
    return GroupState(
        promised=marks.promised.get(group, 0),
        chosen=chosen,
        first=_first(database, group, below, max(below, chosen + 1)),
        entries=[(instance, entry) for instance, entry in entries if instance > chosen],
    )


_REMEDY = f"this node no longer knows what it has accepted: {START_OVER}"


def _first(database: Database, group: int, below: int, empty: int) -> int:
    """Return the lowest instance in the log, `empty` when there is none."""
    try:
        key = database.first_key(Table.ENTRIES, layout.entry_key(group, below))
    except database.error as error:
        if not bdb.is_damaged(error):
            raise Corrupt(f"group {group}: {bdb.explain(error)}; {_REMEDY}") from error
        return below  # it is there, on a damaged page: to be learned again when somebody asks for it
    found_group, first = layout.split_entry_key(key) if key is not None else (-1, 0)
    return first if found_group == group else empty


def _raise_chosen(marks: Marks, group: int, chosen: int) -> None:
    if chosen > marks.chosen.get(group, -1):
        marks.chosen[group] = chosen


def _check(entry: StoredEntry, group: int, instance: int, verify: Verify) -> None:
    if not verify(entry.kind, entry.payload, entry.checksum):
        raise Corrupt(f"group {group}: accepted entry {instance} does not match its checksum; {_REMEDY}")
