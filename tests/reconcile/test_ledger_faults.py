"""What goes wrong between producer and log turns the ledger red: for the pub and the groups that it concerns, only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from phxqueue.net.status import RpcError, Status
from phxqueue.producer import NewItem
from phxqueue.proto.store_pb2 import AddRequest, AddResponse
from tests.reconcile.rig import QUEUES, Books

Store = Callable[[AddRequest], Deferred[Any]]
#: From the fault to the alarm. For as long as its minute lasts more of its kind comes, of which some is not reported
#: yet; then there is a report every fifteen seconds, and a look every eleven.
WITHIN_S = 60 + 15 + 11
#: Until nothing is to be told any more of what was stored before.
SETTLED_S = 400.0


def confirmation_lost(request: AddRequest, store: Store, books: Books) -> Deferred[Any]:
    """The store has it, and the producer is told that it was refused."""
    return store(request).addCallback(lambda _: fail(RpcError(Status.INVALID_ARGUMENT, "the answer was another's")))


def stored_twice(request: AddRequest, store: Store, books: Books) -> Deferred[Any]:
    """The window that knows duplicates has forgotten the batch: its repetition is stored, too."""

    def again(response: AddResponse) -> Deferred[Any]:
        machine = books.group.state_machine
        machine.window = machine.window.emptied()
        return store(request).addCallback(lambda _: response)

    return store(request).addCallback(again)


def wrong_mask(request: AddRequest, store: Store, books: Books) -> Deferred[Any]:
    """It is stored for group 1 alone."""
    changed = AddRequest.FromString(request.SerializeToString())
    for batch in changed.batches:
        batch.header.consumer_group_ids = 0b01
    return store(changed)


def confirmed_and_not_stored(request: AddRequest, store: Store, books: Books) -> Deferred[Any]:
    """The store says yes to what it throws away."""
    probe = AddRequest(topic_id=request.topic_id, store_id=request.store_id)
    probe.batches.add().CopyFrom(request.batches[0])
    header = probe.batches[0].header
    header.producer_id = header.sequence = 0
    header.pub_id, header.queue_id = 2, QUEUES[2]

    def lie(response: AddResponse) -> AddResponse:
        for result in response.results:
            result.first_cursor = 999
        return response

    return store(probe).addCallback(lie)


FAULTS = {
    # fault: what is told of pub 1, and for which groups
    confirmed_and_not_stored: ("unstored", {1, 2}),
    wrong_mask: ("unstored", {2}),
    confirmation_lost: ("unconfirmed", {1, 2}),
    stored_twice: ("unconfirmed", {1, 2}),
}


KINDS = ("unstored", "unconfirmed", "lost", "invented", "altered")


async def goes_by(books: Books, seconds: float) -> None:
    """Let time pass, a second at a time, and everybody do what is due."""
    for _ in range(int(seconds)):
        books.pass_time(1.0)
        for _ in range(3):
            await deferLater(reactor, 0, bool)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest_twisted.ensureDeferred
async def test_the_ledger_is_red_where_it_should_be(fault: Any, reconcile: Any, logged_errors: Any) -> None:
    kind, groups = FAULTS[fault]
    books = Books(reconcile)
    async with books.cluster:
        await goes_by(books, 5)  # the books are opened
        await books.enqueue("before")
        await goes_by(books, SETTLED_S)
        assert books.alarms.raised == {}

        def once(request: AddRequest, store: Store) -> Deferred[Any]:
            if request.batches[0].header.pub_id != 1:
                return store(request)
            books.on_store = None
            return fault(request, store, books)

        books.on_store = once
        for pub in (2, 1):
            result = await books.cluster.producer.enqueue_many([NewItem(pub, 1, b"broken %d" % n) for n in range(5)])
        assert result.all_stored == (fault is not confirmation_lost)
        for number in range(WITHIN_S):  # others of its kind come all the time
            await books.cluster.producer.enqueue_many([NewItem(1, 1, b"later %d" % number)])
            await goes_by(books, 1)
        found = {name: one.alarm for name, one in books.alarms.standing.items()}
        assert set(found) == {f"difference store 1 paxos group 0 pub 1 group {group}" for group in groups}
        for alarm in found.values():
            assert (alarm.facts[kind], alarm.labels["pub"], alarm.warning) == (5, "1", False)
            assert sum(int(str(alarm.facts[one])) for one in KINDS) == 5, "and nothing else"
        rows = [row for row in await books.ledger() if row.difference]
        assert {(row.pub_id, row.consumer_group_id, row.difference) for row in rows} == {(1, one, 5) for one in groups}
        assert all(row.balance == 0 for row in rows)
        await books.cluster.settle()


@pytest.mark.parametrize("closed", [False, True], ids=["silent", "closed"])
@pytest_twisted.ensureDeferred
async def test_what_is_stored_again_when_its_producer_says_nothing_any_more_is_red_as_well(
    closed: bool, logged_errors: Any
) -> None:
    """It has vouched for the batch long ago, and nothing comes after it."""
    books, sent = Books("alarm"), list[AddRequest]()

    def keep(request: AddRequest, store: Store) -> Deferred[Any]:
        sent.append(AddRequest.FromString(request.SerializeToString()))
        return store(request)

    async with books.cluster:
        await goes_by(books, 5)
        books.on_store = keep
        producer = books.cluster.producer
        await producer.enqueue_many([NewItem(1, 1, b"once %d" % number) for number in range(5)])
        books.on_store = None
        if closed:
            await producer.close()
        await goes_by(books, SETTLED_S)
        assert books.alarms.raised == {}
        machine = books.group.state_machine
        machine.window = machine.window.emptied()
        await books.add(*sent[0].batches)
        await goes_by(books, 11)
        found = {name: one.alarm for name, one in books.alarms.standing.items()}
        assert set(found) == {f"difference store 1 paxos group 0 pub 1 group {group}" for group in (1, 2)}
        assert all(alarm.facts["unconfirmed"] == 5 for alarm in found.values())
        rows = [row for row in await books.ledger() if row.difference]
        assert {(row.consumer_group_id, row.unconfirmed, row.difference) for row in rows} == {(1, 5, 5), (2, 5, 5)}
        assert all(row.balance == 0 for row in rows)
        await books.cluster.settle()
