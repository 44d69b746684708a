"""Replicas of a queue that are each right for itself, compared: what both have is the same, and where it ends. Pure.

A queue ends where the entries that a replica has applied have brought it. So of two replicas the one that has applied
less must not have more, and of as many entries they must have made the same queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

Sums = Mapping[tuple[int, int], tuple[int, int]]
"""(first cursor, one past the last) -> items, digest sum"""


@dataclass(frozen=True, slots=True)
class ReplicaEnd:
    """What one replica tells.

    Attributes:
        start: the first cursor that was looked at.
        end_cursor: of its queue, when so many log entries were `applied`; 0: its program does not tell.
    """

    node_id: int
    start: int
    end_cursor: int
    applied: int
    sums: Sums


@dataclass(slots=True)
class Comparison:
    """What is found.

    Attributes:
        lines: what is different, a line for each replica that it is about.
        wrong: there are two that cannot both be right.
        apart: queues do not end alike, and nothing is wrong about it.
        unknown: what could not be compared, and why.
    """

    lines: list[str] = field(default_factory=list)
    wrong: bool = False
    apart: bool = False
    unknown: list[str] = field(default_factory=list)


def compared(replicas: Sequence[ReplicaEnd]) -> Comparison:
    """Compare all with each other; of many that differ, each is told against the one that has come furthest."""
    found = Comparison()
    for one, other in combinations(replicas, 2):
        _compare_sums(found, one, other)
    if replicas:
        furthest = max(replicas, key=lambda one: (one.applied, one.end_cursor))
        for one in replicas:
            _compare_ends(found, one, furthest)
    return found


def _compare_sums(found: Comparison, one: ReplicaEnd, other: ReplicaEnd) -> None:
    both = sorted(one.sums.keys() & other.sums.keys(), key=lambda stretch: stretch[1])
    for start, stop in both:
        first, second = one.sums[start, stop], other.sums[start, stop]
        if first != second:
            found.wrong = True
            found.lines.append(
                f"WRONG: cursors {start} to {stop - 1} are not the same on nodes {one.node_id} and {other.node_id}: "
                f"{first[0]} items, {first[1]:016x} and {second[0]} items, {second[1]:016x}"
            )
            return
    if not both and one.start != other.start and _any_of(one) and _any_of(other):
        found.unknown.append(
            f"nodes {one.node_id} and {other.node_id} have nothing to compare: what they have begins at cursors "
            f"{one.start} and {other.start} (try again with --from {max(one.start, other.start)})"
        )


def _any_of(one: ReplicaEnd) -> bool:
    return any(stop > start for start, stop in one.sums)


def _compare_ends(found: Comparison, one: ReplicaEnd, furthest: ReplicaEnd) -> None:
    if one.end_cursor == furthest.end_cursor:
        return
    ends = (
        f"the queue ends at cursor {one.end_cursor} on node {one.node_id} and at {furthest.end_cursor} on node "
        f"{furthest.node_id}"
    )
    if not one.applied or not furthest.applied:
        found.unknown.append(f"{ends}, and one of them runs a program that does not tell how far it has come")
    elif one.applied == furthest.applied:
        found.wrong = True
        found.lines.append(f"WRONG: {ends}, which have applied the same {one.applied} log entries")
    elif one.end_cursor > furthest.end_cursor:
        found.wrong = True
        found.lines.append(
            f"WRONG: {ends}, although node {one.node_id} has applied {furthest.applied - one.applied} log entries less"
        )
    else:
        found.apart = True
        found.lines.append(
            f"node {one.node_id} is behind node {furthest.node_id} by {furthest.end_cursor - one.end_cursor} items of "
            f"this queue and {furthest.applied - one.applied} log entries"
        )
