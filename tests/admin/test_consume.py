"""``phxqueue consume``: prints, then acknowledges; against a store that keeps one queue as the wire protocol says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from phxqueue.admin.consume import choose_queues, read_all
from phxqueue.admin.errors import AdminError
from phxqueue.admin.queue_reader import FETCH_ITEMS, Output, QueueReader, Reading
from phxqueue.admin.rendering import FORMATS, Place, as_text
from phxqueue.config import DEAD_LETTER_BASE, ConfigError, Topic, load_cluster
from phxqueue.net.address import Address
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import BatchHeader, Cookie, Cookies, Meta, QItem, QItems
from phxqueue.proto.store_pb2 import GetBatch, GetRequest, GetResponse

ROUTE = Route("store:1000:1:0", (Address("127.0.0.1", 5100),), "store 1")
GROUP = 1


def item(number: int, mask: int = 0) -> QItem:
    meta = Meta(producer_id=7, handle_id=1, number=number, uin=3, pub_id=1, atime_ms=1_700_000_000_123)
    return QItem(buffer=f"item {number}".encode(), consumer_group_ids=mask, meta=meta)


class FakeStore:
    """One queue of single-item batches (or of `batch` items), and where group 1 stands in it."""

    def __init__(self, items: list[QItem], *, batch: int = 1, mask: int = 0b11) -> None:
        self.items = items
        self.acked = 0
        self.requests: list[GetRequest] = []
        self.searching: list[GetRequest] = []
        self.waiting: Deferred[GetResponse] | None = None
        self.fail_with: Exception | None = None
        self._batch = batch
        self._mask = mask

    def call(
        self, route: Route, method: Any, request: Any, deadline_s: float, *, searching: Any = None, **_: Any
    ) -> Deferred[Any]:
        self.requests.append(request)
        self.searching.append(searching)
        if self.fail_with is not None:
            return fail(self.fail_with)
        if not request.random and request.HasField("prev_cursor"):
            self.acked = max(self.acked, request.prev_cursor)
        response = self._answer(request)
        if not response.batches and request.wait_ms and request.limit:
            self.waiting = Deferred()
            return self.waiting
        return succeed(response)

    def _answer(self, request: GetRequest) -> GetResponse:
        start = request.next_cursor if request.HasField("next_cursor") else self.acked
        end = min(start + request.limit, len(self.items))
        response = GetResponse(prev_cursor=self.acked, next_cursor=max(start, end), end_cursor=len(self.items))
        first = start - start % self._batch
        while first < end:
            held = self.items[first : first + self._batch]
            header = BatchHeader(count=len(held), consumer_group_ids=self._mask)
            response.batches.add(first_cursor=first, header=header, items=QItems(items=held).SerializeToString())
            first += self._batch
            response.next_cursor = max(response.next_cursor, min(first, len(self.items)))
        return response


class Written:
    """Takes what is written, until it breaks after so many writes."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = breaks_after

    async def write(self, data: bytes) -> None:
        if self._left is not None:
            if not self._left:
                raise BrokenPipeError(32, "Broken pipe")
            self._left -= 1
        self.lines += data.decode().splitlines()


def reader_of(store: FakeStore, written: Written, **reading: Any) -> QueueReader:
    limit = reading.pop("limit", None)
    output = reading.pop("output", None) or Output(written.write, reading.pop("render", as_text), limit)
    chosen = {"peek": False, "follow": False, **reading}
    return QueueReader(Reading(1000, GROUP, **chosen), store, ROUTE, 1, 0, output)


async def read(*readers: QueueReader) -> None:
    await read_all(readers, Deferred())


@pytest_twisted.ensureDeferred
async def test_everything_is_printed_then_acknowledged() -> None:
    store, written = FakeStore([item(number) for number in range(5)]), Written()
    await read(reader_of(store, written))
    assert written.lines == [f"item {number}" for number in range(5)]
    assert store.acked == 5
    first, second = store.requests
    assert not first.HasField("prev_cursor")
    [claim] = second.claims
    assert (second.prev_cursor, claim.start, claim.stop, claim.count) == (5, 0, 5, 5)
    digests = sum(item_digest(7, number, f"item {number}".encode()) for number in range(5))
    assert claim.digest_sum == digests % 2**64


