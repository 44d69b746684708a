"""enqueue_many(..., atomic=True) on real stores in memory, and its retries against a store with faults."""

from __future__ import annotations

import pytest
import pytest_twisted

from phxqueue.config import Pub, QueueInfo, Topic
from phxqueue.producer import (
    Cancelled,
    InvalidItem,
    NewItem,
    NotOnePlace,
    OutcomeUnknown,
    Receipts,
    TooMuchAtOnce,
    UnknownHandle,
)
from phxqueue.testing import InMemoryCluster
from tests.producer.fake_store import Fault, make_store, make_topic
from tests.producer.rig import Rig, outcome, watch
from tests.testing.notes import Notes


def two_stores() -> Topic:
    """Pubs 1 and 2 on stores 1 and 2 with two Paxos groups each; pub 2 only has queues of the second group."""
    return make_topic(
        stores=tuple(make_store(number, pub_ids=(1, 2), paxos_groups=2) for number in (1, 2)),
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 3),)),
            QueueInfo(queue_info_id=2, ranges=((5, 5),)),
        ),
        pubs=(
            Pub(pub_id=1, queue_info_ids=(1,), consumer_group_ids=(1, 2)),
            Pub(pub_id=2, queue_info_ids=(2,), consumer_group_ids=(1,)),
        ),
    )


@pytest_twisted.ensureDeferred
async def test_all_items_are_in_one_entry_in_order() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        items = [NewItem(1, 1, b"%d" % number, uin=7 * (number % 2)) for number in range(6)]
        receipts = await cluster.producer.enqueue_many(items, atomic=True)
        assert receipts.all_stored
        assert len(receipts) == 6
        await cluster.settle()
    assert sorted(notes.seen) == [b"%d" % number for number in range(6)]


@pytest_twisted.ensureDeferred
async def test_nothing_and_what_is_wrong() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        many = cluster.producer.enqueue_many
        assert len(await many([], atomic=True)) == 0
        with pytest.raises(UnknownHandle, match=r"items\[1\]: .*nothing was sent"):
            await many([NewItem(1, 1, b"x"), NewItem(1, 9, b"y")], atomic=True)
        with pytest.raises(TooMuchAtOnce, match="batch_limit = 1000"):
            await many([NewItem(1, 1, b"x")] * 1001, atomic=True)
        with pytest.raises(TooMuchAtOnce, match="items_byte_size_limit"):
            await many([NewItem(1, 1, b"x" * (1 << 20))] * 2, atomic=True)
        with pytest.raises(InvalidItem, match="store= is for atomic calls"):
            await many([NewItem(1, 1, b"x")], store=1)
        await cluster.settle()
        assert cluster.producer.stats.stored == 0
    assert notes.seen == []


def test_items_that_lead_to_several_places_are_refused_and_told_where() -> None:
    rig = Rig(two_stores())
    items = [NewItem(1, 1, b"a", 1), NewItem(1, 1, b"b", 2), NewItem(1, 1, b"c", 1)]
    error = outcome(rig.producer.enqueue_many(items, atomic=True))
    assert isinstance(error, NotOnePlace)
    other = next(uin for uin in range(2, 99) if store_of(uin) == store_of(1))
    alike = [NewItem(2, 1, b"a", 1), NewItem(2, 1, b"b", other)]
    told = str(outcome(rig.producer.enqueue_many(alike, atomic=True)))
    assert "has one uin at most" in told
    assert "item 0 with uin 1" in told
    for part in (
        "items 0, 2 (uin 1) to Paxos group",
        "item 1 (uin 2) to Paxos group",
        "the same uin",
        "Nothing was sent",
    ):
        assert part in error.message
    rig.run(1)
    assert rig.store.adds == []


def test_items_without_a_uin_follow_the_one_that_has_one() -> None:
    for uin in range(1, 30):
        rig = Rig(two_stores(), seed=uin)
        items = [NewItem(1, 1, b"a"), NewItem(1, 1, b"b", uin), NewItem(1, 1, b"c", consumer_group_ids=(1,))]
        receipts = rig.producer.enqueue_many(items, atomic=True)
        rig.run(1)
        found = outcome(receipts)
        assert isinstance(found, Receipts)
        assert len({(one.store_id, one.queue_id % 2) for one in found}) == 1  # type: ignore[union-attr]
        [add] = rig.store.adds
        sizes = [one.header.atomic_batches for one in add.batches]
        assert sizes == ([0] if len(sizes) == 1 else [len(sizes), *[0] * (len(sizes) - 1)])


