"""The lock service as clients meet it: on a fake Paxos group and virtual time."""

from __future__ import annotations

import pytest

from phxqueue.config import LockLimits
from phxqueue.lock.operations import grant_operation
from phxqueue.net.service import RpcService
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LOCKS, STRINGS, LockCommand, LockOperation
from phxqueue.replica.errors import OutcomeUnknown
from tests.conftest import LoggedErrors
from tests.lock.rig import LockUnderTest


@pytest.fixture
def lock() -> LockUnderTest:
    return LockUnderTest()


# ---- acquiring ------------------------------------------------------------------------------------


def test_registers_its_calls(lock: LockUnderTest) -> None:
    service = RpcService("lock 1 node 0")
    lock.service.register(service)
    assert set(service.table) == set(range(100, 113))


def test_a_free_lock_is_granted_with_its_lease_and_a_token(lock: LockUnderTest) -> None:
    answer = lock.acquire(lease_time_ms=5000).answer
    assert answer.acquired
    assert (answer.lock_info.client_id, answer.lock_info.remaining_ms) == ("me", 5000)
    lock.clock.advance(2)
    told = lock.info().answer.lock_info
    assert (told.version, told.lease_time_ms, told.remaining_ms) == (answer.lock_info.version, 5000, 3000)


def test_a_held_lock_is_not_granted_and_its_holder_is_named(lock: LockUnderTest) -> None:
    version = lock.version()
    answer = lock.acquire("you").answer
    assert not answer.acquired
    assert (answer.lock_info.client_id, answer.lock_info.version) == ("me", version)
    assert len(lock.group.commands()) == 1  # who asks in vain costs no entry


def test_a_repeated_acquisition_has_the_first_outcome(lock: LockUnderTest) -> None:
    version = lock.version()
    lock.clock.advance(6)
    assert lock.version() == version
    lock.clock.advance(6)
    assert lock.holder() == "me"  # its lease began again
    lock.clock.advance(4)
    assert lock.holder() is None


def test_tokens_rise_whatever_happens_in_between(lock: LockUnderTest) -> None:
    tokens = [lock.version("one", lease_time_ms=1000)]
    lock.clock.advance(1)
    tokens.append(lock.version("two"))
    lock.release(tokens[-1], "two")
    tokens.append(lock.version("two"))
    tokens.append(lock.version("three", force=True))
    tokens.append(lock.version("four", force=True))
    assert tokens == sorted(set(tokens))


def test_force_takes_it_from_its_holder(lock: LockUnderTest) -> None:
    version = lock.version("me")
    lock.version("you", force=True)
    assert lock.renew(version).error.status is Status.VERSION_MISMATCH
    assert "held by 'you'" in lock.renew(version).error.message


def test_taking_by_force_may_be_repeated_like_any_acquisition(lock: LockUnderTest) -> None:
    lock.version("me")
    version = lock.version("you", force=True)
    assert lock.version("you", force=True) == version


def test_compare_and_swap(lock: LockUnderTest) -> None:
    version = lock.version("me", expected_version=0)
    assert lock.acquire("you", expected_version=0).error.status is Status.VERSION_MISMATCH
    assert not lock.acquire("you", expected_version=version).answer.acquired
    assert lock.acquire("you", expected_version=version - 1, force=True).error.status is Status.VERSION_MISMATCH
    assert lock.version("you", expected_version=version, force=True) > version


def test_an_infinite_lease_ends_by_release_only(lock: LockUnderTest) -> None:
    version = lock.version(infinite=True)
    lock.clock.advance(10_000_000)
    told = lock.info().answer.lock_info
    assert (told.version, told.lease_time_ms, told.remaining_ms) == (version, 0, -1)
    lock.release(version)
    assert lock.info().error.status is Status.NOT_FOUND


def test_locks_and_strings_do_not_share_names(lock: LockUnderTest) -> None:
    lock.version(key="a")
    assert lock.get("a").error.status is Status.NOT_FOUND
    lock.set(b"x", "a")
    assert lock.get("a").answer.string_info.value == b"x"
    lock.delete("a")
    assert lock.holder("a") == "me"


