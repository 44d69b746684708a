"""How consumer groups are shown: what files and stores say of them, together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phxqueue.admin.rendering import utc_time
from phxqueue.admin.table import age, table
from phxqueue.proto.store_pb2 import GroupState

_STARTS = {0: "earliest", 1: "latest"}


@dataclass(slots=True)
class Found:
    """One consumer group.

    Attributes:
        in_files: whether our files have it; `pub_ids`: what it reads by them.
        run_time_pubs, start_ms, created_ms: of one that was created at run time; `created_ms` 0: it was not.
        expected: the (store, Paxos group) that should know one created at run time.
        knowing: those that do.
        leaving_until_ms: the earliest time at which some of its positions are given up; 0: none are.
        leaving_queues: in how many queues.
        other_files: nodes' files differ from ours about it.
    """

    consumer_group_id: int
    in_files: bool
    pub_ids: tuple[int, ...] = ()
    run_time_pubs: tuple[int, ...] = ()
    start_ms: int = 0
    created_ms: int = 0
    expected: frozenset[tuple[int, int]] = frozenset()
    knowing: set[tuple[int, int]] = field(default_factory=set)
    leaving_until_ms: int = 0
    leaving_queues: int = 0
    other_files: bool = False

    def add(self, place: tuple[int, int], state: GroupState) -> None:
        """Take in what the master of one Paxos group says."""
        if state.in_files and not self.in_files:
            self.other_files = True
        if state.created_ms:
            self.knowing.add(place)
            self.run_time_pubs, self.start_ms = tuple(state.pub_ids), state.start_ms
            self.created_ms = min(self.created_ms or state.created_ms, state.created_ms)
        if state.leaving_until_ms:
            self.leaving_queues += len(state.leaving_queue_ids)
            self.leaving_until_ms = min(self.leaving_until_ms or state.leaving_until_ms, state.leaving_until_ms)

    @property
    def problems(self) -> list[str]:
        """Where files and stores, or stores among themselves, disagree."""
        found = []
        missing = sorted(self.expected - self.knowing)
        if self.created_ms and missing:
            where = ", ".join(f"store {store} Paxos group {group}" for store, group in missing)
            found.append(f"unknown to {where}: give `phxqueue groups create` again")
        if self.created_ms and self.in_files and set(self.run_time_pubs) != set(self.pub_ids):
            found.append(f"created for pubs {_listed(self.run_time_pubs)}, in the files for {_listed(self.pub_ids)}")
        if self.other_files:
            found.append("in the files of a store, not in ours")
        return found

    @property
    def origin(self) -> str:
        """Where it is from."""
        if self.created_ms:
            return "files and run time" if self.in_files else "run time"
        return "files" if self.in_files else "no file"


def as_text(found: Sequence[Found], now: float) -> list[str]:
    """Return a table, and below it what is wrong."""
    rows = [
        (
            one.consumer_group_id,
            one.origin,
            _listed(one.run_time_pubs if one.created_ms and not one.in_files else one.pub_ids),
            (_STARTS.get(one.start_ms) or utc_time(one.start_ms)) if one.created_ms else "",
            utc_time(one.created_ms) if one.created_ms else "",
            _leaving(one, now),
        )
        for one in found
    ]
    lines = table(("GROUP", "FROM", "PUBS", "BEGAN AT", "CREATED", "STATE"), rows, left=3)
    return [*lines, *(f"group {one.consumer_group_id}: {text}" for one in found for text in one.problems)]


def _leaving(one: Found, now: float) -> str:
    if not one.leaving_until_ms:
        return ""
    left = one.leaving_until_ms / 1000 - now
    return f"leaving {one.leaving_queues} queues, until {utc_time(one.leaving_until_ms)} (in {age(max(left, 0.0))})"


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids)) or "none"


def as_documents(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return plain values, ready for JSON."""
    return [
        {
            "consumer_group_id": one.consumer_group_id,
            "in_files": one.in_files,
            "pub_ids": list(one.pub_ids),
            "run_time": bool(one.created_ms),
            "run_time_pub_ids": list(one.run_time_pubs),
            "start_ms": one.start_ms,
            "created_ms": one.created_ms,
            "leaving_until_ms": one.leaving_until_ms,
            "leaving_queues": one.leaving_queues,
            "problems": one.problems,
        }
        for one in found
    ]
