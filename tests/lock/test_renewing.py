"""Renewals of many locks in one call: at the lock node, and by the client."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from phxqueue.config import LockLimits
from phxqueue.lock.client import Held, LockLost
from phxqueue.lock.client.rounds import Rounds
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import LockOperation, RenewLockRequest, RenewLocksRequest
from phxqueue.replica.errors import OutcomeUnknown
from tests.lock.rig import LockUnderTest
from tests.lock.world import Fault, Process, World, watched
from tests.stand_ins import Call


def wish(key: str, version: int, client_id: str = "me", lease_time_ms: int = 1000) -> RenewLockRequest:
    return RenewLockRequest(lock_key=key, client_id=client_id, version=version, lease_time_ms=lease_time_ms)


def renew(lock: LockUnderTest, *wishes: RenewLockRequest, **fields: Any) -> Call:
    return lock.call(methods.RENEW_LOCKS, RenewLocksRequest, renewals=wishes, **fields)


def statuses(call: Call) -> list[Status]:
    return [Status(renewal.status) for renewal in call.answer.renewals]


# ---- at the lock node ---------------------------------------------------------------------------


def test_each_has_its_own_outcome_and_no_entry_is_needed() -> None:
    lock = LockUnderTest()
    tokens = {key: lock.version(key=key, lease_time_ms=1000) for key in ("a", "b", "c")}
    lock.release(tokens["c"], key="c")
    entries = len(lock.group.log)
    lock.clock.advance(0.45)
    call = renew(
        lock,
        wish("a", tokens["a"]),
        wish("c", tokens["c"]),
        wish("b", tokens["b"], "you"),
        wish("", 1),
        wish("__lock__x", 1),
        wish("b", tokens["b"], lease_time_ms=-1),
        wish("b", tokens["b"] - 1),
    )
    assert statuses(call) == [
        Status.OK,
        Status.NOT_FOUND,
        Status.VERSION_MISMATCH,
        Status.INVALID_ARGUMENT,
        Status.INVALID_ARGUMENT,
        Status.INVALID_ARGUMENT,
        Status.VERSION_MISMATCH,
    ]
    messages = [renewal.message for renewal in call.answer.renewals]
    assert messages[0] == ""
    assert messages[1] == "nobody holds lock 'c'"
    assert "held by 'me'" in messages[2]
    assert "limits.lease_min_ms" in messages[5]
    assert len(lock.group.log) == entries
    lock.clock.advance(0.55)
    assert (lock.holder("a"), lock.holder("b")) == ("me", None)


def test_more_than_the_limit_are_refused_by_its_name() -> None:
    lock = LockUnderTest(LockLimits(renew_keys=2))
    call = renew(lock, *(wish("a", 1) for _ in range(3)))
    assert call.error.status is Status.INVALID_ARGUMENT
    assert "limits.renew_keys 2" in call.error.message


def test_who_is_not_master_says_who_is() -> None:
    lock = LockUnderTest(master=2)
    assert renew(lock, wish("a", 1)).error.status is Status.NOT_MASTER


def test_a_key_of_another_paxos_group_is_refused() -> None:
    lock = LockUnderTest()
    lock.service._groups[0].renewing._paxos_groups = 1 << 32
    assert "belongs to Paxos group" in renew(lock, wish("a", 1)).answer.renewals[0].message


def test_those_that_the_log_decides_share_an_entry() -> None:
    lock = LockUnderTest()
    tokens = [lock.version(key=key, lease_time_ms=1000) for key in "ab"]
    call = renew(lock, *(wish(key, token, lease_time_ms=5000) for key, token in zip("ab", tokens, strict=True)))
    assert statuses(call) == [Status.OK, Status.OK]
    [*_, last] = lock.group.commands()
    assert [operation.kind for operation in last.operations] == [LockOperation.RENEW] * 2
    lock.clock.advance(4.9)
    assert (lock.holder("a"), lock.holder("b")) == ("me", "me")


def held_while_one_is_decided() -> tuple[LockUnderTest, Call]:
    """Lock a is being removed, b is not; both are renewed."""
    lock = LockUnderTest(LockLimits(silence_lease_min_ms=60_000), auto=False)
    lock.group.choose()
    first = lock.acquire(key="a", lease_time_ms=1000)
    lock.group.choose()
    lock.clock.advance(0.9)
    second = lock.acquire(key="b", lease_time_ms=1000)
    lock.group.choose()
    lock.clock.advance(0.1)
    assert len(lock.group.proposed) == 1  # the expiry of a
    tokens = (first.answer.lock_info.version, second.answer.lock_info.version)
    return lock, renew(lock, wish("a", tokens[0]), wish("b", tokens[1]))


def test_a_renewal_behind_an_expiry_is_answered_when_the_log_has_decided() -> None:
    lock, call = held_while_one_is_decided()
    assert call.pending
    lock.group.choose(2)
    assert statuses(call) == [Status.NOT_FOUND, Status.OK]


def test_the_others_do_not_wait_for_the_log_for_long() -> None:
    lock, call = held_while_one_is_decided()
    lock.clock.advance(0.06)
    assert statuses(call) == [Status.DEADLINE_EXCEEDED, Status.OK]
    lock.group.choose(2)
    assert lock.holder("a") is None


def test_what_the_log_decides_is_unknown_when_mastership_is_lost() -> None:
    lock, call = held_while_one_is_decided()
    lock.group.lose(OutcomeUnknown("deposed"), 1)
    assert statuses(call) == [Status.UNAVAILABLE, Status.OK]


def test_nobody_wants_the_answer_any_more() -> None:
    lock, call = held_while_one_is_decided()
    call.give_up()
    lock.group.choose(2)
    assert lock.holder("a") is None


# ---- by the client ------------------------------------------------------------------------------


def get(process: Process, count: int, lease: float = 3) -> list[Held]:
    """Locks, got within a tenth of a second."""
    results = []
    for number in range(count):
        results.append(watched(process.client.acquire(f"lock {number}", lease=lease)))
        process.world.run(0.08 / count)
    process.world.run(0.02)
    return [result[0] for result in results]


def renewals(world: World) -> list[tuple[str, int]]:
    """The calls that renew, with the number of locks."""
    found = [(name, request) for name, request in world.calls if name in ("RenewLock", "RenewLocks")]
    return [(name, len(request.renewals) if name == "RenewLocks" else 1) for name, request in found]


def test_all_that_is_due_within_a_tick_goes_together(world: World) -> None:
    anna = Process(world, "anna")
    held = get(anna, 20)
    world.run(0.95)
    assert sum(count for _, count in renewals(world)) == 20
    assert len(renewals(world)) <= 2
    world.run(60.0)
    assert all(lock.valid for lock in held)
    assert len(renewals(world)) <= 2 * 65


def test_no_more_than_the_limit_in_one_call(world: World) -> None:
    anna = Process(world, "anna", renew_locks=8)
    held = get(anna, 20)
    world.run(30.0)
    assert max(count for _, count in renewals(world)) == 8
    assert all(lock.valid for lock in held)


def test_a_lock_taken_from_us_is_lost_and_the_others_are_kept(world: World) -> None:
    anna, ben = Process(world, "anna"), Process(world, "ben", 2)
    held = get(anna, 5)
    lost = [watched(lock.lost) for lock in held]
    taken = watched(ben.client.acquire("lock 3", lease=30, force=True))
    world.run(5.0)
    assert taken[0].valid
    assert [bool(result) for result in lost] == [False, False, False, True, False]
    assert isinstance(lost[3][0], LockLost)
    assert "ours no longer" in str(lost[3][0])


def test_an_older_node_is_asked_for_one_after_the_other_and_later_again(world: World) -> None:
    anna = Process(world, "anna")
    rows = [node.rpc.table.pop(methods.RENEW_LOCKS.number) for node in world.nodes]
    held = get(anna, 5)
    world.run(30.0)
    assert all(lock.valid for lock in held)
    assert [name for name, _ in renewals(world)].count("RenewLocks") <= 2
    for node, row in zip(world.nodes, rows, strict=True):
        node.rpc.table[row.method.number] = row
    world.run(40.0)
    assert all(lock.valid for lock in held)
    before = len(renewals(world))
    world.run(10.0)
    assert {name for name, _ in renewals(world)[before:]} == {"RenewLocks"}


def test_they_find_the_next_master(world: World) -> None:
    anna = Process(world, "anna")
    held = get(anna, 10)
    world.kill(0)
    world.run(0.5)
    world.elect(1)
    world.run(10.0)
    assert all(lock.valid for lock in held)


def test_a_call_whose_answer_is_lost_is_made_again(world: World) -> None:
    anna = Process(world, "anna")
    held = get(anna, 10)
    faults = iter([Fault.REPLY_LOST, Fault.REQUEST_LOST, Fault.SILENT])
    world.fault = lambda method, request: next(faults, None) if method == "RenewLocks" else None
    world.run(10.0)
    assert next(faults, None) is None
    assert all(lock.valid for lock in held)


def test_what_an_answer_leaves_out_is_asked_for_again(world: World) -> None:
    anna = Process(world, "anna")
    held = get(anna, 2)
    row = world.nodes[0].rpc.table[methods.RENEW_LOCKS.number]
    whole = row.handler

    def half(request: Any, context: Any) -> Any:
        response = whole(request, context)
        del response.renewals[1:]
        return response

    row.handler = half
    world.run(1.1)
    assert renewals(world) == [("RenewLocks", 2), ("RenewLock", 1)]  # which asks again soon
    world.run(10.0)
    assert [lock.valid for lock in held] == [True, True]


# ---- rounds -------------------------------------------------------------------------------------


def test_what_is_due_within_a_tick_needs_one_timer() -> None:
    clock = Clock()
    rounds = Rounds(clock, 0.1)
    done: list[float] = []
    for number in range(10):
        rounds.after(1.01 + number / 120, lambda: done.append(clock.seconds()))
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0.99)
    assert done == []
    clock.advance(0.02)
    assert len(done) == 10


def test_nothing_is_late_and_a_short_pause_stays_short() -> None:
    clock = Clock()
    clock.advance(0.037)
    rounds = Rounds(clock, 0.1)
    done: list[float] = []
    for pause in (0.0, 0.001, 0.02, 0.033, 0.5):
        before, now = len(done), clock.seconds()
        rounds.after(pause, lambda: done.append(clock.seconds()))
        while len(done) == before:
            clock.advance(0.0005)
        assert pause * 0.75 - 0.001 <= done[-1] - now <= pause + 0.001
    assert clock.getDelayedCalls() == []


def test_what_was_taken_back_does_not_happen() -> None:
    clock = Clock()
    rounds = Rounds(clock, 0.1)
    done: list[str] = []
    first = rounds.after(1.0, lambda: done.append("first"))
    second = rounds.after(1.0, lambda: (done.append("second"), third.cancel())[0])
    third = rounds.after(1.0, lambda: done.append("third"))
    first.cancel()
    first.cancel()
    assert (first.active(), second.active()) == (False, True)
    clock.advance(1.0)
    assert done == ["second"]
    fourth = rounds.after(1.0, lambda: done.append("fourth"))
    fourth.cancel()
    assert clock.getDelayedCalls() == []


def test_the_wire_status_of_a_newer_node_is_an_error() -> None:
    from phxqueue.lock.client.renewing import _error
    from phxqueue.proto.lock_pb2 import LockRenewal

    assert _error(LockRenewal()) is None
    error = _error(LockRenewal(status=99, message="what"))
    assert isinstance(error, RpcError)
    assert error.status is Status.INTERNAL
