"""Items that are stored again (later attempts, dead letters) or dropped, counted by consumer group. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from phxqueue.proto.origin import Origin
from phxqueue.proto.status_pb2 import AttemptsOfPub, PassedOn
from phxqueue.proto.store_pb2 import CursorRange

if TYPE_CHECKING:
    from phxqueue.store.state import QueueState

Counts = dict[tuple[int, int], int]
"""(consumer group id, what) -> items. What: origin | pub id << 32, pub id 0 as long as the books are not whole; DROPPED
in the place of an origin: those whose time had passed."""

_RETRIED, _DEAD, _EXPIRED, _REQUEUED = Origin.RETRIED, Origin.DEAD, Origin.EXPIRED, Origin.REQUEUED
#: Higher ones are of a later program: not counted, by a constant of the command version.
LAST_COUNTED = Origin.REQUEUED
#: No batch has this origin.
DROPPED = 1 << 16
#: Commands with dropped items.
DROP_VERSION = 11
_PUB_SHIFT = 32
_ORIGIN = (1 << _PUB_SHIFT) - 1


def count(counts: Counts, mask: int, origin: int, items: int, pub_id: int = 0) -> None:
    """Count a batch that was stored."""
    if origin > LAST_COUNTED:
        return
    what = origin | pub_id << _PUB_SHIFT
    while mask:
        key = (mask & -mask).bit_length(), what
        counts[key] = counts.get(key, 0) + items
        mask &= mask - 1


def count_dropped(
    counts: Counts, consumer_group_id: int, before: int, acked: int, dropped: Iterable[CursorRange]
) -> None:
    """Count the dropped items of a cursor move from `before` to `acked`.

    What lies outside has been counted, or will be, by the move that passes it: so whatever is said twice counts once.
    """
    items, position = 0, before
    for stretch in dropped:
        stop = min(stretch.first + stretch.count, acked)
        items += max(0, stop - max(stretch.first, position))
        position = max(position, stop)
    if items:
        key = consumer_group_id, DROPPED
        counts[key] = counts.get(key, 0) + items


def passed_on(states: Collection[QueueState]) -> list[PassedOn]:
    """Add up the counts of several Paxos groups."""
    total: Counts = {}
    attempts: Counts = {}  # (consumer group id, pub id) -> later attempts
    for state in states:
        add_up(total, attempts, state.passed_on)
    again = _added(state.replays.replayed for state in states)
    over = _added(state.replays.skipped for state in states)
    return [
        PassedOn(
            consumer_group_id=group,
            retried=total.get((group, _RETRIED), 0),
            dead=total.get((group, _DEAD), 0),
            expired=total.get((group, _EXPIRED), 0),
            requeued=total.get((group, _REQUEUED), 0),
            dropped=total.get((group, DROPPED), 0),
            replayed=again.get(group, 0),
            skipped=over.get(group, 0),
            attempts=[
                AttemptsOfPub(pub_id=pub_id, items=items)
                for (one, pub_id), items in sorted(attempts.items())
                if one == group
            ],
        )
        for group in sorted({group for group, _ in total} | again.keys() | over.keys())
    ]


def add_up(total: Counts, attempts: Counts, counts: Counts) -> None:
    """Add the counts of one Paxos group: by (consumer group id, origin), and later attempts by (..., pub id)."""
    for (group, what), items in counts.items():
        origin, pub_id = what & _ORIGIN, what >> _PUB_SHIFT
        total[group, origin] = total.get((group, origin), 0) + items
        if origin in (_RETRIED, _REQUEUED):
            attempts[group, pub_id] = attempts.get((group, pub_id), 0) + items


def _added(counted: Iterable[Mapping[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for counts in counted:
        for group, items in counts.items():
            total[group] = total.get(group, 0) + items
    return total
