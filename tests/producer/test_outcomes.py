"""When the store does not simply say yes: the three outcomes, no second copies, and the order of a uin."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phxqueue.net.status import Status
from phxqueue.producer import NewItem, OutcomeUnknown, Receipt, Refused
from tests.producer.fake_store import Fault, make_store, make_topic
from tests.producer.rig import Rig, watch


def faults(*sequence: Fault) -> Any:
    """These for the first calls, none for the rest."""
    left = list(sequence)
    return lambda name, request: left.pop(0) if left else Fault.NONE


@pytest.mark.parametrize("fault", [Fault.OVERLOADED, Fault.BATCH_OVERLOADED])
def test_overload_is_ridden_out_with_the_same_sequence(fault: Fault) -> None:
    rig = Rig()
    rig.store.fault = faults(fault, fault, fault)
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(1)
    assert isinstance(done[0], Receipt)
    assert [request.batches[0].header.sequence for request in rig.store.adds] == [1] * 4
    assert rig.producer.stats.retries == 3


def test_overload_that_stays_is_a_refusal_at_the_deadline() -> None:
    rig = Rig(deadline_s=2.0)
    rig.store.fault = lambda name, request: Fault.BATCH_OVERLOADED
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(2.1)
    [error] = done
    assert isinstance(error, Refused)
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert "nothing was written" in str(error)
    assert len(rig.store.adds) < 60, "pauses grow"
    rig.run(1)


@pytest.mark.parametrize(
    ("fault", "status"), [(Fault.DENIED, Status.PERMISSION_DENIED), (Fault.NO_MASTER, Status.NO_MASTER)]
)
def test_a_refusal_is_told_at_once_and_not_retried(fault: Fault, status: Status) -> None:
    rig = Rig()
    rig.store.fault = faults(fault)
    done = [watch(rig.producer.enqueue(1, 1, b"x", uin=n)) for n in range(3)]
    rig.run(0.01)
    for [error] in done:
        assert isinstance(error, Refused)
        assert error.status is status
        assert "store 1: " in str(error)
    assert len(rig.store.adds) == 1
    rig.run(2)


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.SILENT, Fault.LATE])
def test_no_answer_is_an_unknown_outcome(fault: Fault) -> None:
    rig = Rig(deadline_s=1.0)
    rig.store.fault = faults(fault)
    done = watch(rig.producer.enqueue(1, 1, b"x"))
    rig.run(1.2)
    assert isinstance(done[0], OutcomeUnknown)
    assert "may or may not be written" in str(done[0])
    rig.run(2)
    assert len(rig.store.adds) == 1, "without uin nothing has to be settled"


def test_a_refusal_after_a_lost_answer_proves_nothing() -> None:
    """The first try may still be on its way to the store: younger items wait until that is settled."""
    rig = Rig(backoff_first_s=0.1, backoff_max_s=0.1)
    rig.store.fault = faults(Fault.REPLY_LOST, Fault.DENIED, Fault.DENIED)
    first = watch(rig.producer.enqueue(1, 1, b"first", uin=1))
    rig.run(0.05)
    second = watch(rig.producer.enqueue(1, 1, b"second", uin=1))
    rig.run(0.1)
    assert isinstance(first[0], OutcomeUnknown)
    assert second == []
    rig.run(0.5)
    assert isinstance(second[0], Receipt)
    assert rig.producer.stats.settled == 1


def test_a_batch_that_the_store_no_longer_remembers_is_settled_too() -> None:
    """OUT_OF_RANGE: the sequence is below the store's window; the store will not take it any more."""
    rig = Rig(backoff_first_s=0.1, backoff_max_s=0.1)
    rig.store.fault = faults(Fault.REQUEST_LOST)
    first = watch(rig.producer.enqueue(1, 1, b"first", uin=1))
    rig.run(0.05)
    rig.store.forgotten = {1}
    second = watch(rig.producer.enqueue(1, 1, b"second", uin=1))
    rig.run(0.3)
    assert isinstance(first[0], OutcomeUnknown)
    assert isinstance(second[0], Receipt)
    assert rig.only_item().buffer == b"second"


