"""Recomputing a queue from the bytes in the log finds whatever is not as it should be, and says where."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.net.status import RpcError
from phxqueue.proto.digest import MASK64, item_digest
from phxqueue.proto.item_pb2 import ItemBatch, Meta, QItem, QItems
from phxqueue.proto.ledger_pb2 import VerifyRangeRequest, VerifyRangeResponse
from phxqueue.proto.store_pb2 import FireTimers, StoreCommand
from phxqueue.store import verify
from phxqueue.store.verify import READ_AT_ONCE, ROWS_AT_ONCE
from tests.store.fakes import NOW_MS, StoreUnderTest, batch, command


def real(*buffers: bytes, queue_id: int = 1, number: int = 0, **fields: Any) -> ItemBatch:
    """A batch with items in it."""
    items = [
        QItem(buffer=buffer, meta=Meta(producer_id=7, number=number + place)) for place, buffer in enumerate(buffers)
    ]
    digest = sum(item_digest(7, item.meta.number, item.buffer) for item in items) & MASK64
    return batch(queue_id, len(items), items=QItems(items=items).SerializeToString(), digest=digest, **fields)


def asked(store: StoreUnderTest, start: int = 0, stop: int = 0, queue_id: int = 1) -> VerifyRangeResponse:
    request = VerifyRangeRequest(topic_id=1000, store_id=1, queue_id=queue_id, start=start, stop=stop)
    found: list[Any] = []
    verify.start(request, store.group).addBoth(found.append)
    [answer] = found
    if isinstance(answer, VerifyRangeResponse):
        return answer
    answer.raiseException()
    raise AssertionError


@pytest.fixture
def store() -> StoreUnderTest:
    made = StoreUnderTest()
    made.added(real(b"a", b"b"), real(b"other", queue_id=2), real(b"c", number=2, mask=1))
    made.added(real(b"d", b"e", b"f", number=3))
    made.added(real(b"g", number=6))
    return made


def altered(store: StoreUnderTest, instance: int, change: Any) -> None:
    entry = StoreCommand.FromString(store.group.log[instance])
    change(entry)
    store.group.log[instance] = entry.SerializeToString()


def test_agrees_with_what_is_right(store: StoreUnderTest) -> None:
    answer = asked(store)
    assert (answer.bad, answer.problem) == (False, "")
    assert (answer.start, answer.stop, answer.end_cursor, answer.items, answer.batches, answer.entries) == (
        0, 7, 7, 7, 4, 3,
    )  # fmt: skip
    assert answer.digest_sum == store.group.state_machine.queues[1].end_digest
    assert answer.applied == len(store.group.log) == 3


def test_looks_at_whole_rows(store: StoreUnderTest) -> None:
    answer = asked(store, 4, 5)
    assert (answer.start, answer.stop, answer.items) == (3, 6, 3)


def test_a_flipped_byte_is_found(store: StoreUnderTest) -> None:
    def flip(entry: StoreCommand) -> None:
        entry.batches[0].items = entry.batches[0].items.replace(b"e", b"E")

    altered(store, 1, flip)
    answer = asked(store)
    assert (answer.bad, answer.bad_cursor) == (True, 3)
    assert "one or more were altered" in answer.problem
    assert (answer.items, answer.entries) == (3, 1), "what was right before it"


def test_a_batch_that_is_missing_is_found(store: StoreUnderTest) -> None:
    def lose(entry: StoreCommand) -> None:
        del entry.batches[2]

    altered(store, 0, lose)
    answer = asked(store)
    assert (answer.bad_cursor, answer.problem) == (2, "the index has 3 items for entry 0, which holds 2")


def test_an_index_that_is_wrong_is_found(store: StoreUnderTest) -> None:
    index = store.group.state_machine.queues[1]
    index.digests[1] += 1
    answer = asked(store)
    assert answer.bad
    assert answer.bad_cursor == 0
    assert "the index adds" in answer.problem


def test_items_that_are_not_as_many_as_the_header_says(store: StoreUnderTest) -> None:
    def shorten(entry: StoreCommand) -> None:
        entry.batches[0].items = b""

    altered(store, 2, shorten)
    assert asked(store).bad_cursor == 6


def test_an_entry_that_cannot_be_read_is_named(store: StoreUnderTest) -> None:
    store.group.damaged = {1}
    answer = asked(store)
    assert (answer.bad, answer.bad_cursor) == (True, 3)
    assert "damaged" in answer.problem


def test_delayed_batches_are_found_where_they_lie() -> None:
    store = StoreUnderTest()
    store.group.append(
        command(real(b"x", deliver_at_ms=NOW_MS + 1), real(b"y", number=1, deliver_at_ms=NOW_MS + 1), version=3)
    )
    store.group.append(command(fire=FireTimers(due_ms=NOW_MS + 5, most=10), version=3))
    answer = asked(store)
    assert (answer.bad, answer.items) == (False, 2)


def test_a_long_queue_is_looked_at_in_parts() -> None:
    store = StoreUnderTest()
    for number in range(ROWS_AT_ONCE + READ_AT_ONCE + 1):
        store.added(real(b"item", number=number))
    first = asked(store)
    assert first.stop == ROWS_AT_ONCE
    assert asked(store, first.stop).stop == ROWS_AT_ONCE + READ_AT_ONCE + 1


def test_what_is_not_there() -> None:
    store = StoreUnderTest()
    assert not asked(store, queue_id=5).bad
    store.added(real(b"a"))
    store.added(real(b"b"))
    machine = store.group.state_machine
    machine.forget_rows(machine.queues[1], 1)
    assert asked(store).start == 1
    with pytest.raises(RpcError, match="has items 1 to 1"):
        asked(store, 0, 1)