def test_a_store_may_be_asked_for() -> None:
    for store_id in (1, 2):
        for seed in range(10):
            rig = Rig(two_stores(), seed=seed)
            receipts = rig.producer.enqueue_many(
                [NewItem(1, 1, b"a"), NewItem(1, 1, b"b")], atomic=True, store=store_id
            )
            rig.run(1)
            assert {one.store_id for one in outcome(receipts)} == {store_id}
    error = outcome(rig.producer.enqueue_many([NewItem(1, 1, b"a")], atomic=True, store=3))
    assert "items[0]: store 3 does not serve pub 1" in str(error)
    elsewhere = next(uin for uin in range(1, 99) if store_of(uin) == 1)
    error = outcome(rig.producer.enqueue_many([NewItem(1, 1, b"a", elsewhere)], atomic=True, store=2))
    assert "store=2 was asked for" in str(error)


def store_of(uin: int) -> int:
    rig = Rig(two_stores())
    receipt = rig.producer.enqueue(1, 1, b"", uin)
    rig.run(1)
    return int(outcome(receipt).store_id)


def test_a_pub_without_a_queue_there_is_told() -> None:
    for seed in range(20):
        rig = Rig(two_stores(), seed=seed)
        found = rig.producer.enqueue_many([NewItem(1, 1, b"a"), NewItem(2, 1, b"b")], atomic=True)
        rig.run(1)
        result = outcome(found)
        if isinstance(result, NotOnePlace):
            assert "queue_info 2 of pub 2 has no queue there" in result.message
            return
    raise AssertionError("never met the first Paxos group")


def test_an_unknown_outcome_is_retried_as_it_was_and_stored_once() -> None:
    rig = Rig(make_topic(), deadline_s=5.0)
    faults = iter([Fault.REPLY_LOST, Fault.OVERLOADED])
    rig.store.fault = lambda method, request: next(faults, Fault.NONE)
    told = watch(rig.producer.enqueue_many([NewItem(1, 1, b"a", 3), NewItem(2, 1, b"b", 3)], atomic=True))
    rig.run(20)
    assert [item.buffer for item in rig.store.all_items()] == [b"a", b"b"]
    assert isinstance(told[0], OutcomeUnknown | Receipts)
    sent = [[(one.header.sequence, one.header.atomic_batches) for one in add.batches] for add in rig.store.adds]
    assert len(sent) > 1
    assert all(one == sent[0] == [(1, 2), (2, 0)] for one in sent)


def test_a_refusal_is_one_error_for_all() -> None:
    rig = Rig(make_topic())
    rig.store.fault = lambda method, request: Fault.DENIED
    told = watch(rig.producer.enqueue_many([NewItem(1, 1, b"a", 3), NewItem(2, 1, b"b", 3)], atomic=True))
    rig.run(1)
    [error] = told
    assert "nothing was written" in str(error)
    assert rig.producer.stats.refused == 2


def test_the_order_of_a_uin_holds_around_an_atomic_call() -> None:
    rig = Rig(make_topic())
    for number in range(3):
        rig.producer.enqueue(1, 1, b"%d" % number, 7)
    rig.producer.enqueue_many([NewItem(1, 1, b"3", 7), NewItem(1, 1, b"4", 7)], atomic=True)
    rig.producer.enqueue(1, 1, b"5", 7)
    rig.run(1)
    assert rig.written_in_order()[1, 7] == [b"%d" % number for number in range(6)]


def test_cancelled_before_it_has_left_it_never_does() -> None:
    rig = Rig(make_topic())
    call = rig.producer.enqueue_many([NewItem(1, 1, b"a", 3), NewItem(2, 1, b"b", 3)], atomic=True)
    told = watch(call)
    call.cancel()
    rig.run(1)
    assert isinstance(told[0], Cancelled)
    assert (rig.store.adds, rig.producer._dispatch._admission.items) == ([], 0)


def test_items_of_a_queue_info_that_drops_are_told_so() -> None:
    topic = make_topic(
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 3),)),
            QueueInfo(queue_info_id=2, ranges=((9, 9),), drop_all=True),
        ),
        pubs=(
            Pub(pub_id=1, queue_info_ids=(1,), consumer_group_ids=(1, 2)),
            Pub(pub_id=2, queue_info_ids=(2,), consumer_group_ids=(1,)),
        ),
    )
    rig = Rig(topic)
    call = rig.producer.enqueue_many([NewItem(1, 1, b"a"), NewItem(2, 1, b"b")], atomic=True)
    rig.run(1)
    assert [one.stored for one in outcome(call)] == [True, False]