def test_what_a_store_no_longer_remembers_may_be_written() -> None:
    """By a try of which only the call knew, say: other nodes and time-outs are its business."""
    rig = Rig()
    rig.store.forgotten = {1}
    first = watch(rig.producer.enqueue(1, 1, b"first"))
    rig.run(0.1)
    assert isinstance(first[0], OutcomeUnknown)


@pytest.mark.parametrize("fault", [Fault.REQUEST_LOST, Fault.REPLY_LOST])
def test_an_unknown_batch_is_settled_before_younger_items_of_its_uins_leave(fault: Fault) -> None:
    rig = Rig(backoff_first_s=0.1, backoff_max_s=0.1)
    trouble = faults(fault, fault, Fault.NO_MASTER)
    rig.store.fault = lambda name, request: (
        trouble(name, request) if b"first" in request.batches[0].items else Fault.NONE
    )
    first = watch(rig.producer.enqueue(1, 1, b"first", uin=1))
    rig.run(0.01)
    assert isinstance(first[0], OutcomeUnknown)
    second = watch(rig.producer.enqueue(1, 1, b"second", uin=1))
    other = watch(rig.producer.enqueue(1, 1, b"other", uin=2))
    rig.run(0.05)
    assert second == []
    assert isinstance(other[0], Receipt), "other uins do not wait"
    rig.run(1)
    assert isinstance(second[0], Receipt)
    assert rig.written_in_order()[1, 1] == [b"first", b"second"]
    assert rig.producer.stats.settled == 1
    assert rig.producer.stats.duplicates == (fault is Fault.REPLY_LOST)


def test_settling_ends_after_its_time_and_says_so() -> None:
    rig = Rig(deadline_s=1.0, settle_s=5.0)
    rig.store.fault = lambda name, request: Fault.SILENT
    first = watch(rig.producer.enqueue(1, 1, b"first", uin=1))
    rig.run(1.1)
    assert isinstance(first[0], OutcomeUnknown)
    second = watch(rig.producer.enqueue(1, 1, b"second", uin=1))
    rig.run(1.2)
    [error] = second
    assert isinstance(error, Refused)
    assert error.status is Status.DEADLINE_EXCEEDED
    assert "busy with earlier items" in str(error)
    rig.run(6)
    assert rig.producer.stats.abandoned == 1
    rig.store.fault = faults()
    third = watch(rig.producer.enqueue(1, 1, b"third", uin=1))
    rig.run(0.1)
    assert isinstance(third[0], Receipt)
    assert rig.producer._dispatch._admission.items == 0
    assert rig.clock.getDelayedCalls() == []


def test_with_no_time_left_an_item_is_refused_rather_than_sent() -> None:
    rig = Rig(deadline_s=2.0, batch_items=1, max_in_flight=1)
    rig.store.fault = lambda name, request: Fault.SILENT
    first, second = (watch(rig.producer.enqueue(1, 1, b"x")) for _ in range(2))
    rig.run(2.01)
    assert isinstance(first[0], OutcomeUnknown)
    assert isinstance(second[0], Refused)
    assert len(rig.store.adds) == 1


def test_with_little_time_left_an_item_is_refused_rather_than_put_in_doubt() -> None:
    """The answer would come after the deadline: nobody would know any more."""
    rig = Rig(deadline_s=2.0, batch_items=1, max_in_flight=1, latency_s=1.85)
    first, second = (watch(rig.producer.enqueue(1, 1, b"x")) for _ in range(2))
    rig.run(2.1)
    assert isinstance(first[0], Receipt)
    assert isinstance(second[0], Refused)
    assert "nothing was written" in str(second[0])
    assert len(rig.store.adds) == 1


@pytest.mark.parametrize("seed", range(8))
def test_what_is_surely_refused_is_not_sent_again_at_the_last_moment(seed: int) -> None:
    rig = Rig(seed=seed, deadline_s=2.0, backoff_max_s=0.05)
    late = rig.clock.seconds() + 1.8
    rig.store.fault = lambda name, request: Fault.BATCH_OVERLOADED if rig.clock.seconds() < late else Fault.SILENT
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(2.1)
    [error] = done
    assert isinstance(error, Refused)
    assert error.status is Status.RESOURCE_EXHAUSTED


