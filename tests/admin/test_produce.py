"""``phxqueue produce`` against a producer that does what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed

from phxqueue.admin import produce as produce_module
from phxqueue.admin.messages import LengthPrefixSplitter, LineSplitter, MalformedInput, Numbered
from phxqueue.admin.produce import PIECE_MESSAGES, PIECES_IN_FLIGHT, Feeder
from phxqueue.producer import NewItem, Producer, Receipts, Refused
from phxqueue.producer.receipts import Segment
from tests.admin.conftest import Invoke

LIMIT = 1000


class FakeProducer:
    """Holds every call until it is answered; items whose buffer starts with "bad" are refused."""

    def __init__(self, *, answer_at_once: bool = False) -> None:
        self.calls: list[tuple[list[NewItem], Deferred[Receipts]]] = []
        self.items: list[NewItem] = []
        self.closed = False
        self._answer_at_once = answer_at_once

    def enqueue_many(self, items: list[NewItem]) -> Deferred[Receipts]:
        self.items += items
        if self._answer_at_once:
            return succeed(outcome_of(items))
        result: Deferred[Receipts] = Deferred()
        self.calls.append((items, result))
        return result

    def answer(self) -> None:
        items, result = self.calls.pop(0)
        result.callback(outcome_of(items))

    async def close(self) -> None:
        self.closed = True


def outcome_of(items: list[NewItem]) -> Receipts:
    bad = [place for place, item in enumerate(items) if item.buffer.startswith(b"bad")]
    good = [place for place in range(len(items)) if place not in bad]
    segments = [Segment(good, 1, 0, 0, None), Segment(bad, 1, 0, -1, Refused("no room"))]
    return Receipts(len(items), segments)


def reader_of(pieces: Iterator[bytes]) -> Callable[[], Any]:
    async def read() -> bytes:
        return next(pieces, b"")

    return read


def make_item(message: Numbered) -> NewItem:
    return NewItem(1, 2, message.content)


def feeder_for(producer: FakeProducer, told: list[str], *, length_prefixed: bool = False) -> Feeder:
    splitter = LengthPrefixSplitter(LIMIT) if length_prefixed else LineSplitter(LIMIT)
    return Feeder(producer, splitter, make_item, told.append, "line")


@pytest_twisted.ensureDeferred
async def test_failures_are_told_by_line_and_neighbours_together() -> None:
    told: list[str] = []
    feeder = feeder_for(FakeProducer(answer_at_once=True), told)
    lines = [b"good", b"bad 2", b"bad 3", b"bad 4", b"good", b"x" * (LIMIT + 1), b"bad 7"]
    await feeder.run(reader_of(iter([b"\n".join(lines)])))
    assert told == [
        f"line 6: skipped: {LIMIT + 1:,} bytes are too long for an item",
        "lines 2 to 4: no room",
        "line 7: no room",
    ]
    assert (feeder.confirmed, feeder.failed, feeder.in_flight, feeder.bytes) == (2, 5, 0, 8)


@pytest_twisted.ensureDeferred
async def test_reading_waits_for_outcomes() -> None:
    producer = FakeProducer()
    feeder = feeder_for(producer, [])
    line = b"x\n"
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        for _ in range(3 * PIECES_IN_FLIGHT):
            read += 1
            yield line * PIECE_MESSAGES

    running = Deferred.fromCoroutine(feeder.run(reader_of(pieces())))
    assert len(producer.calls) == PIECES_IN_FLIGHT
    assert read == PIECES_IN_FLIGHT + 1
    producer.answer()
    assert read == PIECES_IN_FLIGHT + 2
    while producer.calls:
        producer.answer()
    await running
    assert feeder.confirmed == 3 * PIECES_IN_FLIGHT * PIECE_MESSAGES


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_the_last_outcome() -> None:
    producer = FakeProducer()
    running = Deferred.fromCoroutine(feeder_for(producer, []).run(reader_of(iter([b"only"]))))
    assert not running.called
    producer.answer()
    await running


@pytest_twisted.ensureDeferred
async def test_input_cut_off_within_a_message_keeps_what_came_before() -> None:
    producer = FakeProducer(answer_at_once=True)
    feeder = feeder_for(producer, [], length_prefixed=True)
    with pytest.raises(MalformedInput):
        await feeder.run(reader_of(iter([b"\0\0\0\2ok\0\0\0\5cut"])))
    assert feeder.confirmed == 1


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer(answer_at_once=True)

    async def connect(*_: Any, **__: Any) -> FakeProducer:
        return fake

    monkeypatch.setattr(Producer, "connect", connect)
    return fake


def test_a_file(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"one\n\nthree\n")
    result = invoke("produce", "input", "--handle", "2", "--uin", "9")
    assert result.exit_code == 0, result.output
    assert producer.items == [NewItem(1, 2, content, 9) for content in (b"one", b"", b"three")]
    assert producer.closed
    assert "3 messages (8 bytes) confirmed in" in result.stderr
    assert result.stdout == ""


def test_keys_by_number_and_priority(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"one\ntwo\n")
    result = invoke("produce", "input", "--key", "orders-11-23", "--priority", "2")
    assert result.exit_code == 0, result.output
    assert producer.items == [
        NewItem(1, 1, content, idempotency_key=b"orders-11-23:%d" % number, priority=2)
        for number, content in ((1, b"one"), (2, b"two"))
    ]


def test_messages_with_keys_of_their_own(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"a\tone\nnone\n\tempty\nb\ttwo\tmore\n" + b"k" * 65 + b"\tlong\n")
    result = invoke("produce", "input", "--keyed")
    assert result.exit_code == 1
    assert producer.items == [
        NewItem(1, 1, b"one", idempotency_key=b"a"), NewItem(1, 1, b"two\tmore", idempotency_key=b"b")
    ]  # fmt: skip
    assert "lines 2 to 3: skipped: it does not begin with a key of 1 to 64 bytes and a tab" in result.stderr
    assert "line 5: skipped" in result.stderr
    assert "2 messages (11 bytes) confirmed" in result.stderr
    assert "3 FAILED" in result.stderr


def test_length_prefixed_messages_may_have_keys_too(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"\0\0\0\5a\tone\0\0\0\4\ttwo")
    result = invoke("produce", "input", "--keyed", "--length-prefixed")
    assert [item.idempotency_key for item in producer.items] == [b"a"]
    assert "message 2: skipped" in result.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--key", "a", "--keyed"), "--key and --keyed: either"),
        (("--key", ""), "has 0 bytes: 1 to 47 are possible"),
        (("--key", "x" * 48), "has 48 bytes"),
        (("--priority", "-1"), "--priority"),
    ],
)
def test_keys_that_cannot_be(invoke: Invoke, producer: FakeProducer, options: tuple[str, ...], text: str) -> None:
    result = invoke("produce", "input", *options)
    assert result.exit_code == 2
    assert text in result.stderr


def test_failures_make_the_exit_status(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"one\nbad\n")
    result = invoke("produce", "input")
    assert result.exit_code == 1
    assert "line 2: no room" in result.stderr
    assert "1 messages (3 bytes) confirmed" in result.stderr
    assert "1 FAILED" in result.stderr


def test_many_failures_are_counted_not_printed(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"bad\ngood\n" * 50)
    result = invoke("produce", "input")
    assert result.stderr.count("no room") == produce_module.FAILURES_SHOWN
    assert "... and 30 more reports of failures" in result.stderr
    assert "50 FAILED" in result.stderr


def test_a_file_that_is_not_there(invoke: Invoke, producer: FakeProducer) -> None:
    result = invoke("produce", "nothing")
    assert result.exit_code == 1
    assert result.stderr == "phxqueue: nothing: No such file or directory\n"


def test_length_prefixed_input_that_is_none(invoke: Invoke, producer: FakeProducer) -> None:
    with open("input", "wb") as file:
        file.write(b"plain text")
    result = invoke("produce", "input", "--length-prefixed")
    assert result.exit_code == 1
    assert "ends in the middle of message" in result.stderr