# ---- leases -----------------------------------------------------------------------------------------


def test_a_lease_that_ran_out_frees_the_lock_through_the_log(lock: LockUnderTest) -> None:
    version = lock.version(lease_time_ms=1000)
    lock.clock.advance(0.999)
    assert lock.holder() == "me"
    lock.clock.advance(0.001)
    assert lock.holder() is None
    [*_, last] = lock.group.commands()
    assert [operation.kind for operation in last.operations] == [LockOperation.EXPIRE_LOCK]
    assert lock.renew(version).error.status is Status.NOT_FOUND


def test_renewals_cost_no_entry(lock: LockUnderTest) -> None:
    version = lock.version(lease_time_ms=1000)
    for _ in range(20):
        lock.clock.advance(0.375)
        assert lock.renew(version, lease_time_ms=1000).answer.lock_info.remaining_ms == 1000
    assert len(lock.group.commands()) == 1
    lock.clock.advance(1)
    assert lock.holder() is None


def test_a_renewal_with_another_length_goes_through_the_log(lock: LockUnderTest) -> None:
    version = lock.version(lease_time_ms=1000)
    assert lock.renew(version, lease_time_ms=60_000).answer.lock_info.lease_time_ms == 60_000
    lock.clock.advance(59)
    assert lock.holder() == "me"
    lock.renew(version, lease_time_ms=500)
    lock.clock.advance(0.5)
    assert lock.holder() is None


def test_a_renewal_behind_an_expiry_that_is_under_way_is_refused() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    acquired = lock.acquire(lease_time_ms=1000)
    lock.group.choose()
    lock.clock.advance(1)
    assert len(lock.group.proposed) == 1  # the expiry
    renewed = lock.renew(acquired.answer.lock_info.version)
    assert renewed.pending
    lock.group.choose(2)
    assert renewed.error.status is Status.NOT_FOUND


def test_an_expiry_that_could_not_be_proposed_is_tried_again() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    lock.acquire(lease_time_ms=1000)
    lock.group.choose()
    lock.clock.advance(1)
    lock.group.give_up(OutcomeUnknown("lost"))
    lock.clock.advance(0.2)
    lock.clock.advance(0)
    lock.group.choose()
    assert lock.holder() is None


def test_releasing_needs_the_token_and_the_name(lock: LockUnderTest) -> None:
    version = lock.version()
    assert lock.release(version - 1).error.status is Status.VERSION_MISMATCH
    assert lock.release(version, "you").error.status is Status.VERSION_MISMATCH
    assert lock.release(version).answer is not None
    assert lock.release(version).error.status is Status.NOT_FOUND
    lock.version("you")
    lock.release(0, "", force=True)
    assert lock.holder() is None


# ---- waiting ----------------------------------------------------------------------------------------


def test_waiters_get_the_lock_in_the_order_in_which_they_came(lock: LockUnderTest) -> None:
    version = lock.version("first")
    waiting = []
    for number in range(50):
        lock.clock.advance(0.001)
        waiting.append(lock.acquire(f"waiter {number}", wait_ms=60_000))
    assert lock.info().answer.lock_info.waiters == 50
    holder = "first"
    for number, call in enumerate(waiting):
        assert call.pending
        entries = len(lock.group.log)
        lock.release(version, holder)
        assert len(lock.group.log) == entries + 1  # the grant travels with the release
        version, holder = call.answer.lock_info.version, f"waiter {number}"
        assert (call.answer.acquired, lock.holder()) == (True, holder)


def test_who_has_waited_elsewhere_keeps_the_place(lock: LockUnderTest) -> None:
    version = lock.version("first")
    late = lock.acquire("late", wait_ms=60_000, waited_ms=100)
    early = lock.acquire("early", wait_ms=60_000, waited_ms=5000)
    lock.release(version, "first")
    assert (early.answer.acquired, late.pending) == (True, True)


def test_a_waiter_gets_a_lock_whose_lease_runs_out(lock: LockUnderTest) -> None:
    lock.version("first", lease_time_ms=2000)
    waiting = lock.acquire("second", wait_ms=60_000, lease_time_ms=3000)
    lock.clock.advance(1.999)
    assert waiting.pending
    lock.clock.advance(0.001)
    assert waiting.answer.acquired
    assert waiting.answer.waited_ms == 2000
    assert waiting.answer.lock_info.remaining_ms == 3000


