"""`phxqueue reconcile verify` compares replicas whose queues end at different cursors: behind, or not the same."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.admin.verifying import Verified, verdict_of, verified
from phxqueue.config import NodeAddress, Store
from phxqueue.net.address import Address
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.ledger_pb2 import VerifyRangeRequest, VerifyRangeResponse
from phxqueue.testing import small_topic

#: Items per row, and rows per answer.
ROW, PAGE = 5, 2


class Replica:
    """A queue of rows of five items; the digest of each item is its cursor, but for the `odd` ones."""

    def __init__(self, end: int, applied: int, *, first: int = 0, odd: tuple[int, ...] = (), row: int = ROW) -> None:
        self.end, self.applied, self.first, self.odd, self.row = end, applied, first, odd, row
        self.asked = 0
        self.reason = ""

    def call(self, method: Any, request: VerifyRangeRequest, timeout_s: float) -> Deferred[VerifyRangeResponse]:
        self.asked += 1
        if self.reason:
            return fail(RpcError(Status.UNAVAILABLE, self.reason))
        start = max(request.start, self.first) // self.row * self.row
        asked = min(request.stop or self.end, self.end)
        stop = min(start + PAGE * self.row, -(-asked // self.row) * self.row, self.end)
        answer = VerifyRangeResponse(start=start, stop=max(stop, start), end_cursor=self.end, applied=self.applied)
        if stop > start:
            answer.items = stop - start
            answer.digest_sum = sum(cursor + 1000 * (cursor in self.odd) for cursor in range(start, stop))
        return succeed(answer)


class Pool:
    def __init__(self, replicas: tuple[Replica, ...]) -> None:
        self._replicas = replicas

    async def connection(self, address: Address) -> Any:
        return self._replicas[address.port]


async def verify(*replicas: Replica, start: int = 0, stop: int = 0) -> tuple[list[str], int]:
    nodes = tuple(NodeAddress(number, "127.0.0.1", number, 0) for number in range(len(replicas)))
    store, pool = Store(store_id=1, nodes=nodes), Pool(replicas)
    reports = await verified(pool, small_topic([1]), store, 0, start, stop, 1.0)  # type: ignore[arg-type]
    return verdict_of(reports)


@pytest_twisted.ensureDeferred
async def test_the_same_everywhere() -> None:
    replicas = [Replica(40, 9) for _ in range(3)]
    lines, status = await verify(*replicas)
    assert (lines[-1], status) == ("all replicas agree with their index and with each other", 0)
    assert [one.asked for one in replicas] == [4, 4, 4], "nothing is asked twice"


@pytest.mark.parametrize("end", [35, 5, 0])
@pytest_twisted.ensureDeferred
async def test_one_that_is_behind_is_told_and_nothing_is_wrong(end: int) -> None:
    lines, status = await verify(Replica(40, 9), Replica(end, 7), Replica(40, 9))
    assert status == 0
    assert lines[-2] == f"node 1 is behind node 0 by {40 - end} items of this queue and 2 log entries"
    assert lines[-1] == "all replicas agree with their index and with each other, as far as each has come"
    assert sum("behind" in line for line in lines) == 1


@pytest_twisted.ensureDeferred
async def test_one_that_is_behind_in_the_log_alone_is_not_told() -> None:
    lines, status = await verify(Replica(40, 9), Replica(40, 7))
    assert (lines[-1], status) == ("all replicas agree with their index and with each other", 0)


@pytest_twisted.ensureDeferred
async def test_ends_that_differ_after_the_same_entries_are_wrong() -> None:
    """A batch that one of them has stored twice, as its last."""
    lines, status = await verify(Replica(40, 9), Replica(45, 9), Replica(40, 9))
    assert status == 1
    assert lines[-2:] == [
        "WRONG: the queue ends at cursor 40 on node 0 and at 45 on node 1, which have applied the same 9 log entries",
        "WRONG: the queue ends at cursor 40 on node 2 and at 45 on node 1, which have applied the same 9 log entries",
    ]


@pytest_twisted.ensureDeferred
async def test_one_that_has_more_after_fewer_entries_is_wrong() -> None:
    lines, status = await verify(Replica(40, 9), Replica(45, 8))
    assert status == 1
    assert lines[-1] == (
        "WRONG: the queue ends at cursor 45 on node 1 and at 40 on node 0, although node 1 has applied 1 log entries "
        "less"
    )


@pytest_twisted.ensureDeferred
async def test_one_that_has_less_and_other_items_is_wrong() -> None:
    lines, status = await verify(Replica(45, 9), Replica(35, 7, odd=(34,)))
    assert status == 1
    assert any(line.startswith("WRONG: cursors 0 to 34 are not the same on nodes 0 and 1") for line in lines)


@pytest_twisted.ensureDeferred
async def test_one_whose_last_row_goes_on_where_the_others_ends_is_wrong() -> None:
    lines, status = await verify(Replica(49, 9, row=7), Replica(35, 7), Replica(30, 6))
    assert status == 1
    assert any(line.startswith("WRONG: cursors 0 to 29 are not the same on nodes 0 and 1") for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_program_that_does_not_tell_how_far_it_has_come_is_not_judged() -> None:
    lines, status = await verify(Replica(40, 9), Replica(35, 0))
    assert status == 2
    assert lines[-1].startswith(
        "cannot tell of all replicas: the queue ends at cursor 35 on node 1 and at 40 on node 0"
    )


@pytest_twisted.ensureDeferred
async def test_what_begins_elsewhere_is_not_compared() -> None:
    lines, status = await verify(Replica(40, 9), Replica(40, 9, first=10))
    assert status == 2
    assert "try again with --from 10" in lines[-1]
    lines, status = await verify(Replica(40, 9), Replica(40, 9, first=10), start=10)
    assert (lines[-1], status) == ("all replicas agree with their index and with each other", 0)


@pytest_twisted.ensureDeferred
async def test_who_does_not_answer_hides_nothing_of_the_others() -> None:
    silent = Replica(0, 0)
    silent.reason = "connection refused"
    assert (await verify(Replica(40, 9), silent))[1] == 2
    lines, status = await verify(Replica(40, 9), silent, Replica(45, 9))
    assert (status, lines[-1].startswith("WRONG: the queue ends")) == (1, True)


def test_what_was_found_up_to_an_answer() -> None:
    found = Verified(0, start=2, stop=9, items=7, digest_sum=70, sums={(2, 4): (2, 20), (2, 9): (7, 70)})
    part = found.up_to(8)
    assert (part.start, part.stop, part.items, part.digest_sum) == (2, 4, 2, 20)
    part = found.up_to(3)
    assert (part.start, part.stop, part.items) == (2, 2, 0)