def test_what_is_in_doubt_is_asked_about_up_to_the_end() -> None:
    rig = Rig(deadline_s=2.0, backoff_first_s=0.02, backoff_max_s=0.02)
    original, late = rig.store._add, rig.clock.seconds() + 1.9
    rig.store.fault = lambda name, request: (
        Fault.BATCH_OVERLOADED if len(rig.store.adds) > 1 and rig.clock.seconds() < late else Fault.NONE
    )

    def add(request: Any) -> Any:
        response = original(request)
        if len(rig.store.adds) == 1:  # stored, and it does not know that
            response.results[0].Clear()
            response.results[0].status = Status.UNAVAILABLE
        return response

    rig.store._add = add  # type: ignore[method-assign]
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(2.1)
    assert isinstance(done[0], Receipt)
    assert rig.producer.stats.duplicates == 1


def test_each_caller_is_told_at_its_own_deadline() -> None:
    rig = Rig(deadline_s=2.0, batch_items=10, max_in_flight=1)
    rig.store.fault = faults(Fault.BATCH_OVERLOADED, Fault.SILENT)
    rig.store.latency_s = 0.5
    early = watch(rig.producer.enqueue(1, 1, b"early", uin=1))
    rig.run(1.9)
    late = watch(rig.producer.enqueue(1, 1, b"late", uin=1))
    rig.run(0.4)
    assert isinstance(early[0], OutcomeUnknown)
    assert late == []
    rig.run(2)
    assert late != []
    rig.run(100)


def test_an_answer_that_does_not_fit_the_request_is_an_unknown_outcome() -> None:
    rig = Rig()
    add = rig.store._add
    rig.store._add = lambda request: type(add(request))()  # type: ignore[method-assign]
    done = watch(rig.producer.enqueue(1, 1, b"x"))
    rig.run(0.1)
    assert isinstance(done[0], OutcomeUnknown)
    assert "0 results for 1 batches" in str(done[0])


@pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.INTERNAL])
def test_a_batch_may_say_itself_that_its_outcome_is_unknown(status: Status) -> None:
    """And what is refused afterwards is not known to be refused."""
    rig = Rig(settle_s=0.5)

    def add(request: Any) -> Any:
        rig.store.fault = lambda name, request: Fault.DENIED
        response = original(request)
        for result in response.results:
            result.status = status
        return response

    original = rig.store._add
    rig.store._add = add  # type: ignore[method-assign]
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(0.2)
    assert isinstance(done[0], OutcomeUnknown)
    assert rig.only_item().buffer == b"x"
    rig.run(2)


def test_a_defect_here_is_logged_and_keeps_nobody_waiting(logged_errors: Any) -> None:
    rig = Rig()
    sender_of(rig)._stored = None  # type: ignore[assignment,method-assign]
    done = watch(rig.producer.enqueue(1, 1, b"x", uin=1))
    rig.run(0.1)
    assert isinstance(done[0], OutcomeUnknown)
    assert len(logged_errors.flush(TypeError)) == 1
    assert rig.producer._dispatch._admission.items == 0


def sender_of(rig: Rig) -> Any:
    """The sender of store 1."""
    watch(rig.producer.enqueue(1, 1, b"probe", uin=1))
    rig.run(0.1)
    return rig.producer._dispatch._senders[1, 0]


def test_one_batch_of_a_request_may_fail_alone() -> None:
    rig = Rig()
    refuse: set[int] = set()

    def add(request: Any) -> Any:
        response = original(request)
        for batch, result in zip(request.batches, response.results, strict=True):
            if batch.header.queue_id in refuse:
                result.Clear()
                result.status = Status.INVALID_ARGUMENT
                result.message = "not this queue"
        return response

    original = rig.store._add
    rig.store._add = add  # type: ignore[method-assign]
    refuse.add(watch_queue(rig, uin=5))
    done = {uin: watch(rig.producer.enqueue(1, 1, b"x", uin=uin)) for uin in range(1, 30)}
    rig.run(1)
    bad = {uin for uin, [result] in done.items() if isinstance(result, Refused)}
    assert 5 in bad
    assert all(isinstance(done[uin][0], Receipt) for uin in set(done) - bad)
    assert 0 < len(bad) < 29