def test_who_has_waited_long_enough_is_told_who_holds_it(lock: LockUnderTest) -> None:
    lock.version("first", infinite=True)
    waiting = lock.acquire("second", wait_ms=1000)
    lock.clock.advance(1)
    assert (waiting.answer.acquired, waiting.answer.lock_info.client_id) == (False, "first")
    assert lock.info().answer.lock_info.waiters == 0


def test_a_grant_is_not_told_by_who_may_be_master_no_longer(lock: LockUnderTest) -> None:
    """Another master may have applied it long before, and have its lease run since then. Found by the chaos run."""
    held = lock.version("first", key="b")
    lock.group.auto = False
    at_once, waiting = lock.acquire("me", "a", lease_time_ms=1000), lock.acquire("me", "b", wait_ms=60_000)
    lock.release(held, "first", "b")
    lock.group.lease = False
    lock.clock.advance(1.5)
    while lock.group.proposed:
        lock.group.choose()
    for call in (at_once, waiting):
        assert call.error.status is Status.UNAVAILABLE
        assert call.error.maybe_executed
    lock.group.auto = lock.group.lease = True
    again = lock.acquire("me", "a", lease_time_ms=1000).answer
    assert (again.acquired, again.waited_ms, again.lock_info.remaining_ms) == (True, 0, 1000)


def test_who_has_waited_long_enough_is_told_nothing_that_may_be_out_of_date(lock: LockUnderTest) -> None:
    """The master's lease is over: another node may have given the lock to somebody else."""
    lock.version()
    waiting = lock.acquire("you", wait_ms=1000)
    lock.group.lease = False
    lock.clock.advance(1)
    assert not waiting.answer.acquired
    assert not waiting.answer.HasField("lock_info")


def test_who_gives_up_waiting_is_passed_over(lock: LockUnderTest) -> None:
    version = lock.version("first")
    gone = lock.acquire("gone", wait_ms=60_000)
    stays = lock.acquire("stays", wait_ms=60_000)
    gone.give_up()
    lock.release(version, "first")
    assert stays.answer.acquired


def test_a_lock_granted_to_somebody_gone_is_given_back_at_once() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    gone = lock.acquire("gone", infinite=True)
    waiting = lock.acquire("waiting", wait_ms=60_000)
    gone.give_up()
    while lock.group.proposed:
        lock.group.choose()
        lock.clock.advance(0)
    assert (waiting.answer.acquired, lock.holder()) == (True, "waiting")


def test_a_caller_who_comes_back_keeps_what_was_granted_to_him_meanwhile() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    lost = lock.acquire("me")
    lost.give_up()
    again = lock.acquire("me")
    while lock.group.proposed:
        lock.group.choose()
        lock.clock.advance(0)
    assert again.answer.acquired
    assert lock.holder() == "me"


def test_a_waiter_who_calls_again_has_one_place(lock: LockUnderTest) -> None:
    version = lock.version("first")
    earlier = lock.acquire("second", wait_ms=60_000)
    later = lock.acquire("second", wait_ms=60_000)
    assert earlier.answer.acquired is False
    assert lock.info().answer.lock_info.waiters == 1
    lock.release(version, "first")
    assert later.answer.acquired


def test_one_who_does_not_wait_does_not_overtake_those_who_do() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    first = lock.acquire("first")
    lock.group.choose()
    waiting = lock.acquire("waiting", wait_ms=60_000)
    lock.release(first.answer.lock_info.version, "first")
    barging = lock.acquire("barging")
    while lock.group.proposed:
        lock.group.choose()
        lock.clock.advance(0)
    assert (waiting.answer.acquired, barging.answer.acquired) == (True, False)


def test_waiters_are_bounded() -> None:
    lock = LockUnderTest(LockLimits(max_waiters=2))
    lock.version("first")
    lock.acquire("a", wait_ms=1000)
    lock.acquire("b", wait_ms=1000)
    refused = lock.acquire("c", wait_ms=1000).error
    assert refused.status is Status.RESOURCE_EXHAUSTED
    assert "limits.max_waiters 2" in refused.message


