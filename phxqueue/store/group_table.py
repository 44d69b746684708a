"""Consumer groups that come and go while a store runs: replicated state, pure. What changes it: `group_changes.py`.

A group that was created at run time reads every new batch of its pubs: the state machine adds its bit to their masks,
for producers that do not know it. Batches stored before, below its `since`, do not have the bit; which of those are its
own is judged by pub and origin (:mod:`phxqueue.store.views`, docs/decisions/0010-groups-at-run-time.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from phxqueue.store.by_group import read_by_group, write_by_group
from phxqueue.store.columns import ColumnReader, ColumnWriter

Key = tuple[int, int]
"""(queue id, consumer group id)"""

#: Commands with changes of groups.
GROUPS_VERSION = 8
#: A constant of the command version: most queues that one command names.
MAX_QUEUES = 1 << 20


@dataclass(frozen=True, slots=True)
class RunTimeGroup:
    """A group that was created at run time.

    Attributes:
        pub_ids: what it reads, sorted.
        start_ms: where it began: 0 at the earliest item, 1 at the latest, else at that time, Unix milliseconds.
        timestamp_ms: when that was.
        timer_number: delayed batches with a lower number were enqueued before.
    """

    pub_ids: tuple[int, ...]
    start_ms: int
    timestamp_ms: int
    timer_number: int

    EARLIEST = 0
    LATEST = 1


class Before(NamedTuple):
    """What had been before a group was created at run time, or before its store began to count this: items, by the
    names that `phxqueue status` has for them. It is no part of the group's sums.

    `acknowledged`: where it began, added up over the queues. `others`: later attempts of other groups.
    """

    acknowledged: int
    rolled_back: int
    retried: int
    dead: int
    expired: int
    requeued: int
    dropped: int
    replayed: int
    skipped: int
    others: int


@dataclass(slots=True)
class GroupTable:
    """What is known of such groups in one Paxos group.

    Attributes:
        created: by id.
        since: where each of them found the end of a queue when it was created: below, masks say nothing of it.
        leaving: of groups that are in the files no more: until when (Unix milliseconds) their positions are kept.
        gone: of groups that were deleted or have left: where the queue ended then. Nothing below is kept for them.
        extra: pub id -> the bits to add to its new batches.
        before: of those created, once the books are whole.
    """

    created: dict[int, RunTimeGroup] = field(default_factory=dict)
    since: dict[Key, int] = field(default_factory=dict)
    leaving: dict[Key, int] = field(default_factory=dict)
    gone: dict[Key, int] = field(default_factory=dict)
    extra: dict[int, int] = field(default_factory=dict)
    before: dict[int, Before] = field(default_factory=dict)

    def put(self, group_id: int, group: RunTimeGroup) -> None:
        """Add one."""
        self.created[group_id] = group
        self._count()

    def remove(self, group_id: int) -> None:
        """Take one out, with everything known of its queues."""
        del self.created[group_id]
        self.before.pop(group_id, None)
        for key in [key for key in self.since if key[1] == group_id]:
            del self.since[key]
        self._count()

    def _count(self) -> None:
        self.extra = {}
        for group_id, group in self.created.items():
            for pub_id in group.pub_ids:
                self.extra[pub_id] = self.extra.get(pub_id, 0) | 1 << (group_id - 1)

    def reads(self, group_id: int, pub_ids: Iterable[int]) -> bool:
        """Whether a group that was created at run time reads one of these pubs."""
        group = self.created.get(group_id)
        return group is not None and not set(group.pub_ids).isdisjoint(pub_ids)

    def reading(self, pub_ids: Iterable[int]) -> set[int]:
        """The groups that read one of these pubs."""
        wanted = set(pub_ids)
        return {group_id for group_id, group in self.created.items() if not wanted.isdisjoint(group.pub_ids)}

    def bits_of_timer(self, pub_id: int, timer_number: int) -> int:
        """The bits of groups that a delayed batch comes due for: they began before it was enqueued, or from before."""
        return sum(
            1 << (group_id - 1)
            for group_id, group in self.created.items()
            if pub_id in group.pub_ids and (group.start_ms != group.LATEST or timer_number >= group.timer_number)
        )

    def pin(self, queue_id: int, acked: Callable[[int], int]) -> int:
        """Where retention has to stop, for groups that still have to read what does not carry their bit; 2^64: nowhere.

        `acked`: the position of a consumer group in the queue.
        """
        lowest = 1 << 64
        if self.since:
            for group_id in self.created:
                position = acked(group_id)
                if position < self.since.get((queue_id, group_id), 0):
                    lowest = min(lowest, position)
        return lowest

    def trimmed(self, queue_id: int, first: int) -> None:
        """A queue begins at `first` now: forget what was noted of what lay below."""
        for noted in (self.since, self.gone):
            if noted:
                for group_id in range(1, 65):
                    if noted.get((queue_id, group_id), first + 1) <= first:
                        del noted[queue_id, group_id]

    def write(self, out: ColumnWriter, *, whole: bool) -> None:
        """Write all of it, the same on every replica. `whole`: in the form that the state has since the books are."""
        out.u32(len(self.created))
        for group_id, group in sorted(self.created.items()):
            out.numbers((group_id, group.start_ms, group.timestamp_ms, group.timer_number, len(group.pub_ids)))
            out.numbers(group.pub_ids)
        for noted in (self.since, self.leaving, self.gone):
            write_by_group(out, dict(sorted(noted.items())))
        if whole:
            out.u32(len(self.before))
            for group_id, before in sorted(self.before.items()):
                out.numbers((group_id, *before))

    def read(self, source: ColumnReader, *, whole: bool) -> None:
        """Take over what was written."""
        for _ in range(source.u32()):
            group_id, start_ms, timestamp_ms, timer_number, pubs = source.numbers(5)
            self.created[group_id] = RunTimeGroup(tuple(source.numbers(pubs)), start_ms, timestamp_ms, timer_number)
        self.since, self.leaving, self.gone = (read_by_group(source) for _ in range(3))
        for _ in range(source.u32() if whole else 0):
            group_id, *before = source.numbers(1 + len(Before._fields))
            self.before[group_id] = Before(*before)
        self._count()
