"""Has every replica of a store recompute a stretch of a queue, and compares what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.table import table
from phxqueue.config import NodeAddress, Store, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.status import RpcError
from phxqueue.proto.digest import MASK64
from phxqueue.proto.ledger_pb2 import VerifyRangeRequest
from phxqueue.proto.methods import VERIFY_RANGE


@dataclass(slots=True)
class Verified:
    """What one replica found.

    Attributes:
        start, stop: the cursors looked at.
        sums: what the digests of all items up to a cursor add up to, where its answers ended.
        reason: why it did not answer.
    """

    node_id: int
    start: int = 0
    stop: int = 0
    end_cursor: int = 0
    items: int = 0
    batches: int = 0
    entries: int = 0
    digest_sum: int = 0
    bad: bool = False
    bad_cursor: int = 0
    problem: str = ""
    reason: str = ""
    sums: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def as_document(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        names = (
            "node_id", "start", "stop", "end_cursor", "items", "batches", "entries", "bad", "bad_cursor", "problem",
            "reason",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "digest_sum": f"{self.digest_sum:016x}"}


async def verified(
    pool: ConnectionPool, topic: Topic, store: Store, queue_id: int, start: int, stop: int, timeout_s: float
) -> list[Verified]:
    """Ask all nodes of a store that have items."""
    nodes = [node for node in store.nodes if node.kind != "witness"]
    return await gather(_ask(pool, topic, store, node, queue_id, start, stop, timeout_s) for node in nodes)


async def _ask(
    pool: ConnectionPool,
    topic: Topic,
    store: Store,
    node: NodeAddress,
    queue_id: int,
    start: int,
    stop: int,
    timeout_s: float,
) -> Verified:
    found = Verified(node.node_id, start=start)
    request = VerifyRangeRequest(
        topic_id=topic.topic_id, store_id=store.store_id, queue_id=queue_id, start=start, stop=stop
    )
    first = True
    try:
        connection = await pool.connection(Address(node.ip, node.port))
        while True:
            answer = await connection.call(VERIFY_RANGE, request, timeout_s)
            if first:
                found.start, first = answer.start, False
                request.stop = request.stop or answer.end_cursor  # a queue that grows has an end for us
            found.stop, found.end_cursor = answer.stop, answer.end_cursor
            found.items += answer.items
            found.batches += answer.batches
            found.entries += answer.entries
            found.digest_sum = (found.digest_sum + answer.digest_sum) & MASK64
            if answer.bad:
                found.bad, found.bad_cursor, found.problem = True, answer.bad_cursor, answer.problem
                return found
            found.sums[found.start, found.stop] = found.items, found.digest_sum
            if answer.stop >= min(request.stop, answer.end_cursor) or answer.stop <= request.start:
                return found
            request.start = answer.stop
    except RpcError as error:
        found.reason = error.message or str(error)
        return found


def verdict_of(reports: Sequence[Verified]) -> tuple[list[str], int]:
    """Lines for people, and the exit status: 1, something is wrong; 2, somebody did not answer."""
    rows = [
        (
            f"node {one.node_id}",
            f"{one.start} to {one.stop - 1}" if one.stop > one.start else "nothing",
            one.items,
            one.batches,
            one.entries,
            f"{one.digest_sum:016x}",
            _state(one),
        )
        for one in reports
    ]
    lines = table(("REPLICA", "CURSORS", "ITEMS", "BATCHES", "ENTRIES", "DIGESTS", ""), rows, left=2)
    bad = [one for one in reports if one.bad]
    if bad:
        first = min(bad, key=lambda one: one.bad_cursor)
        return [*lines, "", f"WRONG from cursor {first.bad_cursor} on, on node {first.node_id}: {first.problem}"], 1
    disagree = _disagreement(reports)
    if disagree:
        return [*lines, "", disagree], 1
    silent = [f"node {one.node_id}: {one.reason}" for one in reports if one.reason]
    if silent:
        return [*lines, "", f"cannot tell of all replicas: {'; '.join(silent)}"], 2
    return [*lines, "", "all replicas agree with their index and with each other"], 0


def _state(one: Verified) -> str:
    return f"WRONG at {one.bad_cursor}" if one.bad else "no answer" if one.reason else "right"


def _disagreement(reports: Sequence[Verified]) -> str:
    """Two replicas that are right each for itself, and not the same; "": there are none."""
    told: dict[tuple[int, int], tuple[int, tuple[int, int]]] = {}
    for one in reports:
        for stretch, sums in one.sums.items():
            node_id, first = told.setdefault(stretch, (one.node_id, sums))
            if first != sums:
                return (
                    f"WRONG: cursors {stretch[0]} to {stretch[1] - 1} are not the same on nodes {node_id} and "
                    f"{one.node_id}: {first[0]} items, {first[1]:016x} and {sums[0]} items, {sums[1]:016x}"
                )
    return ""