# ---- strings ----------------------------------------------------------------------------------------


def test_strings_are_compared_and_swapped(lock: LockUnderTest) -> None:
    first = lock.set(b"1", expected_version=0).answer.version
    assert lock.set(b"2", expected_version=0).error.status is Status.VERSION_MISMATCH
    second = lock.set(b"2", expected_version=first).answer.version
    assert second > first
    assert lock.delete(expected_version=first).error.status is Status.VERSION_MISMATCH
    assert lock.get().answer.string_info.value == b"2"
    lock.delete(expected_version=second)
    assert lock.get().error.status is Status.NOT_FOUND
    assert lock.delete().error.status is Status.NOT_FOUND


def test_a_repeated_write_has_the_first_outcome(lock: LockUnderTest) -> None:
    first = lock.set(b"1", expected_version=0, request_id=7).answer.version
    assert lock.set(b"1", expected_version=0, request_id=7).answer.version == first


def test_a_string_with_a_lease_goes_by_itself(lock: LockUnderTest) -> None:
    lock.set(b"1", lease_time_ms=1000)
    assert lock.get().answer.string_info.remaining_ms == 1000
    lock.clock.advance(1)
    assert lock.get().error.status is Status.NOT_FOUND


# ---- watching and listing ---------------------------------------------------------------------------


def test_a_watch_is_answered_when_the_version_changes(lock: LockUnderTest) -> None:
    watching = lock.watch(wait_ms=60_000)
    elsewhere = lock.watch("b", wait_ms=60_000)
    assert watching.pending
    version = lock.version()
    assert (watching.answer.version, watching.answer.lock_info.client_id) == (version, "me")
    assert elsewhere.pending
    assert lock.watch(known_version=0, wait_ms=60_000).answer.version == version
    gone = lock.watch(known_version=version, wait_ms=60_000)
    lock.release(version)
    assert gone.answer.version == 0


def test_a_watch_ends_after_its_time_with_what_is_known(lock: LockUnderTest) -> None:
    version = lock.set(b"1").answer.version
    watching = lock.watch("s", key_space=STRINGS, known_version=version, wait_ms=1000)
    lock.clock.advance(1)
    assert (watching.answer.version, watching.answer.string_info.value) == (version, b"1")


def test_a_watch_that_nobody_waits_for_is_forgotten(lock: LockUnderTest) -> None:
    lock.watch(wait_ms=60_000).give_up()
    [status] = lock.service.table_statuses()
    assert status.watches == 0
    assert not lock.clock.getDelayedCalls()


def test_watches_beyond_the_bound_are_answered_at_once() -> None:
    lock = LockUnderTest(LockLimits(max_watches=1))
    assert lock.watch(wait_ms=1000).pending
    assert lock.watch(wait_ms=1000).answer.version == 0


def test_lists_come_in_pages(lock: LockUnderTest) -> None:
    for number in range(25):
        lock.version(key=f"job/{number:02}")
    lock.version(key="other")
    lock.set(b"secret", "job/string")
    seen: list[str] = []
    while True:
        page = lock.list(key_space=LOCKS, prefix="job/", after=seen[-1] if seen else "", limit=10).answer
        seen += [info.lock_key for info in page.locks]
        if not page.more:
            break
    assert seen == [f"job/{number:02}" for number in range(25)]
    [string] = lock.list(key_space=STRINGS).answer.strings
    assert (string.key, string.value) == ("job/string", b"")


# ---- mastership -------------------------------------------------------------------------------------


def test_another_node_says_who_is_master(lock: LockUnderTest) -> None:
    lock.group.lose(OutcomeUnknown("lost"), master=2)
    for call in (lock.acquire(), lock.info(), lock.set(), lock.watch(), lock.list()):
        assert (call.error.status, call.error.redirect) == (Status.NOT_MASTER, "127.0.0.1:7012")
    lock.group.master = None
    assert "1 of 3 nodes" in lock.acquire().error.message


