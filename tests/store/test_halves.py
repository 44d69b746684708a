"""Half messages in the state machine and through the service: decided once, visible only when committed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from phxqueue.config import StoreLimits
from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.store_pb2 import (
    AddResult,
    DecideHalfRequest,
    HalfDecision,
    HalfState,
    ListHalvesRequest,
    PollCheckBacksRequest,
    ShowHalfRequest,
    StoreCommand,
)
from phxqueue.replica.errors import EntryUnreadable, OutcomeUnknown
from phxqueue.store.half_table import DECIDED_MS
from phxqueue.store.outcomes import Duplicate, HalfOutcome, Prepared, Refusal
from phxqueue.store.queues import StoreQueues
from tests.store.fakes import NO_CONTEXT, NOW_MS, VALUE, Call, StoreUnderTest, batch

COMMITTED, ROLLED_BACK, EXPIRED = HalfState.COMMITTED, HalfState.ROLLED_BACK, HalfState.EXPIRED


def half(queue_id: int = 1, name: str = "pay", check_after_ms: int = 0, **fields: Any) -> ItemBatch:
    one = batch(queue_id, **fields)
    one.header.prepared_by, one.header.check_after_ms = name, check_after_ms
    return one


def applied(machine: StoreQueues, *batches: ItemBatch, at_ms: int = 0, **decisions: HalfState.ValueType) -> Any:
    """`decisions`: n1=COMMITTED decides half message 1."""
    command = StoreCommand(version=9, timestamp_ms=NOW_MS + at_ms, batches=batches)
    for name, decision in decisions.items():
        command.half_decisions.append(HalfDecision(half_number=int(name[1:]), decision=decision))
    return machine.apply(machine.applied + 1, VALUE, command.SerializeToString())


def restarted(machine: StoreQueues, blobs: dict[bytes, bytes]) -> StoreQueues:
    checkpoint = machine.checkpoint()
    blobs.update(checkpoint.segments)
    for key in checkpoint.dropped:
        blobs.pop(key, None)
    copy = StoreQueues(segment_rows=16)
    copy.restore(checkpoint.state, blobs.items())
    assert copy.state_hash() == machine.state_hash()
    return copy


def test_it_has_a_number_and_no_cursor_and_comes_into_its_queue_when_it_is_committed() -> None:
    machine = StoreQueues()
    assert applied(machine, batch(1), half(1, count=3), batch(1)) == [0, Prepared(1), 1]
    assert machine.end_cursor(1) == 2
    assert applied(machine, n1=COMMITTED) == [HalfOutcome(COMMITTED, 1, 2, 3)]
    assert machine.end_cursor(1) == 5
    assert machine.take_touched() == {1}
    assert not len(machine.halves)
    assert not machine.halves.waiting


def test_the_first_decision_counts_and_others_are_told() -> None:
    machine = StoreQueues()
    applied(machine, half(), half(2), half())
    first = HalfOutcome(COMMITTED, 1, 0, 1)
    again = HalfOutcome(COMMITTED, 1, 0, 1, repeated=True)
    assert applied(machine, n1=COMMITTED) == [first]
    for other in (COMMITTED, ROLLED_BACK, EXPIRED):
        assert applied(machine, n1=other) == [again]
    assert applied(machine, n2=ROLLED_BACK) == [HalfOutcome(ROLLED_BACK, 2, 0, 1)]
    assert applied(machine, n2=COMMITTED) == [HalfOutcome(ROLLED_BACK, 2, 0, 1, repeated=True)]
    assert applied(machine, n3=EXPIRED, n2=COMMITTED)[0] == HalfOutcome(EXPIRED, 1, 0, 1)
    assert (machine.end_cursor(1), machine.end_cursor(2)) == (1, 0)
    assert machine.halves.ended == {(2, ROLLED_BACK): 1, (1, EXPIRED): 1}
    assert [number for _, number, _ in machine.halves.expired()] == [3]


def test_a_number_that_is_none_and_one_decided_long_ago() -> None:
    machine = StoreQueues()
    applied(machine, half())
    [never] = applied(machine, n7=COMMITTED)
    assert isinstance(never, Refusal)
    assert never.status is Status.NOT_FOUND
    assert "there never was one" in never.message
    applied(machine, n1=COMMITTED)
    [old] = applied(machine, at_ms=DECIDED_MS, n1=COMMITTED)
    assert "too long ago" in old.message
    assert machine.end_cursor(1) == 1


def test_a_retry_of_preparing_it_has_its_number() -> None:
    machine = StoreQueues()
    applied(machine, half(producer_id=5, sequence=1))
    assert applied(machine, half(producer_id=5, sequence=1)) == [Duplicate(1, 1, prepared=True)]
    assert len(machine.halves) == 1


def test_the_log_is_kept_from_the_oldest_undecided_one_on() -> None:
    machine = StoreQueues()
    applied(machine, half())
    applied(machine, batch(1))
    machine.forget_rows(machine.queues[1], 1)
    assert machine.first_needed() == 0
    assert machine.checkpoint().needed == 0
    applied(machine, n1=ROLLED_BACK)
    assert machine.first_needed() == 3


def test_checkpoints_have_them_and_write_what_does_not_change_once() -> None:
    machine, blobs = StoreQueues(16), dict[bytes, bytes]()
    for number in range(50):
        applied(machine, half(number % 3, name=f"name {number % 4}", producer_id=5, sequence=number + 1))
    machine = restarted(machine, blobs)
    before = {key for key in blobs if key.startswith(b"h")}
    assert len(before) == 4
    applied(machine, half(), n50=COMMITTED, n49=ROLLED_BACK, n48=EXPIRED)
    machine = restarted(machine, blobs)
    after = {key for key in blobs if key.startswith(b"h")}
    assert len(before & after) == 2, "those of 48, and of 49 and 50, have changed"
    for number in range(1, 48):
        applied(machine, **{f"n{number}": COMMITTED})
        if number % 9 == 0:
            machine = restarted(machine, blobs)
    assert [one.number for one in machine.halves.after(0)] == [51]
    assert applied(machine, n48=COMMITTED, n7=ROLLED_BACK)[0].state == EXPIRED
    assert sum(machine.end_cursor(queue) for queue in range(3)) == 48
    machine = restarted(machine, blobs)


# ---- the service ---------------------------------------------------------------------------------


def added(store: StoreUnderTest, *batches: ItemBatch) -> list[AddResult]:
    call = store.add(*batches)
    store.clock.advance(0)
    return list(call.answer.results)


def decide(store: StoreUnderTest, number: int, decision: HalfState.ValueType, queue_id: int = 1) -> Call:
    request = DecideHalfRequest(topic_id=1000, store_id=1, queue_id=queue_id, half_number=number, decision=decision)
    return Call(lambda: store.service._half_calls.decide(request, NO_CONTEXT))


def listed(store: StoreUnderTest, **fields: Any) -> Any:
    request = ListHalvesRequest(topic_id=1000, store_id=1, **fields)
    return store.service._half_calls.list(request, NO_CONTEXT)


def poll(store: StoreUnderTest, name: str = "pay", wait_ms: int = 30_000, limit: int = 0) -> Call:
    request = PollCheckBacksRequest(topic_id=1000, store_id=1, name=name, wait_ms=wait_ms, limit=limit)
    return Call(lambda: store.service._half_calls.poll(request, NO_CONTEXT))


def read(store: StoreUnderTest, queue_id: int = 1) -> list[bytes]:
    return [one.items for one in store.get(queue_id, 0, random=True).answer.batches]


def asked(call: Call) -> list[tuple[int, bytes]]:
    return [(one.half_number, one.items) for one in call.answer.halves]


def test_nobody_reads_it_before_it_is_committed_and_its_bytes_are_not_written_again() -> None:
    store = StoreUnderTest()
    plain, prepared = added(store, batch(items=b"at once"), half(items=b"x" * 1000))
    assert (prepared.prepared, prepared.half_number, plain.prepared) == (True, 1, False)
    assert read(store) == [b"at once"]
    store.get(1, 1)
    waiting = store.get(1, 1, prev_cursor=1, next_cursor=1, wait_ms=10_000)
    assert waiting.pending
    answer = decide(store, 1, COMMITTED).answer
    store.clock.advance(0)
    assert (answer.state, answer.first_cursor, answer.count, answer.queue_id) == (COMMITTED, 1, 1, 1)
    assert [one.items for one in waiting.answer.batches] == [b"x" * 1000]
    assert len(store.group.log[1]) < 50
    assert StoreCommand.FromString(store.group.log[0]).version == 9


def test_a_decision_sent_again_needs_no_entry() -> None:
    store = StoreUnderTest()
    added(store, half())
    decide(store, 1, ROLLED_BACK)
    entries = len(store.group.log)
    assert decide(store, 1, COMMITTED).answer.state == ROLLED_BACK
    assert decide(store, 9, COMMITTED).error.status is Status.NOT_FOUND
    assert decide(store, 1, EXPIRED).error.status is Status.INVALID_ARGUMENT
    assert len(store.group.log) == entries


def test_an_unknown_outcome_is_told_as_such() -> None:
    store = StoreUnderTest()
    added(store, half())
    store.group.auto = False
    call = decide(store, 1, COMMITTED)
    store.group.lose(OutcomeUnknown("lost"), master=1)
    assert (call.error.status, call.error.maybe_executed) == (Status.UNAVAILABLE, True)


def test_producers_are_asked_at_the_times_configured_and_so_many_times() -> None:
    store = StoreUnderTest()
    added(store, half(items=b"what"))
    call = poll(store, wait_ms=90_000_000)
    store.clock.advance(29.9)
    assert call.pending, "polls wait for 30 s at the most"
    times = []
    for second in range(3700):
        if not call.pending:
            if call.answer.halves:
                assert asked(call) == [(1, b"what")]
                times.append(second)
            call = poll(store)
        store.clock.advance(1)
        store.clock.advance(0)
    assert len(times) == 15
    assert all(59 <= later - earlier <= 61 for earlier, later in pairwise(times))
    assert [one.state for one in listed(store, expired=True).halves] == [EXPIRED]
    assert listed(store).waiting == 0


def test_a_question_waits_for_somebody_to_hear_it_and_only_those_of_its_name_do() -> None:
    store = StoreUnderTest()
    added(store, half(name="pay", check_after_ms=5000, items=b"p"), half(name="ship", check_after_ms=1000, items=b"s"))
    store.clock.advance(7)
    other, mine = poll(store, "ship"), poll(store, "pay")
    store.clock.advance(0)
    assert (asked(other), asked(mine)) == ([(2, b"s")], [(1, b"p")])
    again = poll(store, "pay")
    store.clock.advance(20)
    assert again.pending


def test_one_of_many_polls_gets_a_question_and_nobody_is_asked_about_what_is_decided() -> None:
    store = StoreUnderTest()
    added(store, half(check_after_ms=1000), half(check_after_ms=1000), half(check_after_ms=1000))
    polls = [poll(store, limit=1) for _ in range(2)]
    decide(store, 1, COMMITTED)
    store.clock.advance(1)
    store.clock.advance(0)
    assert sorted(number for call in polls for number, _ in asked(call)) == [2, 3]


def test_a_new_master_asks_and_items_come_from_disk() -> None:
    store = StoreUnderTest()
    added(store, half(check_after_ms=1000, items=b"cold"))
    store.group.lose(OutcomeUnknown("lost"), master=1)
    store.clock.advance(10)
    call = poll(store)
    store.clock.advance(0)
    assert call.pending
    store.group.uncached.add(0)
    store.group.become_master()
    store.clock.advance(0)
    store.group.finish_read()
    assert asked(call) == [(1, b"cold")]


def test_a_disk_that_has_failed_is_told_to_who_is_to_be_asked() -> None:
    """Found by the simulator, seed 340: it was told as a defect."""
    store = StoreUnderTest()
    added(store, half(check_after_ms=1000, items=b"cold"))
    call = poll(store)
    store.group.uncached.add(0)
    store.clock.advance(1)
    store.group.cold_reads.pop()[1].errback(EntryUnreadable("the journal has stopped"))
    assert (call.error.status, call.error.message) == (Status.DATA_LOSS, "the journal has stopped")


def test_a_deadline_is_tried_again_until_it_is_in_the_log() -> None:
    store = StoreUnderTest()
    added(store, half())
    store.group.auto = False
    for _ in range(3601):
        store.clock.advance(1)
    assert len(store.group.proposed) == 1
    store.group.lose(OutcomeUnknown("lost"), master=0)
    store.group.choose()
    assert listed(store, expired=True).halves[0].half_number == 1
    assert decide(store, 1, COMMITTED).answer.state == EXPIRED


def test_they_are_listed_and_shown() -> None:
    store = StoreUnderTest()
    added(store, *[half(number % 2, items=b"%d" % number) for number in range(5)])
    decide(store, 2, COMMITTED)
    page = listed(store, limit=2)
    assert ([one.half_number for one in page.halves], page.more, page.waiting) == ([1, 3], True, 4)
    rest = listed(store, limit=2, after_number=3)
    assert ([one.half_number for one in rest.halves], rest.more) == ([4, 5], False)
    first = page.halves[0]
    assert (first.prepared_by, first.queue_id, first.ends_at_ms) == ("pay", 0, NOW_MS + 3_600_000)
    for number, state, items in ((1, HalfState.UNDECIDED, b"0"), (2, COMMITTED, b"")):
        request = ShowHalfRequest(topic_id=1000, store_id=1, half_number=number)
        shown = Call(lambda request=request: store.service._half_calls.show(request, NO_CONTEXT)).answer.half
        assert (shown.half_number, shown.state, shown.items) == (number, state, items)


def test_bounds_and_what_is_refused() -> None:
    store = StoreUnderTest(limits=StoreLimits(max_prepared=1))
    added(store, half())
    assert store.add(half()).error.status is Status.RESOURCE_EXHAUSTED
    store.group.lowest_version = 8
    store.group.state_machine.version = 8
    error = store.add(half()).error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)
    for wrong in (half(deliver_at_ms=NOW_MS), half(name="n" * 129)):
        store = StoreUnderTest()
        assert store.add(wrong).error.status is Status.INVALID_ARGUMENT


def test_status_counts_them() -> None:
    store = StoreUnderTest()
    added(store, half(1, count=2), half(1), half(1), batch(1))
    decide(store, 2, ROLLED_BACK)
    decide(store, 3, COMMITTED)
    [status] = store.service.queue_statuses()
    assert (status.prepared, status.rolled_back, status.end_cursor, status.half_expired) == (2, 1, 2, 0)
