"""The whole producer against a store in memory: validation, batching, receipts, bounds, the end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import Clock

from phxqueue.config import Cluster, Pub, QueueInfo
from phxqueue.net.status import Status
from phxqueue.producer import (
    BadText,
    BufferFull,
    BufferNotBytes,
    InvalidItem,
    ItemTooLarge,
    NewItem,
    OutcomeUnknown,
    Producer,
    ProducerClosed,
    Receipt,
    Refused,
    UinOutOfRange,
    UnknownGroup,
    UnknownHandle,
    UnknownPub,
    UnknownTopic,
)
from tests.producer.fake_store import FakeStore, Fault, make_store, make_topic
from tests.producer.rig import Rig, outcome, watch


def test_an_item_goes_to_the_queue_of_its_uin_and_the_receipt_says_where() -> None:
    rig = Rig()
    receipts = [watch(rig.producer.enqueue(1, 2, b"buffer %d" % n, uin=7)) for n in range(3)]
    rig.run(0.01)
    [[first], [second], [third]] = receipts
    assert isinstance(first, Receipt)
    assert first.stored
    assert [first.cursor, second.cursor, third.cursor] == [0, 1, 2]
    assert {(first.store_id, first.queue_id)} == {(r.store_id, r.queue_id) for r in (second, third)}
    items = rig.store.items(first.store_id, first.queue_id)
    assert [item.buffer for item in items] == [b"buffer 0", b"buffer 1", b"buffer 2"]
    meta = items[1].meta
    assert (meta.pub_id, meta.handle_id, meta.uin, meta.number) == (1, 2, 7, 1)
    assert meta.atime_ms == 1_000_000
    assert items[0].consumer_group_ids == 0, "all groups of the pub: the batch says so"


def test_one_turn_makes_one_request_with_a_true_header() -> None:
    rig = Rig()
    for n in range(50):
        watch(rig.producer.enqueue(1, 1, b"%d" % n))
    assert rig.store.adds == []
    rig.turn()
    [request] = rig.store.adds
    [batch] = request.batches
    assert batch.header.count == 50
    assert batch.header.consumer_group_ids == 0b11
    assert (batch.header.first_atime_ms, batch.header.last_atime_ms) == (1_000_000, 1_000_000)
    assert (batch.header.producer_id, batch.header.sequence) == (rig.producer.producer_id, 1)
    from phxqueue.proto.digest import item_digest
    from phxqueue.proto.item_pb2 import QItems

    digests = [item_digest(i.meta.producer_id, i.meta.number, i.buffer) for i in QItems.FromString(batch.items).items]
    assert batch.header.digest_sum == sum(digests) % 2**64
    rig.run(0.01)


def test_items_of_one_turn_for_several_queues_share_a_request_in_batches_by_queue() -> None:
    rig = Rig()
    for uin in range(1, 41):
        watch(rig.producer.enqueue(1, 1, b"x", uin=uin))
    rig.turn()
    [request] = rig.store.adds
    assert len(request.batches) == 4
    assert len({batch.header.queue_id for batch in request.batches}) == 4
    assert [batch.header.sequence for batch in request.batches] == [1, 2, 3, 4]
    rig.run(0.01)


def test_with_requests_under_way_items_wait_for_company_but_not_long() -> None:
    rig = Rig(latency_s=1.0, batch_delay_s=0.005)
    watch(rig.producer.enqueue(1, 1, b"first"))
    rig.turn()
    for _ in range(3):
        watch(rig.producer.enqueue(1, 1, b"more"))
        rig.run(0.001)
    assert len(rig.store.adds) == 1
    rig.run(0.005)
    assert [sum(b.header.count for b in request.batches) for request in rig.store.adds] == [1, 3]
    rig.run(3)


def test_requests_under_way_are_bounded() -> None:
    rig = Rig(latency_s=1.0, batch_items=10, max_in_flight=3)
    for n in range(100):
        watch(rig.producer.enqueue(1, 1, b"%d" % n))
    rig.run(0.5)
    assert rig.store.most_open == 3
    rig.run(10)
    assert rig.store.most_open == 3
    assert len(rig.store.all_items()) == 100


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"pub_id": 9}, UnknownPub, "topic test has no pub 9; its pubs are [1, 2]"),
        ({"handle_id": 9}, UnknownHandle, "topic test has no handle_id 9; its handle_ids are [1, 2]"),
        ({"consumer_group_ids": [2, 3]}, UnknownGroup, "consumer groups [3] do not read pub 1; its groups are [1, 2]"),
        ({"consumer_group_ids": []}, UnknownGroup, "nobody would read"),
        ({"buffer": "text"}, BufferNotBytes, "must be bytes, not str"),
        ({"buffer": b"x" * (2 << 20)}, ItemTooLarge, "items_byte_size_limit = 2097152"),
        ({"uin": -1}, UinOutOfRange, "not -1"),
        ({"uin": 2**64}, UinOutOfRange, "from 0 to 2**64 - 1"),
        ({"uin": "7"}, UinOutOfRange, "not '7'"),
        ({"uin": 1.0}, UinOutOfRange, "not 1.0"),
        ({"client_id": "\udc80"}, BadText, "client_id"),
        ({"user_cookies": {"k": 1}}, BufferNotBytes, "user_cookies['k']"),
    ],
)
def test_a_wrong_call_is_refused_at_once_and_nothing_else_suffers(
    arguments: dict[str, Any], error: type[InvalidItem], text: str
) -> None:
    rig = Rig()
    good = watch(rig.producer.enqueue(1, 1, b"good", uin=1))
    call = {"pub_id": 1, "handle_id": 1, "buffer": b"x", "uin": 1} | arguments
    [raised] = watch(rig.producer.enqueue(**call))
    assert type(raised) is error
    assert isinstance(raised, Refused)
    assert text in str(raised)
    many = watch(rig.producer.enqueue_many([NewItem(1, 1, b"ok"), NewItem(**call)]))
    rig.run(0.01)
    assert good == [Receipt(1, good[0].queue_id, 0)]
    assert isinstance(many[0][0], Receipt)
    assert [(position, type(raised)) for position, raised in many[0].errors] == [(1, error)]
    assert rig.producer.stats.refused == 2


def test_enqueue_many_gives_each_item_its_own_outcome() -> None:
    rig = Rig()
    items = [NewItem(1, 1, b"%d" % n, uin=n % 5, consumer_group_ids=(2,) if n % 3 else None) for n in range(100)]
    items[10] = NewItem(8, 1, b"")
    items[20] = NewItem(1, 1, "no bytes")  # type: ignore[arg-type]
    items[30] = (1, 1)  # type: ignore[call-overload]
    many = watch(rig.producer.enqueue_many(items))
    rig.run(0.1)
    [receipts] = many
    assert len(receipts) == 100
    assert not receipts.all_stored
    assert [(n, type(error)) for n, error in receipts.errors] == [
        (10, UnknownPub),
        (20, BufferNotBytes),
        (30, InvalidItem),
    ]
    with pytest.raises(UnknownPub):
        receipts.raise_for_errors()
    assert isinstance(receipts[10], UnknownPub)
    for n, receipt in enumerate(receipts):
        if n not in (10, 20, 30):
            stored = rig.store.items(receipt.store_id, receipt.queue_id)[receipt.cursor]
            assert stored.buffer == b"%d" % n
            assert stored.consumer_group_ids == (0b10 if n % 3 else 0)
    for buffers in rig.written_in_order().values():
        assert buffers == sorted(buffers, key=int)
    assert receipts[-3:] == [receipts[97], receipts[98], receipts[99]]


def test_enqueue_many_of_nothing_and_of_more_than_a_batch() -> None:
    rig = Rig(batch_items=10, chunk_items=10, batch_size=100_000)
    nothing = watch(rig.producer.enqueue_many([]))
    assert list(nothing[0]) == []
    assert nothing[0].all_stored
    many = watch(rig.producer.enqueue_many(NewItem(1, 1, b"%d" % n) for n in range(95)))
    rig.run(1)
    [receipts] = many
    assert receipts.all_stored
    receipts.raise_for_errors()
    assert len(set(receipts)) == 95
    assert max(batch.header.count for request in rig.store.adds for batch in request.batches) == 10


def test_pieces_respect_the_byte_limit_of_a_batch() -> None:
    rig = Rig(batch_size=1000)
    many = watch(rig.producer.enqueue_many([NewItem(1, 1, b"x" * 300) for _ in range(10)]))
    rig.run(1)
    assert many[0].all_stored
    assert max(len(batch.items) for request in rig.store.adds for batch in request.batches) <= 1000


def test_groups_limit_who_reads_an_item_and_the_batch_is_for_all_of_them() -> None:
    rig = Rig()
    watch(rig.producer.enqueue(1, 1, b"a", uin=5, consumer_group_ids=[1]))
    watch(rig.producer.enqueue(1, 1, b"b", uin=5))
    watch(rig.producer.enqueue(1, 1, b"c", uin=5, consumer_group_ids=[2]))
    rig.turn()
    [request] = rig.store.adds
    [batch] = request.batches
    assert batch.header.consumer_group_ids == 0b11
    rig.run(0.1)
    assert [(item.buffer, item.consumer_group_ids) for item in rig.store.all_items()] == [
        (b"a", 1),
        (b"b", 0),
        (b"c", 2),
    ]


def test_drop_all_gives_a_receipt_that_says_so_and_stores_nothing() -> None:
    topic = make_topic(
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 3),), drop_all=True),
            QueueInfo(queue_info_id=2, ranges=((10, 10),)),
        )
    )
    rig = Rig(topic)
    [receipt] = watch(rig.producer.enqueue(1, 1, b"x"))
    assert not receipt.stored
    [receipts] = watch(rig.producer.enqueue_many([NewItem(1, 1, b"x"), NewItem(1, 1, b"y", 5)]))
    assert [receipt.stored for receipt in receipts] == [False, False]
    rig.run(1)
    assert rig.store.adds == []
    assert rig.producer.stats.dropped == 3


def test_a_uin_does_not_count_where_the_queue_info_says_so() -> None:
    topic = make_topic(
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 3),), handle_by_random_uin=True),
            QueueInfo(queue_info_id=2, ranges=((10, 10),)),
        )
    )
    rig = Rig(topic)
    places = set()
    for _ in range(40):
        done = watch(rig.producer.enqueue(1, 1, b"x", uin=5))
        rig.run(0.01)
        places.add(done[0].queue_id)
    assert places == {0, 1, 2, 3}
    assert {item.meta.uin for item in rig.store.all_items()} == {5}


def test_stores_share_by_weight_and_draining_ones_get_nothing() -> None:
    stores = (
        make_store(1, scale=100),
        make_store(2, scale=100),
        make_store(3, scale=0),
        make_store(4, scale=100, pub_ids=(2,)),
    )
    rig = Rig(make_topic(stores=stores))
    done = [watch(rig.producer.enqueue(1, 1, b"x", uin=uin)) for uin in range(1, 201)]
    rig.run(0.1)
    used = [receipt.store_id for [receipt] in done]
    assert set(used) == {1, 2}
    assert 70 < used.count(1) < 130
    topic = make_topic(stores=(make_store(3, scale=0),))
    [error] = watch(Rig(topic).producer.enqueue(1, 1, b"x"))
    assert isinstance(error, UnknownPub)
    assert "no store with a scale above 0 serves pub 1" in str(error)


def test_items_without_uin_avoid_a_store_that_cannot_be_reached() -> None:
    stores = (make_store(1), make_store(2))
    rig = Rig(make_topic(stores=stores))
    rig.store.fault = lambda name, request: Fault.NO_MASTER if request.store_id == 1 else Fault.NONE
    seen = []
    for _ in range(60):
        seen.append(watch(rig.producer.enqueue(1, 1, b"x")))
        rig.run(0.01)
    failed = [error for [error] in seen if isinstance(error, Refused)]
    assert len(failed) == 1, "the first to meet store 1 fails, the others go round it for a second"


def test_paxos_groups_of_a_store_have_lanes_of_their_own() -> None:
    rig = Rig(make_topic(stores=(make_store(1, paxos_groups=2),)))
    for uin in range(1, 41):
        watch(rig.producer.enqueue(1, 1, b"x", uin=uin))
    rig.turn()
    assert len(rig.store.adds) == 2
    for request in rig.store.adds:
        assert len({batch.header.queue_id % 2 for batch in request.batches}) == 1
    sequences = [batch.header.sequence for request in rig.store.adds for batch in request.batches]
    assert sorted(sequences) == [1, 2, 3, 4], "one count per store"
    rig.run(0.1)


# -- bounds ------------------------------------------------------------------------------------------


def test_a_full_buffer_makes_callers_wait_and_then_refuses_them() -> None:
    rig = Rig(latency_s=1.0, buffer_items=10, max_waiting=5, batch_items=5, max_in_flight=2)
    done = [watch(rig.producer.enqueue(1, 1, b"%d" % n, uin=7)) for n in range(17)]
    assert [len(d) for d in done] == [0] * 15 + [1] * 2
    [error] = done[15]
    assert isinstance(error, BufferFull)
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert "producer_buffer_items" in str(error)
    rig.run(10)
    assert all(isinstance(d[0], Receipt) for d in done[:15])
    assert [int(b) for b in rig.written_in_order()[1, 7]] == list(range(15)), "those who waited kept their order"


def test_a_buffer_is_full_of_bytes_as_well() -> None:
    rig = Rig(latency_s=1.0, buffer_size=10_000, max_waiting=1)
    done = [watch(rig.producer.enqueue(1, 1, b"x" * 6000)) for n in range(4)]
    assert [len(d) for d in done] == [0, 0, 0, 1]
    assert isinstance(done[3][0], BufferFull)
    rig.run(5)


def test_waiting_for_room_ends_at_the_deadline() -> None:
    rig = Rig(buffer_items=1, deadline_s=2.0)
    rig.store.fault = lambda name, request: Fault.SILENT
    first = watch(rig.producer.enqueue(1, 1, b"1"))
    second = watch(rig.producer.enqueue(1, 1, b"2"))
    rig.run(1.7)
    assert first == second == []
    rig.run(0.3)
    assert isinstance(first[0], OutcomeUnknown)
    assert isinstance(second[0], Refused)
    rig.run(5)


def test_nothing_is_left_ticking_when_all_is_done() -> None:
    rig = Rig()
    done = watch(rig.producer.enqueue(1, 1, b"1"))
    rig.run(1)
    assert done
    assert rig.clock.getDelayedCalls() == []


# -- cancelling --------------------------------------------------------------------------------------


def test_cancelling_an_item_that_has_not_left_takes_it_back() -> None:
    rig = Rig(buffer_items=10)
    deferred = rig.producer.enqueue(1, 1, b"1", uin=1)
    result = watch(deferred)
    deferred.cancel()
    assert isinstance(result[0], Refused)
    assert isinstance(result[0], CancelledError)
    rig.run(1)
    assert rig.store.adds == []
    assert rig.producer._dispatch._admission.items == 0


def test_cancelling_an_item_that_has_left_leaves_the_outcome_open() -> None:
    rig = Rig()
    deferred = rig.producer.enqueue(1, 1, b"1", uin=1)
    result = watch(deferred)
    rig.turn()
    deferred.cancel()
    assert isinstance(result[0], OutcomeUnknown)
    assert isinstance(result[0], CancelledError)
    rig.run(1)
    assert len(rig.store.all_items()) == 1
    assert rig.producer._dispatch._admission.items == 0


def test_cancelling_enqueue_many() -> None:
    rig = Rig()
    deferred = rig.producer.enqueue_many([NewItem(1, 1, b"1", uin=n) for n in range(5)])
    result = watch(deferred)
    deferred.cancel()
    assert isinstance(result[0], Refused)
    again = rig.producer.enqueue_many([NewItem(1, 1, b"2", uin=n) for n in range(5)])
    result = watch(again)
    rig.turn()
    again.cancel()
    assert isinstance(result[0], OutcomeUnknown)
    rig.run(1)
    assert {item.buffer for item in rig.store.all_items()} == {b"2"}
    assert rig.producer._dispatch._admission.items == 0


# -- the end -----------------------------------------------------------------------------------------


def test_close_flushes_what_waits_and_then_refuses() -> None:
    disconnected: list[str] = []

    def disconnect() -> Deferred[None]:
        disconnected.append("yes")
        done: Deferred[None] = Deferred()
        rig.clock.callLater(0.1, done.callback, None)
        return done

    rig = Rig(latency_s=0.5, batch_items=5, max_in_flight=1)
    rig.producer._dispatch._on_close = disconnect
    done = [watch(rig.producer.enqueue(1, 1, b"%d" % n, uin=3)) for n in range(20)]
    closed = watch(rig.producer.close())
    [error] = watch(rig.producer.enqueue(1, 1, b"late"))
    assert isinstance(error, ProducerClosed)
    [error] = watch(rig.producer.enqueue_many([NewItem(1, 1, b"late")]))
    assert isinstance(error, ProducerClosed)
    assert closed == []
    rig.run(1.9)
    assert not disconnected
    rig.run(0.15)
    assert [receipt.cursor for [receipt] in done] == list(range(20))
    assert disconnected
    assert closed == []
    rig.run(0.1)
    assert closed == [None]
    assert watch(rig.producer.close()) == [None]
    assert rig.clock.getDelayedCalls() == []


def test_close_gives_up_after_its_time() -> None:
    rig = Rig(close_timeout_s=3.0, batch_items=2, max_in_flight=1)
    rig.store.fault = lambda name, request: Fault.SILENT
    done = [watch(rig.producer.enqueue(1, 1, b"%d" % n, uin=3)) for n in range(5)]
    rig.turn()
    closed = watch(rig.producer.close())
    rig.run(2.9)
    assert closed == []
    rig.run(0.2)
    assert closed == [None]
    assert [type(error) for [error] in done] == [OutcomeUnknown] * 2 + [Refused] * 3
    assert not [call for call in rig.clock.getDelayedCalls() if "Rig" not in str(call) and "_fail" not in str(call)]


def test_an_unused_producer_closes_at_once() -> None:
    assert watch(Rig().producer.close()) == [None]


def test_as_a_context_manager_and_awaited() -> None:
    rig = Rig()

    async def application() -> Receipt:
        async with rig.producer as producer:
            return await producer.enqueue(1, 1, b"x")

    done = watch(ensureDeferred(application()))
    rig.run(0.1)
    assert done[0].cursor == 0
    assert isinstance(watch(ensureDeferred(rig.producer.enqueue(1, 1, b"x")))[0], ProducerClosed)


def test_a_new_configuration_counts_from_the_next_item_on() -> None:
    rig = Rig()
    watch(rig.producer.enqueue(1, 1, b"x", uin=5))
    rig.run(0.1)
    rig.store.topic = make_topic(pubs=(Pub(pub_id=1, queue_info_ids=(2,), consumer_group_ids=(1,)),))
    rig.producer.reconfigure(rig.store.topic)
    done = watch(rig.producer.enqueue(1, 1, b"y", uin=5))
    [error] = watch(rig.producer.enqueue(2, 1, b"y", uin=5))
    assert isinstance(error, UnknownPub)
    rig.run(0.1)
    assert done[0].queue_id in (10, 11)
    assert len(rig.store.all_items()) == 2
    other = make_topic()
    object.__setattr__(other, "topic_id", 5)
    with pytest.raises(ValueError, match="topic 1000, not 5"):
        rig.producer.reconfigure(other)


def test_connecting_to_an_unknown_topic_names_the_known_ones() -> None:
    [error] = watch(ensureDeferred(Producer.connect(Cluster(topics=(make_topic(),)), topic="nope", reactor=Clock())))
    assert isinstance(error, UnknownTopic)
    assert "nope" in str(error)
    assert "test" in str(error)


def test_the_store_in_memory_is_a_caller() -> None:
    rig = Rig()
    assert isinstance(rig.store, FakeStore)


# -- times ----------------------------------------------------------------------------------------------


def test_each_delayed_item_travels_in_a_batch_of_its_own() -> None:
    rig = Rig()
    for _ in range(2):
        watch(rig.producer.enqueue(1, 1, b"later", 5, delay=1.5))
    watch(rig.producer.enqueue_many([NewItem(1, 1, b"later", 5, deliver_at=2000.5), NewItem(1, 1, b"now", 6)]))
    rig.run(0.1)
    headers = sorted((stored.header.deliver_at_ms, stored.header.count) for stored in rig.store.all_batches())
    assert headers == [(0, 1), (1_001_500, 1), (1_001_500, 1), (2_000_500, 1)]


def test_an_item_expires_so_long_after_it_is_due() -> None:
    rig = Rig()
    for times in ({"ttl": 2.0}, {"ttl": 2.0, "delay": 10.0}, {"delay": 1.0}, {}):
        watch(rig.producer.enqueue(1, 1, b"", **times))
    rig.run(0.1)
    assert sorted(item.meta.expires_at_ms for item in rig.store.all_items()) == [0, 0, 1_002_000, 1_012_000]


@pytest.mark.parametrize(
    ("times", "complaint"),
    [
        ({"delay": -1}, "delay must be"),
        ({"ttl": float("nan")}, "ttl must be"),
        ({"ttl": "1"}, "ttl must be"),
        ({"deliver_at": 1_700_000_000_000.0}, "deliver_at must be"),
        ({"delay": 1, "deliver_at": 5.0}, "not both"),
    ],
)
def test_times_that_cannot_be_are_refused(times: dict[str, Any], complaint: str) -> None:
    rig = Rig()
    error = outcome(rig.producer.enqueue(1, 1, b"", **times))
    assert isinstance(error, InvalidItem)
    assert complaint in str(error)
    [refused] = outcome(rig.producer.enqueue_many([NewItem(1, 1, b"", **times)]))
    assert complaint in str(refused)