def test_a_mastership_older_than_the_service_begins_a_term() -> None:
    lock = LockUnderTest()
    assert LockCommand.FromString(lock.group.log[0]).begins_term
    assert lock.table.term != 0


def test_nothing_is_told_before_the_term_has_begun() -> None:
    lock = LockUnderTest(auto=False)
    assert lock.info().error.status is Status.NO_MASTER
    acquiring = lock.acquire()
    lock.group.choose()
    lock.clock.advance(0)
    lock.group.choose()
    assert acquiring.answer.acquired


def test_the_beginning_of_a_term_waits_for_room() -> None:
    lock = LockUnderTest(auto=False, master=1)
    lock.group.window = 0
    lock.group.become_master()
    lock.clock.advance(0.05)
    assert not lock.group.proposed
    lock.group.window = 1
    lock.clock.advance(0.05)
    lock.group.choose()
    assert lock.table.term != 0


def test_leases_run_their_full_length_again_under_a_new_master(lock: LockUnderTest) -> None:
    lock.version(lease_time_ms=5000)
    lock.clock.advance(2.4)
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.clock.advance(60)
    assert lock.holder() == "me"  # nobody who is not master ends a lease
    lock.group.become_master()
    lock.clock.advance(4.999)
    assert lock.holder() == "me"
    lock.clock.advance(0.001)
    assert lock.holder() is None


def test_waiters_are_sent_to_the_next_master(lock: LockUnderTest) -> None:
    lock.version()
    waiting, watching = lock.acquire("you", wait_ms=60_000), lock.watch("b", wait_ms=60_000)
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    assert waiting.error.redirect == watching.error.redirect == "127.0.0.1:7011"
    assert not lock.clock.getDelayedCalls()


def test_what_was_under_way_when_mastership_was_lost_has_an_unknown_outcome() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    acquiring, waiting = lock.acquire(), lock.set()
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    assert acquiring.error.status is Status.UNAVAILABLE
    assert acquiring.error.maybe_executed
    assert waiting.error.status in (Status.UNAVAILABLE, Status.NOT_MASTER)


def test_a_former_masters_entry_that_comes_to_light_late_is_void(lock: LockUnderTest) -> None:
    version = lock.version()
    term = lock.table.term
    lock.group.lose(OutcomeUnknown("lost"), master=1)
    lock.group.become_master()
    expire = LockOperation(kind=LockOperation.EXPIRE_LOCK, key="a", expected_version=version)
    lock.group.append(LockCommand(version=1, term=term, operations=[expire]).SerializeToString())
    assert lock.holder() == "me"


def test_a_node_without_a_valid_lease_reads_nothing_and_still_writes(lock: LockUnderTest) -> None:
    version = lock.version()
    lock.group.lease = False
    assert lock.info().error.status is Status.NO_MASTER
    assert lock.renew(version).answer.lock_info.version == version
    assert len(lock.group.commands()) == 2  # the renewal went through the log


# ---- bounds and stopping ----------------------------------------------------------------------------


def test_a_full_table_takes_nothing_new() -> None:
    lock = LockUnderTest(LockLimits(table_keys=2))
    version = lock.version(key="a")
    lock.set(b"1")
    refused = lock.acquire(key="b").error
    assert (refused.status, refused.retry_after_ms) == (Status.RESOURCE_EXHAUSTED, 50)
    assert "limits.table_keys 2" in refused.message
    assert lock.set(b"2").answer.version  # what is there may change
    lock.release(version, key="a")
    assert lock.acquire(key="b").answer.acquired


def test_a_full_disk_takes_nothing_new_and_lets_go(lock: LockUnderTest) -> None:
    version = lock.version()
    lock.disk_ok = False
    assert "min_free_bytes" in lock.acquire(key="b").error.message
    assert lock.renew(version).answer
    assert lock.release(version).answer is not None


def test_changes_that_wait_are_bounded() -> None:
    lock = LockUnderTest(LockLimits(queue_operations=3, open_entries=1, entry_operations=1), auto=False)
    lock.group.choose()
    calls = [lock.set(key=f"s{number}") for number in range(6)]
    refused = [call.error for call in calls if not call.pending]
    assert [error.status for error in refused] == [Status.RESOURCE_EXHAUSTED] * 2
    assert "limits.queue_operations 3" in refused[0].message


