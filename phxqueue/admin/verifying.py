"""Has every replica of a store recompute a stretch of a queue, and tells what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phxqueue.admin.gather import gather
from phxqueue.admin.replica_ends import ReplicaEnd, compared
from phxqueue.admin.table import table
from phxqueue.config import Store, Topic
from phxqueue.net.address import Address
from phxqueue.net.pool import ConnectionPool
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.status import RpcError
from phxqueue.proto.digest import MASK64
from phxqueue.proto.ledger_pb2 import VerifyRangeRequest
from phxqueue.proto.methods import VERIFY_RANGE


@dataclass(slots=True)
class Verified:
    """What one replica found.

    Attributes:
        start, stop: the cursors looked at.
        end_cursor: of the queue, when so many log entries were `applied` (0: its program does not tell).
        sums: what the digests of all items up to a cursor add up to, where its answers ended.
        reason: why it did not answer.
    """

    node_id: int
    start: int = 0
    stop: int = 0
    end_cursor: int = 0
    applied: int = 0
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
            "node_id", "start", "stop", "end_cursor", "applied", "items", "batches", "entries", "bad", "bad_cursor",
            "problem", "reason",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "digest_sum": f"{self.digest_sum:016x}"}

    def up_to(self, stop: int) -> Verified:
        """What it found up to the last of its answers that ends there or before."""
        sums = {stretch: sums for stretch, sums in self.sums.items() if stretch[1] <= stop}
        found = Verified(self.node_id, start=self.start, stop=self.start, sums=sums)
        if sums:
            (_, found.stop), (found.items, found.digest_sum) = max(sums.items())
        return found


async def verified(
    pool: ConnectionPool, topic: Topic, store: Store, queue_id: int, start: int, stop: int, timeout_s: float
) -> list[Verified]:
    """Ask all nodes of a store that have items; of a queue that ends sooner on one of them, the others once more for
    what they have up to there.
    """
    addresses = {node.node_id: Address(node.ip, node.port) for node in store.nodes if node.kind != "witness"}

    async def look(found: Verified, until: int) -> Verified:
        request = VerifyRangeRequest(
            topic_id=topic.topic_id, store_id=store.store_id, queue_id=queue_id, start=found.stop, stop=until
        )
        try:
            await _read(await pool.connection(addresses[found.node_id]), request, found, timeout_s)
        except RpcError as error:
            found.reason = error.message or str(error)
        return found

    reports = await gather(look(Verified(node_id, start=start, stop=start), stop) for node_id in addresses)
    sound = {one.node_id: one for one in reports if not one.bad and not one.reason}
    least = min((one.stop for one in sound.values()), default=0)
    longer = [one for one in sound.values() if one.start < least and (one.start, least) not in one.sums]
    for again in await gather(look(one.up_to(least), least) for one in longer):
        one = sound[again.node_id]
        one.bad, one.bad_cursor, one.problem, one.reason = again.bad, again.bad_cursor, again.problem, again.reason
        one.sums[one.start, least] = again.items, again.digest_sum
    return reports


async def _read(connection: RpcConnection, request: VerifyRangeRequest, found: Verified, timeout_s: float) -> None:
    """Add up the answers from `request.start` on to what is found already."""
    while True:
        answer = await connection.call(VERIFY_RANGE, request, timeout_s)
        if not found.sums:
            found.start = answer.start
        request.stop = request.stop or answer.end_cursor  # a queue that grows has an end for us
        found.stop, found.end_cursor, found.applied = answer.stop, answer.end_cursor, answer.applied
        found.items += answer.items
        found.batches += answer.batches
        found.entries += answer.entries
        found.digest_sum = (found.digest_sum + answer.digest_sum) & MASK64
        if answer.bad:
            found.bad, found.bad_cursor, found.problem = True, answer.bad_cursor, answer.problem
            return
        found.sums[found.start, found.stop] = found.items, found.digest_sum
        if answer.stop >= min(request.stop, answer.end_cursor) or answer.stop <= request.start:
            return
        request.start = answer.stop


def verdict_of(reports: Sequence[Verified]) -> tuple[list[str], int]:
    """Lines for people, and the exit status: 1, something is wrong; 2, nobody can tell of all of them."""
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
    lines = [*table(("REPLICA", "CURSORS", "ITEMS", "BATCHES", "ENTRIES", "DIGESTS", ""), rows, left=2), ""]
    bad = [one for one in reports if one.bad]
    if bad:
        lines += [f"WRONG from cursor {one.bad_cursor} on, on node {one.node_id}: {one.problem}" for one in bad]
        return lines, 1
    ends = [
        ReplicaEnd(one.node_id, one.start, one.end_cursor, one.applied, one.sums) for one in reports if not one.reason
    ]
    found = compared(ends)
    lines += found.lines
    if found.wrong:
        return lines, 1
    unknown = [f"node {one.node_id}: {one.reason}" for one in reports if one.reason] + found.unknown
    if unknown:
        return [*lines, f"cannot tell of all replicas: {'; '.join(unknown)}"], 2
    return [
        *lines,
        "all replicas agree with their index and with each other" + ", as far as each has come" * found.apart,
    ], 0


def _state(one: Verified) -> str:
    return f"WRONG at {one.bad_cursor}" if one.bad else "no answer" if one.reason else "right"
