"""Idempotency keys from the producer's side, on real stores in memory."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from phxqueue.net.status import Status
from phxqueue.producer import BadKey, KeyReused, NewItem
from phxqueue.testing import InMemoryCluster
from tests.testing.notes import Notes


@pytest_twisted.ensureDeferred
async def test_the_same_key_is_stored_once_whoever_sends_it() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        other = cluster.another_producer()
        first = await cluster.producer.enqueue(1, 1, b"pay 5", idempotency_key=b"order-7")
        assert await cluster.producer.enqueue(1, 1, b"pay 5", idempotency_key=b"order-7") == first
        assert await other.enqueue(1, 1, b"pay 5", idempotency_key=b"order-7") == first
        with pytest.raises(KeyReused, match="was used for something else") as caught:
            await other.enqueue(1, 1, b"pay 6", idempotency_key=b"order-7")
        assert caught.value.status is Status.ALREADY_EXISTS
        assert other.stats.duplicates == 1
        await cluster.settle()
    assert notes.seen == [b"pay 5"]


@pytest_twisted.ensureDeferred
async def test_what_makes_two_items_different() -> None:
    async with InMemoryCluster({1: Notes(), 2: Notes()}) as cluster:
        enqueue = cluster.producer.enqueue
        await enqueue(1, 1, b"x", uin=5, user_cookies={"a": b"b"}, idempotency_key=b"k")
        for other in (
            {"handle_id": 2, "buffer": b"x", "uin": 5, "user_cookies": {"a": b"b"}},
            {"handle_id": 1, "buffer": b"y", "uin": 5, "user_cookies": {"a": b"b"}},
            {"handle_id": 1, "buffer": b"x", "uin": 5, "user_cookies": {"a": b"c"}},
        ):
            with pytest.raises(KeyReused):
                await enqueue(1, idempotency_key=b"k", **other)  # type: ignore[arg-type]
        await enqueue(1, 1, b"x", uin=5, user_cookies={"a": b"b"}, client_id="text for logs", idempotency_key=b"k")
        await cluster.settle()
        assert cluster.stats.ok == 1


@pytest_twisted.ensureDeferred
async def test_delayed_items_and_items_of_an_enqueue_many() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        delayed = await cluster.producer.enqueue(1, 1, b"later", delay=50, idempotency_key=b"a")
        assert await cluster.producer.enqueue(1, 1, b"later", delay=60, idempotency_key=b"a") == delayed
        items = [NewItem(1, 1, b"%d" % number, idempotency_key=b"%d" % (number % 3)) for number in (0, 1, 2, 0, 1)]
        receipts = await cluster.producer.enqueue_many([*items, NewItem(1, 1, b"plain")])
        assert receipts.all_stored
        assert (receipts[0], receipts[1]) == (receipts[3], receipts[4])
        await cluster.settle()
    assert sorted(notes.seen) == [b"0", b"1", b"2", b"later", b"plain"]


@pytest_twisted.ensureDeferred
async def test_a_key_is_bytes_of_bounded_length() -> None:
    async with InMemoryCluster({1: Notes()}) as cluster:
        for wrong in ("text", b"", b"k" * 65):
            for uin in (0, 7, 7):
                with pytest.raises(BadKey, match="must be 1 to 64 bytes"):
                    await cluster.producer.enqueue(1, 1, b"x", uin=uin, idempotency_key=wrong)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_the_order_of_a_uin_holds_with_keys_among_its_items() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        keys = [None if number % 3 else b"k%d" % number for number in range(15)]
        items = [NewItem(1, 1, b"%d" % number, 7, idempotency_key=keys[number]) for number in range(9)]
        await cluster.producer.enqueue_many(items)
        enqueue = cluster.producer.enqueue
        waiting = [enqueue(1, 1, b"%d" % number, 7, idempotency_key=keys[number]) for number in range(9, 15)]
        await gatherResults(waiting)
        await cluster.settle()
    assert notes.seen == [b"%d" % number for number in range(15)]