@pytest_twisted.ensureDeferred
async def test_peek_moves_nothing() -> None:
    store, written = FakeStore([item(number) for number in range(5)]), Written()
    await read(reader_of(store, written, peek=True))
    assert len(written.lines) == 5
    assert store.acked == 0
    assert all(request.random and not request.HasField("prev_cursor") for request in store.requests)


@pytest_twisted.ensureDeferred
async def test_max_is_exact_and_acknowledges_no_more_than_it_printed() -> None:
    store, written = FakeStore([item(number) for number in range(20)], batch=8), Written()
    await read(reader_of(store, written, limit=11))
    assert written.lines == [f"item {number}" for number in range(11)]
    assert store.acked == 11


@pytest_twisted.ensureDeferred
async def test_max_is_shared_by_all_queues() -> None:
    stores = [FakeStore([item(number) for number in range(4)]) for _ in range(3)]
    written = Written()
    output = Output(written.write, as_text, 6)
    await read(*(reader_of(store, written, output=output) for store in stores))
    assert len(written.lines) == sum(store.acked for store in stores) == 6


@pytest_twisted.ensureDeferred
async def test_max_ends_also_the_readers_that_wait_for_more() -> None:
    idle, busy = FakeStore([]), FakeStore([item(number) for number in range(4)])
    written = Written()
    output = Output(written.write, as_text, 3)
    await read(*(reader_of(store, written, output=output, follow=True) for store in (idle, busy)))
    assert written.lines == ["item 0", "item 1", "item 2"]
    assert busy.acked == 3
    assert idle.requests[0].wait_ms, "it was a long poll, and nobody waited for its end"


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_items_while_the_master_is_searched() -> None:
    store, written = FakeStore([item(0)]), Written()
    await read(reader_of(store, written, follow=True, limit=1))
    assert store.requests[0].wait_ms
    assert [searching.wait_ms for searching in store.searching] == [0] * len(store.requests)


@pytest_twisted.ensureDeferred
async def test_a_batch_that_begins_before_our_place_is_not_printed_twice() -> None:
    store, written = FakeStore([item(number) for number in range(8)], batch=8), Written()
    store.acked = 5
    await read(reader_of(store, written))
    assert written.lines == ["item 5", "item 6", "item 7"]
    assert store.acked == 8


@pytest_twisted.ensureDeferred
async def test_items_for_other_groups_are_passed_over() -> None:
    store, written = FakeStore([item(0), item(1, mask=0b10), item(2, mask=0b01)]), Written()
    await read(reader_of(store, written))
    assert written.lines == ["item 0", "item 2"]
    assert store.acked == 3
    [claim] = store.requests[-1].claims
    assert (claim.start, claim.stop, claim.count) == (0, 3, 3), "claimed is what came, also for others"


@pytest_twisted.ensureDeferred
async def test_a_broken_pipe_ends_it_and_what_was_not_written_stays() -> None:
    store, written = FakeStore([item(number) for number in range(FETCH_ITEMS + 5)]), Written(breaks_after=1)
    await read(reader_of(store, written))
    assert len(written.lines) == FETCH_ITEMS
    assert store.acked == FETCH_ITEMS


@pytest_twisted.ensureDeferred
async def test_following_waits_and_ends_when_nobody_reads() -> None:
    store, written = FakeStore([item(0)]), Written()
    hung_up: Deferred[None] = Deferred()
    reading = Deferred.fromCoroutine(read_all([reader_of(store, written, follow=True)], hung_up))
    assert not reading.called
    assert store.waiting is not None
    hung_up.callback(None)
    await reading
    assert store.acked == 1


@pytest_twisted.ensureDeferred
async def test_ctrl_c_acknowledges_what_was_printed() -> None:
    store, written = FakeStore([item(0), item(1)]), Written()
    store.call(ROUTE, None, GetRequest(limit=0), 1)  # so that the group stands at 0
    reading = Deferred.fromCoroutine(read_all([reader_of(store, written, follow=True)], Deferred()))
    reading.addErrback(lambda failure: failure.trap(CancelledError))
    store.requests.clear()
    reading.cancel()
    await reading
    assert store.acked == 2


