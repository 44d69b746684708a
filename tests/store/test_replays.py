"""Replays through the service: exactly once, not undone by what was under way, other groups untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from phxqueue.config import StoreLimits
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.digest import Claim
from phxqueue.proto.store_pb2 import (
    AckClaim,
    ListReplaysRequest,
    ReplayRequest,
    ReplayStatus,
    StoreCommand,
)
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded
from phxqueue.store.queues import StoreQueues
from phxqueue.store.replay_table import REPLAY_VERSION
from tests.store.fakes import NO_CONTEXT, NOW_MS, VALUE, Call, Context, StoreUnderTest, batch, command, move, trimmed


def store(**kwargs: Any) -> StoreUnderTest:
    """Queue 1 has ten items in two batches, stored at 0 s and 1 s; groups 1 and 2 have acknowledged all of them."""
    made = StoreUnderTest(**kwargs)
    made.added(batch(1, 5, digest=50))
    made.clock.advance(1)
    made.added(batch(1, 5, digest=500))
    for group in (1, 2):
        assert made.get(group_id=group).answer.next_cursor == 10
        assert made.get(group_id=group, limit=0, prev_cursor=10).answer.prev_cursor == 10
    made.clock.advance(1)
    assert made.group.state_machine.acked_cursor(1, 1) == 10
    return made


def ask(made: StoreUnderTest, name: str = "r1", **fields: Any) -> Call:
    request = ReplayRequest(topic_id=1000, store_id=1, id=name, consumer_group_id=1, pub_id=1)
    for field, value in fields.items():
        setattr(request, field, value)
    return Call(lambda: calls(made).replay(request, NO_CONTEXT))


def calls(made: StoreUnderTest) -> Any:
    from phxqueue.store.replay_calls import ReplayCalls

    return ReplayCalls(made.service.serving_group)


def listed(made: StoreUnderTest, name: str = "") -> list[ReplayStatus]:
    request = ListReplaysRequest(topic_id=1000, store_id=1, id=name)
    return list(calls(made).list(request, NO_CONTEXT).replays)


def fail_over(made: StoreUnderTest) -> None:
    made.group.lose(OutcomeUnknown("deposed"))
    made.group.become_master()


def acked(made: StoreUnderTest, group: int = 1) -> int:
    return made.group.state_machine.acked_cursor(1, group)


# ---- what it does -----------------------------------------------------------------------------------


def test_the_group_reads_again_from_the_cursor_and_nobody_else_does() -> None:
    made = store()
    answer = ask(made, queue_id=1, to_cursor=3).answer
    assert not answer.duplicate
    [one] = answer.replay.queues
    assert (one.queue_id, one.target, one.acked, one.position, one.left) == (1, 3, 10, 3, 7)
    assert (acked(made, 1), acked(made, 2)) == (3, 10)
    got = made.get(group_id=1, next_cursor=10, prev_cursor=10, generation=0).answer
    assert (got.reset, got.prev_cursor, got.next_cursor) == (True, 3, 10)
    assert [found.first_cursor for found in got.batches] == [0, 5]
    other = made.get(group_id=2, next_cursor=10, prev_cursor=10).answer
    assert (other.reset, list(other.batches)) == (False, [])


@pytest.mark.parametrize(("at_ms", "target"), [(-5, 0), (0, 0), (1, 5), (1000, 5)])
def test_a_time_is_the_first_item_stored_then_or_later(at_ms: int, target: int) -> None:
    made = store()
    assert [one.target for one in ask(made, to_time_ms=NOW_MS + at_ms).answer.replay.queues] == [target]
    assert acked(made) == target


def test_a_time_after_the_last_item_moves_nothing() -> None:
    made = store()
    assert list(ask(made, to_time_ms=NOW_MS + 1001).answer.replay.queues) == []
    assert acked(made) == 10


def test_what_lies_ahead_is_left_alone_unless_it_is_to_be_skipped() -> None:
    made = store()
    made.added(batch(1, 5))
    error = ask(made, queue_id=1, to_cursor=12).error
    assert error.status is Status.INVALID_ARGUMENT
    assert "stands at 10, before cursor 12" in error.message
    assert list(ask(made, "r2", to_time_ms=NOW_MS + 2000).answer.replay.queues) == []
    [one] = ask(made, "r3", queue_id=1, to_cursor=12, skip=True).answer.replay.queues
    assert (one.target, one.acked, one.left, acked(made)) == (12, 10, 0, 12)
    assert ask(made, "r4", queue_id=1, to_cursor=16, skip=True).error.status is Status.OUT_OF_RANGE
    [counts] = made.service.passed_on()
    assert (counts.consumer_group_id, counts.replayed, counts.skipped) == (1, 0, 2)


def test_a_dry_run_changes_nothing() -> None:
    made = store()
    entries = len(made.group.log)
    [one] = ask(made, to_earliest=True, dry_run=True).answer.replay.queues
    assert (one.target, one.acked, one.left) == (0, 10, 10)
    assert (len(made.group.log), acked(made), listed(made)) == (entries, 10, [])


def test_what_is_put_back_is_counted() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=3)
    ask(made, "r2", queue_id=1, to_cursor=1)
    [counts] = made.service.passed_on()
    assert (counts.consumer_group_id, counts.replayed, counts.skipped) == (1, 9, 0)


def test_progress() -> None:
    made = store()
    ask(made, to_earliest=True)
    made.get(group_id=1)
    made.get(group_id=1, limit=0, prev_cursor=4)
    [[one]] = [replay.queues for replay in listed(made)]
    assert (one.position, one.left, one.superseded) == (4, 6, False)
    made.get(group_id=1, limit=0, prev_cursor=10)
    ask(made, "r2", queue_id=1, to_cursor=8)
    [[first], [second]] = [replay.queues for replay in listed(made)]
    assert (first.left, first.superseded, second.left, second.superseded) == (0, True, 2, False)
    assert [replay.id for replay in listed(made, "r2")] == ["r2"]


def test_its_own_answer_knows_that_everything_is_left() -> None:
    """It is made before what the master knew of the position is forgotten."""
    made = store()
    made.group.auto = False
    call = ask(made, queue_id=1, to_cursor=3)
    made.group.choose()
    [one] = call.answer.replay.queues
    assert (one.position, one.left, one.superseded) == (3, 7, False)


def test_delayed_items_come_again() -> None:
    made = StoreUnderTest()
    call = made.add(batch(1, 2, deliver_at_ms=NOW_MS + 100))
    made.clock.advance(0)
    assert call.answer.results[0].delayed
    made.clock.advance(1)
    assert made.get().answer.next_cursor == 2
    made.get(limit=0, prev_cursor=2)
    ask(made, to_earliest=True)
    got = made.get().answer
    assert [(found.first_cursor, found.header.count) for found in got.batches] == [(0, 2)]


# ---- exactly once -----------------------------------------------------------------------------------


def test_the_same_id_again_is_answered_with_what_became_of_it() -> None:
    made = store()
    first = ask(made, queue_id=1, to_cursor=3).answer
    made.get(group_id=1)
    made.get(group_id=1, limit=0, prev_cursor=10)
    again = ask(made, queue_id=1, to_cursor=3).answer
    assert again.duplicate
    assert [(one.target, one.acked) for one in again.replay.queues] == [(3, 10)]
    assert first.replay.timestamp_ms == again.replay.timestamp_ms
    assert acked(made, 1) == 10 or made.get(group_id=1, limit=0).answer.prev_cursor == 10


def test_no_reload_failover_or_restart_repeats_it() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=3)
    read = made.get().answer
    assert made.get(limit=0, prev_cursor=10, generation=read.generation).answer.prev_cursor == 10
    made.clock.advance(1)
    assert acked(made) == 10
    for again in (made.service.reconfigure, lambda _: fail_over(made), lambda _: restart(made)):
        again(made.node)
        made.clock.advance(60)
        assert acked(made) == 10
        assert [one.id for one in listed(made)] == ["r1"]
        assert ask(made, queue_id=1, to_cursor=3).answer.duplicate
    assert acked(made) == 10


def restart(made: StoreUnderTest) -> None:
    machine = made.group.state_machine
    checkpoint = machine.checkpoint()
    machine.restore(checkpoint.state, checkpoint.segments)
    fail_over(made)


def test_two_commands_with_one_id_do_it_once() -> None:
    """A former master's, whose sender asked again, and the new one's."""
    made = store()
    made.group.auto = False
    ask(made, queue_id=1, to_cursor=3)
    [(payload, _)] = made.group.proposed
    made.group.choose()
    made.group.append(command(moves=[generated(made, 10)]))
    assert acked(made) == 10
    made.group.append(payload)
    assert acked(made) == 10
    assert len(listed(made)) == 1


def generated(made: StoreUnderTest, to: int) -> Any:
    one = move(1, 1, to)
    one.generation = made.group.state_machine.replays.generation((1, 1))
    return one


def test_an_id_belongs_to_one_replay() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=3)
    for fields in (
        {"queue_id": 1, "to_cursor": 4},
        {"to_earliest": True},
        {"queue_id": 1, "to_cursor": 3, "skip": True},
    ):
        assert ask(made, **fields).error.status is Status.ALREADY_EXISTS
    assert acked(made) == 3


def test_ids_are_forgotten_the_oldest_first() -> None:
    made = store(limits=StoreLimits(replays_kept=2, replays_kept_s=3600.0))
    for number in range(4):
        ask(made, f"r{number}", queue_id=1, to_cursor=9 - number)
    assert [replay.id for replay in listed(made)] == ["r2", "r3"]
    made.clock.advance(3601)
    ask(made, "r4", queue_id=1, to_cursor=1)
    assert [replay.id for replay in listed(made)] == ["r4"]


def test_a_checkpoint_keeps_it() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=3)
    machine: StoreQueues = made.group.state_machine
    checkpoint = machine.checkpoint()
    copy = StoreQueues()
    copy.restore(checkpoint.state, checkpoint.segments)
    assert copy.state_hash() == machine.state_hash()
    assert copy.replays == machine.replays
    last = made.group.log[-1]
    copy.apply(copy.applied + 1, VALUE, last)
    assert (copy.acked_cursor(1, 1), copy.replays.records.keys()) == (3, {"r1"})


def test_programs_before_it_are_waited_for() -> None:
    made = store()
    made.first_program(REPLAY_VERSION - 1)
    error = ask(made, to_earliest=True).error
    assert (error.status, error.maybe_executed) == (Status.UNAVAILABLE, False)


@pytest.mark.parametrize(
    ("error", "status", "maybe"),
    [
        (NotServing("gone"), Status.NO_MASTER, False),
        (Overloaded("full"), Status.RESOURCE_EXHAUSTED, False),
        (OutcomeUnknown("deposed"), Status.UNAVAILABLE, True),
    ],
)
def test_no_outcome(error: Exception, status: Status, maybe: bool) -> None:
    made = store()
    made.group.auto = False
    call = ask(made, to_earliest=True)
    made.group.give_up(error)
    assert call.error.status is status or status is Status.NO_MASTER
    assert call.error.maybe_executed or not maybe


# ---- readers and acknowledgements that were under way ---------------------------------------------------


@pytest.mark.parametrize("tell", [True, False])
def test_whoever_waits_is_given_what_comes_again(tell: bool) -> None:
    """One that does not say of which generation it is, is only told at first where it stands."""
    made = store()
    waiting = made.get(group_id=1, next_cursor=10, wait_ms=5000, **({"generation": 0} if tell else {}))
    other = made.get(group_id=2, next_cursor=10, wait_ms=5000)
    ask(made, queue_id=1, to_cursor=5)
    made.clock.advance(0)
    answer = waiting.answer
    assert (answer.reset, answer.prev_cursor, answer.next_cursor) == (True, 5, 10 if tell else 5)
    assert len(answer.batches) == tell
    assert other.pending
    made.clock.advance(6)


@pytest.mark.parametrize("waits", [True, False])
def test_a_replay_is_told_at_once_also_where_nothing_comes_again(waits: bool) -> None:
    """Else its reader would go on with what it has in hand, for as long as its Get may wait."""
    made = store()
    made.added(batch(1, 5, mask=0b10))
    made.get(group_id=1, next_cursor=10, prev_cursor=10, generation=0)
    assert made.get(group_id=1, limit=0, prev_cursor=15, generation=0).answer.prev_cursor == 15
    made.clock.advance(1)
    get = {"group_id": 1, "next_cursor": 15, "generation": 0, "wait_ms": 5000}
    waiting = made.get(**get) if waits else None
    ask(made, queue_id=1, to_cursor=10)
    made.clock.advance(0)
    answer = (waiting or made.get(**get)).answer
    assert (answer.reset, answer.prev_cursor, answer.next_cursor, len(answer.batches)) == (True, 10, 15, 0)
    assert made.get(group_id=1, next_cursor=15, generation=answer.generation, wait_ms=5000).pending, "it has heard it"
    made.clock.advance(6)


@pytest.mark.parametrize("tell", [True, False])
@pytest.mark.parametrize("deposed", [True, False])
def test_an_acknowledgement_from_before_is_void(tell: bool, deposed: bool) -> None:
    """Whether it says of which generation it is or not, and whoever is master by then."""
    made = store()
    made.added(batch(1, 5, digest=7))
    before = made.get(group_id=1, next_cursor=10).answer
    assert before.next_cursor == 15
    ask(made, queue_id=1, to_cursor=3)
    if deposed:
        fail_over(made)
    generation = {"generation": before.generation} if tell else {}
    answer = made.get(group_id=1, limit=0, prev_cursor=15, **generation).answer
    assert (answer.prev_cursor, answer.reset) == (3, True)
    got = made.get(group_id=1, next_cursor=15, **generation).answer
    assert (got.prev_cursor, got.reset) == (3, True)
    if not tell:
        got = made.get(group_id=1, prev_cursor=3, next_cursor=got.next_cursor).answer
        assert (got.prev_cursor, got.reset) == (3, False)
    assert got.batches[0].first_cursor == 0
    assert acked(made) == 3


@pytest.mark.parametrize("waits", [True, False])
def test_a_reader_that_tells_no_generation_and_was_not_told_of_it_acknowledges_nothing(waits: bool) -> None:
    """The answer that told it was lost: it asks as before, and what was handed out to it since never came."""
    made = store()
    if waits:
        made.get(group_id=1, prev_cursor=10, next_cursor=10, wait_ms=5000)
    ask(made, to_earliest=True)
    made.clock.advance(0)
    for _ in range(3):
        answer = made.get(group_id=1, prev_cursor=10, next_cursor=10).answer
        assert (answer.prev_cursor, answer.next_cursor, answer.reset, len(answer.batches)) == (0, 0, True, 0)
        assert made.get(group_id=1, limit=0, prev_cursor=10).answer.prev_cursor == 0
    made.clock.advance(1)
    assert acked(made) == 0


def test_a_reader_that_tells_no_generation_gets_all_of_it() -> None:
    made = store()
    ask(made, to_earliest=True)
    cursor, came = 10, 0
    for _ in range(4):
        answer = made.get(group_id=1, limit=5, prev_cursor=cursor, next_cursor=cursor).answer
        cursor, came = answer.next_cursor, came + sum(one.header.count for one in answer.batches)
    assert (answer.prev_cursor, cursor, came) == (10, 10, 10)


def test_of_a_reader_that_tells_no_generation_only_the_one_that_continues_is_heard() -> None:
    """Something else was handed out since: it is not what this one has finished."""
    made = store()
    made.added(batch(1, 5, digest=7))
    ask(made, to_earliest=True)
    assert made.get(group_id=1).answer.next_cursor == 15
    late = made.get(group_id=1, prev_cursor=10, next_cursor=10).answer
    assert (late.prev_cursor, late.next_cursor, late.reset) == (0, 0, True)
    assert made.get(group_id=1, prev_cursor=10, next_cursor=15).answer.prev_cursor == 10


@pytest.mark.parametrize(("stale", "new"), [({"reader_id": 1}, {"reader_id": 2}), ({}, {"reader_id": 2}), ({}, {})])
def test_of_readers_that_tell_no_generation_the_one_that_was_given_it_is_heard(
    stale: dict[str, int], new: dict[str, int]
) -> None:
    """The other has finished what was there before; its cursor is by chance the end of what was handed out since."""
    made = store()
    connection = made.context if stale else Context()
    ask(made, to_earliest=True)
    assert made.get(group_id=1, **new).answer.next_cursor == 10
    made.added(batch(1, 5, digest=7))
    for _ in range(3):
        only_acknowledges = made.get(group_id=1, limit=0, prev_cursor=10, by=connection, **stale).answer
        assert (only_acknowledges.prev_cursor, only_acknowledges.reset) == (0, True)
        goes_on = made.get(group_id=1, prev_cursor=10, next_cursor=10, by=connection, **stale).answer
        assert (goes_on.prev_cursor, goes_on.reset, len(goes_on.batches)) == (0, True, 0)
        reads_on = made.get(group_id=1, next_cursor=10, by=connection, **stale).answer
        assert (reads_on.prev_cursor, reads_on.next_cursor, reads_on.reset) == (0, 0, True)
    answer = made.get(group_id=1, prev_cursor=10, next_cursor=10, **new).answer
    assert (answer.prev_cursor, answer.next_cursor, answer.reset) == (10, 15, False)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_replay_within_a_replay_does_not_end_the_first(restarted: bool) -> None:
    """What the first one put back comes again too, whatever a reader says that heard of neither."""
    made = store()
    ask(made, name="first", to_earliest=True)
    got = made.get(group_id=1, limit=5).answer
    made.get(group_id=1, limit=0, prev_cursor=5, generation=got.generation)
    made.clock.advance(1)
    ask(made, name="second", queue_id=1, to_cursor=3)
    if restarted:
        restored = StoreQueues()
        checkpoint = made.group.state_machine.checkpoint()
        restored.restore(checkpoint.state, checkpoint.segments)
        table = restored.replays
    else:
        table = made.group.state_machine.replays
    assert table.stood_at((1, 1)) == 10
    new = made.get(group_id=1, reader_id=2).answer
    assert made.get(group_id=1, limit=0, prev_cursor=5, reader_id=2).answer.prev_cursor == 5
    assert new.next_cursor == 10
    stale = made.get(group_id=1, prev_cursor=10, next_cursor=10, reader_id=1).answer
    assert (stale.prev_cursor, stale.reset) == (5, True)


def test_a_reader_that_tells_no_generation_is_the_same_by_another_connection_if_it_has_an_id() -> None:
    made = store()
    ask(made, to_earliest=True)
    assert made.get(group_id=1, reader_id=7).answer.next_cursor == 10
    assert made.get(group_id=1, prev_cursor=10, next_cursor=10, reader_id=7, by=Context()).answer.prev_cursor == 10


def test_a_reader_that_tells_no_generation_and_has_no_id_begins_again_when_its_connection_ends() -> None:
    made = store()
    ask(made, to_earliest=True)
    assert made.get(group_id=1).answer.next_cursor == 10
    other = Context()
    answer = made.get(group_id=1, prev_cursor=10, next_cursor=10, by=other).answer
    assert (answer.prev_cursor, answer.next_cursor, answer.reset) == (0, 0, True)
    assert made.get(group_id=1, prev_cursor=0, next_cursor=0, by=other).answer.next_cursor == 10
    assert made.get(group_id=1, prev_cursor=10, next_cursor=10, by=other).answer.prev_cursor == 10


def claimed(made: StoreUnderTest, *claims: Claim, **fields: Any) -> Call:
    messages = [AckClaim(start=c.start, stop=c.stop, count=c.count, digest_sum=c.digest_sum) for c in claims]
    return made.get(limit=0, prev_cursor=claims[-1].stop, claims=messages, **fields)


@pytest.mark.parametrize("deposed", [True, False])
def test_claims_that_reach_back_behind_the_target_are_void_too(deposed: bool) -> None:
    """They begin where the group was durably; all of it was finished, but before the replay."""
    made = StoreUnderTest()
    made.added(batch(1, 5, digest=50), batch(1, 5, digest=500))
    made.get()
    whole = Claim(0, 10, 10, 550)
    assert claimed(made, whole).answer.prev_cursor == 10
    ask(made, queue_id=1, to_cursor=3)
    if deposed:
        fail_over(made)
    assert claimed(made, whole).answer.prev_cursor == 3
    assert claimed(made, whole, generation=0).answer.reset
    answer = made.get(next_cursor=3).answer
    assert claimed(made, Claim(3, 10, 7, 0), generation=answer.generation).answer.prev_cursor == 10


def test_an_acknowledgement_of_the_new_generation_counts() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=5)
    generation = made.get(group_id=1).answer.generation
    assert generation
    fail_over(made)
    answer = claimed(made, Claim(5, 10, 5, 500), generation=generation).answer
    assert (answer.prev_cursor, answer.reset) == (10, False)


def test_a_move_that_was_under_way_is_void() -> None:
    """Acknowledged before the replay, chosen after it; likewise one that waits for its entry."""
    made = store()
    made.added(batch(1, 5))
    made.get(group_id=1, next_cursor=10)
    made.group.auto = False
    made.get(group_id=1, limit=0, prev_cursor=15)
    call = ask(made, queue_id=1, to_cursor=3)
    made.clock.advance(1)
    assert len(made.group.proposed) == 2
    made.group.choose(2)
    assert call.answer.replay.queues[0].acked == 15
    assert acked(made) == 3


def test_a_claim_that_is_still_being_checked_is_void() -> None:
    made = StoreUnderTest()
    made.added(batch(1, 5, digest=50, mask=1), batch(1, 5, digest=500, mask=2))
    made.get()
    made.group.uncached = {0}
    made.service._groups[0].reading.parsed._entries.clear()
    call = claimed(made, Claim(0, 10, 5, 50))
    assert call.pending
    made.get(limit=0, prev_cursor=10)
    ask(made, to_earliest=True)
    made.group.finish_read()
    assert (call.answer.prev_cursor, call.answer.reset) == (0, True)
    assert acked(made) == 0


def test_a_reader_after_it_is_no_suspect() -> None:
    """What was handed out before says nothing of who crashed on it."""
    made = store()
    made.added(batch(1, 5))
    for reader in (1, 2):
        made.get(group_id=1, reader_id=reader)
    made.clock.advance(1)
    ask(made, queue_id=1, to_cursor=3)
    assert made.get(group_id=1, reader_id=3).answer.begins == 1


def test_locks_hold_on_both_sides_of_it() -> None:
    """The holder goes on under its lock; who has lost it is refused, whatever it acknowledges."""
    made = store()
    call = made.get(group_id=1, next_cursor=10, fencing_token=5)
    made.clock.advance(0)
    old = call.answer
    ask(made, queue_id=1, to_cursor=3)
    fail_over(made)
    stale = made.get(group_id=1, limit=0, prev_cursor=10, fencing_token=5, generation=old.generation).answer
    assert (stale.reset, stale.prev_cursor) == (True, 3)
    call = made.get(group_id=1, fencing_token=6)
    made.clock.advance(0)
    new = call.answer
    assert new.batches[0].first_cursor == 0
    late = made.get(group_id=1, limit=0, prev_cursor=10, fencing_token=5, generation=new.generation)
    assert late.error.status is Status.FENCED
    done = made.get(group_id=1, limit=0, prev_cursor=10, fencing_token=6, generation=new.generation).answer
    assert (done.reset, done.prev_cursor) == (False, 10)


# ---- retention ----------------------------------------------------------------------------------------


def test_what_is_to_come_again_is_kept() -> None:
    made = store()
    ask(made, queue_id=1, to_cursor=5)
    trimmed(made.group.state_machine, 1, 10)
    assert made.group.state_machine.first_cursor(1) == 5


def looks(made: StoreUnderTest) -> Callable[[], None]:
    return made.service._groups[0].trimming.look


def test_a_master_that_has_looked_already_keeps_it_too() -> None:
    made = store()
    made.group.window = 0
    looks(made)()
    made.group.window = 64
    ask(made, queue_id=1, to_cursor=5)
    made.clock.advance(10 * 86_400)
    looks(made)()
    assert made.group.state_machine.first_cursor(1) == 5


def test_a_target_that_is_trimmed_is_refused_with_the_earliest_possible() -> None:
    made = store()
    trim(made, 5)
    error = ask(made, queue_id=1, to_cursor=3).error
    assert error.status is Status.OUT_OF_RANGE
    assert "the earliest possible is cursor 5, time 2023-11-14T22:13:21Z" in error.message
    assert ask(made, to_time_ms=NOW_MS).error.status is Status.OUT_OF_RANGE
    assert acked(made) == 10
    assert ask(made, to_time_ms=NOW_MS + 1).answer.replay.queues[0].target == 5


def trim(made: StoreUnderTest, first: int) -> None:
    whole = StoreCommand.FromString(command(at_ms=NOW_MS))
    whole.version = REPLAY_VERSION
    whole.trims.add(queue_id=1, first_cursor=first)
    made.group.append(whole.SerializeToString())


def test_of_an_empty_queue_it_is_known_what_is_gone() -> None:
    made = store()
    trim(made, 10)
    error = ask(made, to_time_ms=NOW_MS + 1000).error
    assert "cursor 10, time 2023-11-14T22:13:22Z" in error.message
    assert list(ask(made, to_time_ms=NOW_MS + 1001).answer.replay.queues) == []


def test_trimmed_while_it_was_under_way() -> None:
    made = store()
    made.group.auto = False
    call = ask(made, queue_id=1, to_cursor=3)
    earliest = ask(made, "r2", to_earliest=True)
    trim_first = made.group.proposed
    made.group.proposed = []
    trim(made, 5)
    made.group.proposed = trim_first
    made.group.choose(2)
    assert call.error.status is Status.OUT_OF_RANGE
    assert earliest.answer.replay.queues[0].target == 5
    assert acked(made) == 5


def test_trimmed_before_its_time_was_noted() -> None:
    """By a program that did not know replays: what time is gone is not known."""
    made = store()
    trimmed(made.group.state_machine, 1, 10)
    error = ask(made, to_time_ms=NOW_MS + 5000).error
    assert error.message.endswith("the earliest possible is cursor 10")


# ---- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "say where to"),
        ({"to_cursor": 3}, "name it"),
        ({"to_earliest": True, "consumer_group_id": 3}, "does not read pub 1; its groups are 1, 2"),
        ({"to_earliest": True, "pub_id": 9}, "pub 9"),
        ({"queue_id": 20, "to_cursor": 3}, "queue 20 belongs to pub 2"),
        ({"to_earliest": True, "paxos_group": 7}, "paxos_group: 7"),
        ({"to_earliest": True, "id": "x" * 129}, "an id of 1 to 128 bytes"),
        ({"to_earliest": True, "id": ""}, "an id of 1 to 128 bytes"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], complaint: str) -> None:
    made = store()
    error: RpcError = ask(made, fields.pop("id", "r1"), **fields).error
    assert error.status is Status.INVALID_ARGUMENT
    assert complaint in error.message
    assert acked(made) == 10