def test_what_arrives_in_one_turn_shares_an_entry() -> None:
    lock = LockUnderTest(LockLimits(open_entries=1), auto=False)
    lock.group.choose()
    calls = [lock.set(key=f"s{number}") for number in range(20)]
    lock.group.choose()
    lock.clock.advance(0)
    lock.group.choose()
    assert all(call.answer.version for call in calls)
    assert [len(command.operations) for command in lock.group.commands()] == [1, 19]


def test_an_outcome_that_cannot_be_told_keeps_nobody_else_from_his(logged_errors: LoggedErrors) -> None:
    lock = LockUnderTest()

    def broken(result: object) -> None:
        raise ZeroDivisionError("a defect")

    proposals = lock.service._groups[0].proposals
    proposals.offer((LOCKS, "a"), grant_operation("a", "you", 10_000), broken)
    assert lock.acquire(key="b").answer.acquired
    assert len(logged_errors.flush(ZeroDivisionError)) == 1
    assert not proposals.busy((LOCKS, "a"))


def test_status_counts(lock: LockUnderTest) -> None:
    lock.version()
    lock.set(b"12")
    lock.acquire("you", wait_ms=1000)
    lock.watch("b", wait_ms=1000)
    [status] = lock.service.table_statuses()
    assert (status.locks, status.strings, status.waiters, status.watches) == (1, 1, 1, 1)
    assert status.bytes == len("a" + "me" + "s" + "12")


def test_draining_sends_waiters_away_and_waits_for_what_was_taken() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    held = lock.acquire("me")
    lock.group.choose()
    assert held.answer.acquired
    waiting = lock.acquire("you", wait_ms=1000)
    writing = lock.set()
    drained = lock.service.drain()
    assert (waiting.error.status, drained.called) == (Status.NO_MASTER, False)
    assert "is stopping" in lock.acquire("third").error.message
    lock.group.choose()
    assert drained.called
    assert writing.answer.version
    lock.service.close()
    assert not lock.clock.getDelayedCalls()
    assert not lock.group.on_applied


def test_a_stopping_node_that_has_handed_over_says_to_whom() -> None:
    lock = LockUnderTest()
    lock.group.lose(OutcomeUnknown("handed over"), master=2)
    lock.service.drain()
    error = lock.acquire().error
    assert (error.status, error.redirect) == (Status.NOT_MASTER, "127.0.0.1:7012")


@pytest.mark.parametrize("how", ["renewed", "asked for again"])
def test_an_expiry_does_not_overtake_what_lengthens_the_lease_before_it(how: str) -> None:
    """The renewal is in the log already when the lease runs out by the clock: it counts, and the expiry is void."""
    lock = LockUnderTest(LockLimits(silence_lease_min_ms=60_000), auto=False)
    lock.group.choose()
    acquired = lock.acquire(lease_time_ms=1000)
    lock.group.choose()
    version = acquired.answer.lock_info.version
    lock.clock.advance(0.75)
    lock.group.lease = False  # so that it goes through the log
    call = lock.renew(version, lease_time_ms=1000) if how == "renewed" else lock.acquire(lease_time_ms=1000)
    lock.clock.advance(0.5)
    lock.group.lease = True
    assert len(lock.group.proposed) == 2  # the renewal, and behind it the expiry
    lock.group.choose(2)
    assert call.answer.lock_info.version == version
    assert lock.holder() == "me"
    lock.clock.advance(0.999)
    assert not lock.group.proposed
    lock.clock.advance(0.002)
    lock.group.choose()
    assert lock.holder() is None


def test_a_late_call_of_a_holder_that_nobody_waits_for_does_not_give_the_lock_back() -> None:
    lock = LockUnderTest(auto=False)
    lock.group.choose()
    first, late = lock.acquire("me"), lock.acquire("me")
    late.give_up()
    while lock.group.proposed:
        lock.group.choose()
        lock.clock.advance(0)
    assert first.answer.acquired
    assert lock.holder() == "me"
