"""Which records a group of submissions becomes: pure, values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from phxqueue.journal import layout
from phxqueue.journal.database import MAX_SUBMISSION_WRITES, Put, Table
from phxqueue.journal.records import (
    MAX_GROUP,
    MAX_INSTANCE,
    DeleteBlob,
    PutBlob,
    PutChosen,
    PutEntry,
    PutPromise,
    TrimEntries,
    Write,
)

RECORD_OVERHEAD = 64
"""What one write counts for besides its content, in every bound on bytes."""

MAX_BALLOT = (1 << 64) - 1
MAX_KIND = 0xFF


@dataclass(slots=True)
class Submission:
    """What one call of `submit` handed over, on its way through the writer."""

    writes: Sequence[Write]
    done: Callable[[], None] | None
    size: int
    trimmed: Callable[[], None] | None = None
    """Called (in the reactor thread) when the trims among `writes` have been carried out."""
    lazy: bool = False
    """Need not be durable by itself."""


@dataclass(slots=True)
class Marks:
    """The per-group numbers, as the last commit left them.

    `chosen` is what the entries carry; `chosen_stored` is the record of its own, which may be older.
    """

    promised: dict[int, int] = field(default_factory=dict)
    chosen: dict[int, int] = field(default_factory=dict)
    chosen_stored: dict[int, int] = field(default_factory=dict)
    trimmed: dict[int, int] = field(default_factory=dict)


def measure(writes: Sequence[Write]) -> int:
    """Return the bytes that `writes` count for. Raises ValueError for a write that cannot be."""
    if len(writes) > MAX_SUBMISSION_WRITES:
        raise ValueError(f"{len(writes)} writes in one submission; at most {MAX_SUBMISSION_WRITES} are possible")
    size = len(writes) * RECORD_OVERHEAD
    for write in writes:
        if isinstance(write, PutEntry):
            _check(write.group, write.instance, MAX_INSTANCE - 1, "instance")
            if not (0 <= write.ballot <= MAX_BALLOT and 0 <= write.checksum <= MAX_BALLOT):
                raise ValueError(f"ballot {write.ballot} or checksum {write.checksum} does not fit 64 bits")
            if not 0 <= write.kind <= MAX_KIND:
                raise ValueError(f"entry kind {write.kind} does not fit 8 bits")
            size += len(write.payload)
        elif isinstance(write, PutChosen):
            _check(write.group, write.instance, MAX_INSTANCE - 1, "chosen mark", lowest=-1)
        elif isinstance(write, PutPromise):
            _check(write.group, write.ballot, MAX_BALLOT, "ballot")
        elif isinstance(write, TrimEntries):
            _check(write.group, write.below, MAX_INSTANCE, "trim mark")
        else:
            size += len(write.key) + (len(write.value) if isinstance(write, PutBlob) else 0)
            if "\0" in write.table or not write.table:
                raise ValueError(f"{write.table!r} cannot be the name of a table")
    return size


def _check(group: int, number: int, highest: int, what: str, *, lowest: int = 0) -> None:
    if not 0 <= group <= MAX_GROUP:
        raise ValueError(f"group {group} is not in 0..{MAX_GROUP}")
    if not lowest <= number <= highest:
        raise ValueError(f"{what} {number} is not in {lowest}..{highest}")


class Batch:
    """The submissions of one transaction, folded: of several writes to one record the last counts, marks only rise."""

    def __init__(self, submissions: Iterable[Submission]) -> None:
        self._entries: dict[tuple[int, int], PutEntry] = {}
        self._blobs: dict[bytes, bytes | None] = {}
        self._promised: dict[int, int] = {}
        self._chosen: dict[int, int] = {}
        self._trimmed: dict[int, int] = {}
        for submission in submissions:
            for write in submission.writes:
                self._fold(write)

    def _fold(self, write: Write) -> None:
        if isinstance(write, PutEntry):
            self._entries[write.group, write.instance] = write
            _raise_mark(self._promised, write.group, write.ballot)
        elif isinstance(write, PutChosen):
            _raise_mark(self._chosen, write.group, write.instance)
        elif isinstance(write, PutPromise):
            _raise_mark(self._promised, write.group, write.ballot)
        elif isinstance(write, TrimEntries):
            _raise_mark(self._trimmed, write.group, write.below)
        elif isinstance(write, PutBlob):
            self._blobs[layout.blob_key(write.table, write.key)] = write.value
        else:
            assert isinstance(write, DeleteBlob), write
            self._blobs[layout.blob_key(write.table, write.key)] = None

    def puts(self, marks: Marks, damaged: Container[bytes]) -> list[Put]:
        """Return the records to store, given what is stored; entries in `damaged` go to the table of repairs.

        Raises ValueError for a trim beyond the chosen mark: that would forget what this node has accepted.
        """
        puts: list[Put] = []
        carried: set[int] = set()
        for (group, instance), entry in self._entries.items():
            key = layout.entry_key(group, instance)
            chosen = max(self._chosen.get(group, -1), marks.chosen.get(group, -1))
            value = layout.pack_entry(key, entry.ballot, entry.checksum, entry.kind, entry.payload, chosen)
            puts.append(Put(Table.REPAIRS if key in damaged else Table.ENTRIES, key, value))
            # What is read back first after a restart is the end of the log: only an entry there can carry the mark.
            if instance > chosen:
                carried.add(group)
        puts.extend(self._mark_puts(marks, carried))
        puts.extend(Put(Table.BLOBS, key, value) for key, value in self._blobs.items())
        return puts

    def _mark_puts(self, marks: Marks, carried: set[int]) -> Iterable[Put]:
        for group, ballot in self._promised.items():
            if ballot > marks.promised.get(group, 0):
                yield Put(Table.STATE, layout.mark_key(layout.PROMISED, group), layout.pack_mark(ballot))
        for group in sorted(self._chosen.keys() | self._trimmed.keys()):
            if group not in carried or group in self._trimmed:
                chosen = max(self._chosen.get(group, -1), marks.chosen.get(group, -1))
                if chosen > marks.chosen_stored.get(group, -1):
                    yield Put(Table.STATE, layout.mark_key(layout.CHOSEN, group), layout.pack_mark(chosen + 1))
        for group, below in self._trimmed.items():
            chosen = max(self._chosen.get(group, -1), marks.chosen.get(group, -1))
            if below > chosen + 1:
                raise ValueError(f"group {group} was to be trimmed below {below}, but is chosen up to {chosen} only")
            if below > marks.trimmed.get(group, 0):
                yield Put(Table.STATE, layout.mark_key(layout.TRIMMED, group), layout.pack_mark(below))

    def settle(self, puts: Iterable[Put], marks: Marks) -> list[tuple[int, int]]:
        """Bring `marks` up to date after the commit of `puts`; return the trims (group, below) to carry out."""
        for group, ballot in self._promised.items():
            _raise_mark(marks.promised, group, ballot)
        for group, instance in self._chosen.items():
            _raise_mark(marks.chosen, group, instance)
        for table, key, value in puts:
            if table is Table.STATE and value is not None:
                what, group = layout.split_mark_key(key)
                if what == layout.CHOSEN:
                    marks.chosen_stored[group] = layout.unpack_mark(value) - 1
        trims = [(group, below) for group, below in self._trimmed.items() if below > marks.trimmed.get(group, 0)]
        for group, below in self._trimmed.items():
            _raise_mark(marks.trimmed, group, below)
        return trims


def _raise_mark(marks: dict[int, int], group: int, number: int) -> None:
    if number > marks.get(group, -1):
        marks[group] = number