def watch_queue(rig: Rig, uin: int) -> int:
    """The queue of a uin."""
    done = watch(rig.producer.enqueue(1, 1, b"probe", uin=uin))
    rig.run(0.1)
    return int(done[0].queue_id)


RANDOM_FAULTS = [fault for fault in Fault if fault is not Fault.NONE]


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.4, 0.8]))
def test_random_failures_neither_duplicate_nor_reorder_nor_lie(seed: int, rate: float) -> None:
    """Two stores, many uins, every kind of failure at random, then calm.

    Afterwards the queues are compared with what the callers were told: receipts are true, refused items are
    nowhere, nothing is there twice, and the items of one uin that are there stand in the order of the calls.
    """
    rng = random.Random(seed)
    topic = make_topic(stores=(make_store(1, paxos_groups=2), make_store(2)))
    rig = Rig(
        topic, seed=seed, deadline_s=1.0, settle_s=20.0, batch_items=rng.choice((1, 3, 50)), batch_delay_s=0.002,
        max_in_flight=rng.choice((1, 2, 5)), eager_in_flight=rng.choice((1, 2)), backoff_first_s=0.01,
        backoff_max_s=0.1, buffer_items=rng.choice((5, 1000)), max_waiting=1000, chunk_items=3,
        batch_size=rng.choice((200, 10_000)),
    )  # fmt: skip
    rig.store.fault = lambda name, request: rng.choice(RANDOM_FAULTS) if rng.random() < rate else Fault.NONE
    told: dict[bytes, list[Any]] = {}
    calls: dict[int, list[bytes]] = defaultdict(list)
    many: list[tuple[list[bytes], list[Any]]] = []
    number = 0
    for _ in range(60):
        rig.store.latency_s = rng.choice((0.0005, 0.005, 0.05))
        for _ in range(rng.randint(0, 4)):
            items = []
            for _ in range(rng.choice((1, 1, 1, 5))):
                buffer, uin = b"%d" % number, rng.choice((0, 1, 2, 3, 4))
                number += 1
                calls[uin].append(buffer)
                items.append(NewItem(1, 1, buffer, uin, consumer_group_ids=rng.choice((None, (1,)))))
            if len(items) == 1:
                told[items[0].buffer] = watch(rig.producer.enqueue(*items[0]))
            else:
                many.append(([item.buffer for item in items], watch(rig.producer.enqueue_many(items))))
        rig.run(rng.choice((0.0, 0.001, 0.02)))
    rig.run(3)
    rig.store.fault = lambda name, request: Fault.NONE
    rig.run(40)
    for buffers, [receipts] in many:
        told |= {buffer: [receipt] for buffer, receipt in zip(buffers, receipts, strict=True)}

    there = Counter(item.buffer for item in rig.store.all_items())
    assert all(count == 1 for count in there.values()), "a second copy"
    for buffer, results in told.items():
        [result] = results
        if isinstance(result, Receipt):
            assert rig.store.items(result.store_id, result.queue_id)[result.cursor].buffer == buffer
        elif isinstance(result, Refused):
            assert buffer not in there
        else:
            assert isinstance(result, OutcomeUnknown)
    for uin in (1, 2, 3, 4):
        found = rig.written_in_order()[1, uin]
        assert found == [buffer for buffer in calls[uin] if buffer in there], f"order of uin {uin}"
    assert rig.producer._dispatch._admission.items == rig.producer._dispatch._admission.size == 0
    stats = rig.producer.stats
    outcomes = Counter(type(results[0]) for results in told.values())
    assert (stats.stored, stats.unknown) == (outcomes[Receipt], outcomes[OutcomeUnknown])
    assert rig.clock.getDelayedCalls() == []
