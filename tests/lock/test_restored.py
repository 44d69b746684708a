"""A lock table that was made from a backup: its tokens, its quarantine, and keys that belong elsewhere by now."""

from __future__ import annotations

import pytest

from phxqueue.lock.shares import Share, Shares
from phxqueue.lock.table import VERSION_SHIFT, LockTable, restored_table
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockOperation
from phxqueue.replica.errors import OutcomeUnknown
from tests.lock.rig import LockUnderTest, topic
from tests.stand_ins import VALUE

FENCE = 1 << 61


def restored(lock: LockUnderTest, quarantine_ms: int = 30_000) -> None:
    """What is held goes through a backup; then this node is master of the table's new life."""
    lock.group.lose(OutcomeUnknown("gone"), master=None)
    lock.group.append(restored_table(FENCE, quarantine_ms))
    lock.group.become_master()
    lock.clock.advance(0)


def test_every_token_of_the_new_life_is_above_the_fence_and_they_rise() -> None:
    lock = LockUnderTest()
    old = lock.version("me", "a")
    restored(lock, 0)
    given = [lock.version("me", "b"), lock.version("me", "c"), lock.version("you", "a", force=True)]
    assert old < FENCE < given[0] < given[1] < given[2]
    assert lock.set(key="s").answer.version > given[2]
    assert lock.renew(old).error.status is Status.VERSION_MISMATCH


def test_a_fence_below_what_was_given_already_lowers_nothing() -> None:
    lock = LockUnderTest()
    restored(lock, 0)
    before = lock.version("me", "a")
    lock.group.append(restored_table(1 << VERSION_SHIFT, 0))
    lock.group.lose(OutcomeUnknown("gone"), master=None)
    lock.group.become_master()
    lock.clock.advance(0)
    assert lock.version("me", "b") > before


def test_nobody_new_gets_a_lock_during_the_quarantine() -> None:
    lock = LockUnderTest()
    token = lock.version("me", "a", lease_time_ms=10_000)
    restored(lock)
    refused = lock.acquire("you", "b").error
    assert (refused.status, refused.maybe_executed) == (Status.RESOURCE_EXHAUSTED, False)
    assert "restored from a backup" in refused.message
    assert "for another 30 s" in refused.message
    waiting = lock.acquire("you", "a", wait_ms=60_000)
    for _ in range(8):
        lock.clock.advance(3.0)
        assert lock.renew(token, key="a").answer, "who was known to hold one goes on"
    assert waiting.pending
    lock.release(token, key="a")
    assert waiting.error.status is Status.RESOURCE_EXHAUSTED
    lock.clock.advance(5.9)
    assert "for another 1 s" in lock.acquire("you", "b").error.message
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    assert lock.version("you", "b") > FENCE
    assert lock.table.quarantine_ms == 0


def test_a_lock_can_be_taken_by_force_meanwhile_for_only_tokens_are_safe_from_that() -> None:
    lock = LockUnderTest()
    restored(lock)
    assert lock.version("you", "b", force=True) > FENCE


def test_strings_are_there_at_once() -> None:
    lock = LockUnderTest()
    lock.set(b"kept")
    restored(lock)
    assert lock.get().answer.string_info.value == b"kept"
    assert lock.set(b"new").answer.version > FENCE


def test_the_quarantine_begins_anew_with_a_new_master() -> None:
    lock = LockUnderTest()
    restored(lock)
    lock.clock.advance(20)
    lock.group.lose(OutcomeUnknown("gone"), master=1)
    lock.group.become_master()
    lock.clock.advance(29)
    assert lock.acquire("you", "b").error.status is Status.RESOURCE_EXHAUSTED
    lock.clock.advance(1.1)
    lock.clock.advance(0)
    assert lock.version("you", "b")


@pytest.mark.parametrize("lease", [True, False])
def test_an_end_that_could_not_be_proposed_is_proposed_again(lease: bool) -> None:
    """Also by a master whose lease has run out for a moment."""
    lock = LockUnderTest()
    restored(lock)
    lock.group.auto = False
    lock.clock.advance(30)
    lock.clock.advance(0)
    [(payload, _)] = lock.group.proposed
    lock.group.lease = lease
    lock.group.give_up(OutcomeUnknown("lost"))
    lock.group.lease = True
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    assert [again for again, _ in lock.group.proposed] == [payload]
    lock.group.choose()
    assert lock.table.quarantine_ms == 0


def test_the_quarantine_is_in_checkpoints_and_in_the_hash() -> None:
    table = LockTable()
    table.apply(0, VALUE, restored_table(FENCE, 30_000))
    made, again = table.checkpoint(), LockTable()
    again.restore(made.state, made.segments)
    assert (again.quarantine_ms, again.lift, again.highest_version) == (30_000, table.lift, table.highest_version)
    assert again.state_hash() == table.state_hash()
    later = LockTable()
    later.apply(0, VALUE, restored_table(FENCE, 0))
    assert later.state_hash() != table.state_hash()


def test_a_lock_group_alone_takes_all_keys_again() -> None:
    lock = LockUnderTest()
    restored(lock, 0)
    assert lock.table.shares == Shares(Share(1, ((1, 100),)))


@pytest.mark.parametrize("weights", [((1, 100), (2, 100)), ((2, 100),)])
def test_keys_that_have_moved_elsewhere_since_the_backup_are_dropped(weights: tuple[tuple[int, int], ...]) -> None:
    """Else what was released there would be here again, should its key ever come back."""
    lock = LockUnderTest(of=topic(100, 100))
    lock.group.lose(OutcomeUnknown("gone"), master=None)
    lock.group.become_master()
    moving = lock.service._groups[0].moving
    moving.adopt(Share(1, ((1, 100),)))
    lock.clock.advance(0)
    names = [f"lock {number}" for number in range(40)]
    for name in names:
        lock.version(key=name, lease_time_ms=60_000)
        lock.set(key=name)
    restored(lock, 0)
    assert lock.table.shares == Shares()
    assert lock.acquire(key=names[0]).error.status is Status.RESOURCE_EXHAUSTED
    moving.adopt(Share(5, weights))
    lock.clock.advance(0)
    assert lock.table.shares == Shares(Share(5, weights))
    assert all(moving.is_open((0, name)) for name in [*lock.table.locks, *lock.table.strings])
    assert len(lock.table.locks) == len(lock.table.strings) < 40
    assert (len(lock.table.locks) > 0) == (len(weights) == 2)
    assert lock.group.commands()[-1].operations[-1].kind == LockOperation.SHARE
