"""The batcher by value: what leaves when, and in what bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.store.batcher import Batcher, BatcherLimits, frame_batch
from tests.store.fakes import NOW_MS, batch, move

LIMITS = BatcherLimits(
    entry_batches=4,
    entry_bytes=1000,
    entry_moves=3,
    open_entries=2,
    delay_s=0.01,
    sync_s=0.2,
    queue_requests=6,
    queue_bytes=2000,
)
BATCH = frame_batch(batch().SerializeToString())


def batcher(**changed: object) -> Batcher[str]:
    return Batcher(BatcherLimits(**{**{name: getattr(LIMITS, name) for name in LIMITS.__slots__}, **changed}))


def offer(to: Batcher[str], tokens: str, now: float = 0.0, frames: bytes = BATCH) -> None:
    for token in tokens:
        to.offer(frames, 1, token, now)


def taken(of: Batcher[str], in_flight: int, now: float = 0.0) -> str | None:
    proposal = of.take(in_flight, now, NOW_MS)
    return None if proposal is None else "".join(proposal.tokens)


def test_with_nothing_in_flight_everything_leaves_at_once() -> None:
    of = batcher()
    assert taken(of, 0) is None
    offer(of, "abc")
    assert of.next_due(0, 0.0) == 0.0
    assert taken(of, 0) == "abc"
    assert taken(of, 0) is None
    assert of.next_due(0, 0.0) is None


def test_while_enough_is_in_flight_requests_wait_for_company() -> None:
    of = batcher()
    offer(of, "ab")
    assert taken(of, 2) is None
    assert of.next_due(2, 0.0) == pytest.approx(0.01)
    assert taken(of, 1) == "ab"


def test_a_full_entry_leaves_however_many_are_in_flight() -> None:
    of = batcher()
    offer(of, "abcde")
    assert taken(of, 60) == "abcd"
    assert taken(of, 60) is None


def test_an_entry_is_full_by_bytes_too() -> None:
    of = batcher(entry_batches=100)
    large = frame_batch(batch(items=b"x" * 400).SerializeToString())
    offer(of, "ab", frames=large)
    assert taken(of, 60) is None
    offer(of, "c", frames=large)
    assert taken(of, 60) == "ab"


def test_a_request_larger_than_an_entry_travels_alone() -> None:
    of = batcher()
    offer(of, "a")
    offer(of, "b", frames=frame_batch(batch(items=b"x" * 1500).SerializeToString()))
    offer(of, "c")
    assert [taken(of, 60), taken(of, 60), taken(of, 60)] == ["a", "b", None]


def test_batches_of_one_request_stay_together() -> None:
    of = batcher()
    offer(of, "a")
    of.offer(BATCH * 6, 6, "b", 0.0)
    offer(of, "c")
    assert [taken(of, 0) for _ in range(3)] == ["a", "b", "c"]


def test_nothing_waits_longer_than_the_delay() -> None:
    of = batcher()
    offer(of, "a", now=1.0)
    offer(of, "b", now=1.009)
    assert taken(of, 9, now=1.0099) is None
    assert taken(of, 9, now=1.0101) == "ab"


def test_the_bytes_are_those_of_a_command() -> None:
    of = batcher()
    batches = [batch(queue, 2, items=b"i" * size) for queue, size in ((1, 3), (300, 200))]
    for one in batches:
        of.offer(frame_batch(one.SerializeToString()), 1, "x", 0.0)
    of.move(1, 64, 2**40, 0.0)
    proposal = of.take(0, 0.0, NOW_MS)
    assert proposal is not None
    expected = StoreCommand(version=1, timestamp_ms=NOW_MS, batches=batches, cursor_moves=[move(1, 64, 2**40)])
    assert StoreCommand.FromString(proposal.payload) == expected
    assert proposal.moves == {(1, 64): (0, 2**40)}


@given(st.integers(0, 9000))
def test_a_framed_batch_of_any_length_parses(length: int) -> None:
    one = batch(items=bytes(length))
    assert StoreCommand.FromString(frame_batch(one.SerializeToString())).batches == [one]


def test_moves_ride_on_the_next_entry() -> None:
    of = batcher()
    of.move(1, 1, 10, 0.0)
    of.move(1, 1, 12, 0.0)
    of.move(1, 1, 11, 0.0)
    assert taken(of, 0, now=0.1) is None
    offer(of, "a", now=0.1)
    proposal = of.take(0, 0.1, NOW_MS)
    assert proposal is not None
    assert (proposal.tokens, proposal.moves) == (["a"], {(1, 1): (0, 12)})


def test_moves_leave_alone_after_the_interval() -> None:
    of = batcher()
    of.move(1, 1, 10, 5.0)
    of.move(2, 1, 10, 5.1)
    assert of.next_due(0, 5.1) == pytest.approx(5.2)
    assert of.take(0, 5.19, NOW_MS) is None
    proposal = of.take(60, 5.2, NOW_MS)
    assert proposal is not None
    assert (proposal.tokens, proposal.moves) == ([], {(1, 1): (0, 10), (2, 1): (0, 10)})
    assert of.next_due(0, 6.0) is None


def test_more_moves_than_an_entry_takes_go_into_the_next_at_once() -> None:
    of = batcher()
    for queue_id in range(5):
        of.move(queue_id, 1, 1, 0.0)
    sizes = []
    while (proposal := of.take(9, 0.2, NOW_MS)) is not None:
        sizes.append(len(proposal.moves))
    assert sizes == [3, 2]


def test_room_is_bounded_in_requests_and_bytes_and_one_always_fits() -> None:
    of = batcher()
    assert of.has_room(1 << 30)
    offer(of, "abcdef")
    assert not of.has_room(1)
    of = batcher()
    offer(of, "a", frames=bytes(1500))
    assert of.has_room(500)
    assert not of.has_room(501)
    assert taken(of, 0) == "a"
    assert of.has_room(501)


def test_at_once_does_not_wait_for_anything() -> None:
    of = batcher()
    of.move(1, 1, 1, 0.0)
    proposal = of.take(60, 0.0, NOW_MS, at_once=True)
    assert proposal is not None
    assert proposal.moves
    assert of.take(60, 0.0, NOW_MS, at_once=True) is None


def test_clear_gives_back_what_was_never_proposed() -> None:
    of = batcher()
    offer(of, "abc")
    of.move(1, 1, 1, 0.0)
    assert of.clear() == ["a", "b", "c"]
    assert (of.waiting_requests, of.waiting_bytes, of.waiting_moves) == (0, 0, 0)
    assert taken(of, 0, now=9.0) is None


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 1200), st.integers(0, 4), st.floats(0, 0.01)), max_size=40))
def test_every_request_leaves_exactly_once_in_order_within_bounds(steps: list[tuple[int, int, int, float]]) -> None:
    of: Batcher[int] = batcher(queue_bytes=10**6, queue_requests=1000)  # type: ignore[assignment]
    now, sizes, left = 0.0, {}, []
    for number, (batches, size, in_flight, later) in enumerate(steps):
        now += later
        of.offer(bytes(size), batches, number, now)
        sizes[number] = batches, size
        while (proposal := of.take(in_flight, now, NOW_MS)) is not None:
            left.append(proposal.tokens)
            assert len(proposal.tokens) == 1 or sum(sizes[token][0] for token in proposal.tokens) <= 4
            assert len(proposal.tokens) == 1 or sum(sizes[token][1] for token in proposal.tokens) <= 1000
            assert len(proposal.payload) == 11 + sum(sizes[token][1] for token in proposal.tokens)
    left.append(of.clear())
    assert [token for tokens in left for token in tokens] == list(range(len(steps)))
    assert of.waiting_bytes == 0
