"""Holders that are not heard any more are noted in the log: what a new master makes of it, what renewals cost then."""

from __future__ import annotations

from phxqueue.config import LockLimits
from phxqueue.lock.records import Silence
from phxqueue.lock.table import FIRST_VERSION, SILENT_VERSION
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.errors import OutcomeUnknown
from tests.lock.rig import LockUnderTest


def kinds(lock: LockUnderTest) -> list[int]:
    return [operation.kind for command in lock.group.commands() for operation in command.operations]


def fail_over(lock: LockUnderTest, seconds: float = 0.5) -> None:
    """Another node is master for a while that nobody hears of; then this one is, which has seen all entries."""
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.clock.advance(seconds)
    lock.group.become_master()
    lock.clock.advance(0)


def test_half_a_lease_without_a_renewal_is_noted_once() -> None:
    lock = LockUnderTest()
    version = lock.version(lease_time_ms=5000)
    lock.clock.advance(2.25)
    assert lock.renew(version, lease_time_ms=5000).answer
    lock.clock.advance(2.25)
    assert kinds(lock) == [LockOperation.ACQUIRE]
    lock.clock.advance(0.25)
    lock.clock.advance(0)
    lock.clock.advance(2.0)
    [command] = lock.group.commands()[1:]
    [operation] = command.operations
    assert (command.version, operation.kind, operation.passed_ms) == (SILENT_VERSION, LockOperation.SILENT, 2500)
    assert lock.group.commands()[0].version == FIRST_VERSION
    assert lock.table.silent.keys() == {"a"}


def test_a_new_master_lets_the_lease_of_a_silent_lock_run_on() -> None:
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    lock.clock.advance(2.4)
    fail_over(lock, 0.05)
    assert lock.holder() == "me"
    lock.clock.advance(0.0499)
    assert lock.holder() == "me", "it has its full length"
    lock.clock.advance(0.0002)
    lock.clock.advance(0)
    assert lock.holder() is None


def test_a_lease_that_ran_out_while_there_was_no_master_ends_at_once() -> None:
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    fail_over(lock, 10.0)
    lock.clock.advance(0)
    assert lock.holder() is None


def test_who_was_heard_within_half_a_lease_has_all_of_it_again() -> None:
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.4)
    fail_over(lock)
    lock.clock.advance(4.9)
    assert lock.holder() == "me"
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    assert lock.holder() is None


def test_a_silent_lock_is_renewed_through_the_log_and_is_silent_no_more() -> None:
    lock = LockUnderTest()
    version = lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    assert lock.renew(version, lease_time_ms=5000).answer.lock_info.remaining_ms == 5000
    assert kinds(lock) == [LockOperation.ACQUIRE, LockOperation.SILENT, LockOperation.RENEW]
    assert not lock.table.silent
    fail_over(lock)
    lock.clock.advance(4.9)
    assert lock.holder() == "me"


def test_a_repeated_acquisition_renews_a_silent_lock_through_the_log() -> None:
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    assert lock.acquire(lease_time_ms=5000).answer.acquired
    assert not lock.table.silent
    assert kinds(lock)[-1] == LockOperation.ACQUIRE


def test_a_renewal_while_the_note_is_under_way_comes_behind_it() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    acquired = lock.acquire(lease_time_ms=5000)
    lock.group.choose()
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    renewed = lock.renew(acquired.answer.lock_info.version, lease_time_ms=5000)
    assert renewed.pending
    lock.group.choose(2)
    assert renewed.answer
    assert not lock.table.silent


def test_what_was_noted_counts_for_the_next_term_only() -> None:
    """The term after that began with a lease in full, and renewals that no entry tells of."""
    lock = LockUnderTest()
    version = lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    begins = LockCommand(version=FIRST_VERSION, begins_term=True)
    lock.group.append(begins.SerializeToString())
    assert lock.table.inherited.keys() == {"a"}
    lock.clock.advance(2.0)
    lock.group.become_master()
    assert not lock.table.inherited
    lock.clock.advance(4.9)
    assert lock.holder() == "me"
    assert lock.renew(version, lease_time_ms=5000).answer


def test_who_did_not_see_the_note_lets_the_whole_lease_run_again() -> None:
    """A node that has restarted since, or got a checkpoint."""
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    lock.table.silent["a"] = Silence(2500)
    fail_over(lock)
    lock.clock.advance(4.9)
    assert lock.holder() == "me"


def test_a_silent_lock_is_noted_again_under_the_next_master() -> None:
    lock = LockUnderTest()
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.5)
    fail_over(lock)
    lock.clock.advance(0)
    assert lock.table.silent["a"].passed_ms >= 3000
    fail_over(lock)
    lock.clock.advance(1.4)
    assert lock.holder() == "me"
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    assert lock.holder() is None


def test_nothing_is_noted_that_a_member_does_not_understand() -> None:
    lock = LockUnderTest()
    lock.group.lowest_version = FIRST_VERSION
    version = lock.version(lease_time_ms=20_000)
    lock.clock.advance(12.0)
    assert kinds(lock) == [LockOperation.ACQUIRE]
    lock.group.lowest_version = SILENT_VERSION
    lock.clock.advance(1.0)
    lock.clock.advance(0)
    assert kinds(lock) == [LockOperation.ACQUIRE, LockOperation.SILENT]
    assert lock.renew(version, lease_time_ms=20_000).answer


def test_short_leases_and_those_without_an_end_are_not_noted() -> None:
    lock = LockUnderTest(LockLimits(silence_lease_min_ms=2000))
    lock.version(lease_time_ms=1999)
    lock.version(key="b", infinite=True)
    lock.set(lease_time_ms=60_000)
    lock.clock.advance(1.5)
    lock.clock.advance(40)
    assert LockOperation.SILENT not in kinds(lock)


def test_a_note_that_could_not_be_proposed_is_tried_again() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    lock.acquire(lease_time_ms=5000)
    lock.group.choose()
    lock.clock.advance(2.5)
    lock.clock.advance(0)
    lock.group.give_up(OutcomeUnknown("lost"))
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    lock.group.choose()
    assert lock.table.silent["a"].passed_ms >= 2600


def test_a_note_for_a_lease_that_has_begun_anew_is_void() -> None:
    lock = LockUnderTest()
    version = lock.version(lease_time_ms=5000)
    lock.renew(version, lease_time_ms=6000)  # another length: by an entry, which changes the stamp
    late = LockOperation(kind=LockOperation.SILENT, key="a", expected_version=version, passed_ms=4000)
    command = LockCommand(version=SILENT_VERSION, term=lock.table.term, operations=[late])
    [outcome] = lock.table.apply(len(lock.group.log), 0, command.SerializeToString()) or []
    assert outcome.status is Status.VERSION_MISMATCH
    assert not lock.table.silent