@pytest_twisted.ensureDeferred
async def test_a_failure_ends_it_with_its_reason() -> None:
    store = FakeStore([item(0)])
    store.fail_with = RpcError(Status.NO_MASTER, "1 of 3 nodes reachable")
    with pytest.raises(RpcError, match="1 of 3 nodes"):
        await read(reader_of(store, Written()))


@pytest_twisted.ensureDeferred
async def test_a_reset_is_followed_and_counted() -> None:
    store, written = FakeStore([item(number) for number in range(3)]), Written()
    reader = reader_of(store, written)
    answers = [
        GetResponse(batches=[_batch(0), _batch(1)], prev_cursor=0, next_cursor=2),
        GetResponse(batches=[_batch(1)], prev_cursor=1, next_cursor=2, reset=True),
        GetResponse(prev_cursor=2, next_cursor=2),
    ]
    store.call = lambda *_, **__: succeed(answers.pop(0))  # type: ignore[method-assign]
    await read(reader)
    assert written.lines == ["item 0", "item 1", "item 1"]
    assert reader.resets == 1


def _batch(cursor: int) -> GetBatch:
    header = BatchHeader(count=1, consumer_group_ids=1)
    return GetBatch(first_cursor=cursor, header=header, items=QItems(items=[item(cursor)]).SerializeToString())


# ---- formats -------------------------------------------------------------------------------------


def test_text_and_hex() -> None:
    assert FORMATS["text"](item(4), Place(1, 2, 3)) == b"item 4\n"
    assert FORMATS["hex"](item(4), Place(1, 2, 3)) == b"1:2:3 6974656d2034\n"


def test_json_carries_everything() -> None:
    full = item(4)
    full.meta.user_cookies.CopyFrom(Cookies(cookies=[Cookie(key="trace", value=b"abc\xff")]))
    full.count = 2
    document = json.loads(FORMATS["json"](full, Place(1, 2, 3)))
    assert document == {
        "store_id": 1,
        "queue_id": 2,
        "cursor": 3,
        "pub_id": 1,
        "handle_id": 1,
        "uin": 3,
        "attempt": 2,
        "enqueued": "2023-11-14T22:13:20.123+00:00",
        "client_id": "",
        "producer_id": "0000000000000007",
        "number": 4,
        "user_cookies": {"trace": "abc\\xff"},
        "buffer": "item 4",
    }


def test_json_of_what_is_no_text() -> None:
    binary = item(4)
    binary.buffer = b"\xff\x00"
    assert json.loads(FORMATS["json"](binary, Place(1, 2, 3)))["buffer_base64"] == "/wA="


# ---- which queues ---------------------------------------------------------------------------------


@pytest.fixture
def topic(cluster_directory: Path) -> Topic:
    return load_cluster(cluster_directory / "etc/globalconfig.conf").topics[0]


def test_all_queues_of_a_group(topic: Topic) -> None:
    assert choose_queues(topic, 2, None, []) == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 1000)]
    assert choose_queues(topic, 2, 1, []) == choose_queues(topic, 2, None, [])


def test_named_queues(topic: Topic) -> None:
    assert choose_queues(topic, 1, None, ["3", "1:0", "3"]) == [(1, 0), (1, 3)]
    dead = DEAD_LETTER_BASE + 1
    assert choose_queues(topic, 1, None, [str(dead)]) == [(1, dead)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((9, None, []), "consumer group 9 is not configured"),
        ((1, 9, []), "pub 9 is not configured"),
        ((1, None, ["9"]), "there is no queue 9"),
        ((1, None, ["9:0"]), "store 9 is not configured"),
        ((1, None, ["x"]), "'x' is no queue"),
    ],
)
def test_what_is_not_there_is_named(topic: Topic, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises((AdminError, ConfigError), match=said):
        choose_queues(topic, *arguments)
