"""The lock client's locks, against real lock services over faulty lines, on virtual time."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from phxqueue.config import LockLimits
from phxqueue.lock.client import (
    ClientClosed,
    Held,
    InvalidRequest,
    LockClient,
    LockLost,
    LockTimeout,
    NoLockGroup,
    NotHeld,
    TooManyLocks,
    Unavailable,
)
from phxqueue.lock.client.lease import ClientLease
from phxqueue.lock.table import restored_table
from tests.lock.world import Fault, Process, World, watched
from tests.repository.test_documentation import code_blocks

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def get(process: Process, name: str = "a", **more: Any) -> Held:
    """A lock that is free."""
    result = watched(process.client.acquire(name, **more))
    process.world.run(0.1)
    assert isinstance(result[0], Held), result
    return result[0]


def methods(world: World) -> list[str]:
    called = [name for name, _ in world.calls]
    world.calls.clear()
    return called


# ---- the lease as its holder counts it ---------------------------------------------------------


def test_a_lease_is_counted_from_the_sending_and_shorter_by_the_drift() -> None:
    lease = ClientLease.granted(10.0, 0.01, sent_at=100.0, waited=5.0)
    assert lease.deadline == pytest.approx(100.0 + 15.0 * 0.99)
    assert not lease.over(114.8)
    assert lease.over(lease.deadline)
    lease.renewed(sent_at=110.0)
    assert lease.deadline == pytest.approx(119.9)
    lease.renewed(sent_at=105.0)  # an answer that was overtaken by a later one
    assert lease.deadline == pytest.approx(119.9)
    assert lease.remaining(119.0) == pytest.approx(0.9)
    assert lease.remaining(200.0) == 0.0


def test_a_lease_without_end_never_is_over() -> None:
    lease = ClientLease.granted(None, 0.01, sent_at=100.0, waited=5.0)
    lease.renewed(200.0)
    assert not lease.over(1e12)
    assert lease.remaining(5.0) == math.inf


# ---- holding -----------------------------------------------------------------------------------


def test_a_lock_for_the_length_of_a_block(world: World, anna: Process, ben: Process) -> None:
    inside: Deferred[None] = Deferred()
    tokens: list[int] = []

    async def work(process: Process) -> str:
        async with process.client.lock("a", lease=10) as held:
            tokens.append(held.token)
            assert held.valid
            assert held.name == "a"
            await inside
        assert not held.valid
        with pytest.raises(NotHeld):
            _ = held.token
        return "done"

    first = watched(Deferred.fromCoroutine(work(anna)))
    world.run(0.1)
    second = watched(Deferred.fromCoroutine(work(ben)))
    world.run(0.1)
    assert len(tokens) == 1
    assert world.nodes[0].holders["a"].startswith("anna:")
    inside.callback(None)
    world.run(0.1)
    assert (first, second) == (["done"], ["done"])
    assert tokens[1] > tokens[0]
    assert world.nodes[0].holders == {}


def test_a_lock_is_kept_for_as_long_as_it_is_held(world: World, anna: Process, ben: Process) -> None:
    held = get(anna, lease=3)
    lost = watched(held.lost)
    token = held.token
    waiting = watched(ben.client.acquire("a", wait=500))
    world.run(400.0)
    assert (held.token, lost, waiting) == (token, [], [])
    assert 1.9 < held.remaining <= 3.0
    watched(held.release())
    world.run(0.1)
    assert waiting[0].token > token


def test_renewals_need_no_entry_of_the_log(world: World, anna: Process) -> None:
    held = get(anna, lease=3)
    entries = len(world.nodes[0].group.log)
    world.run(100.0)
    assert held.valid
    assert len(world.nodes[0].group.log) == entries


def test_renewing_by_hand(world: World, anna: Process) -> None:
    held = get(anna, lease=30)
    world.run(9.0)
    before = held.remaining
    first, second = watched(held.renew()), watched(held.renew())
    world.run(0.1)
    assert (first, second) == ([None], [None])
    assert held.remaining > before + 8
    watched(held.release())
    world.run(0.1)
    assert isinstance(watched(held.renew())[0], NotHeld)


def test_releasing_twice_and_cancelling_a_release(world: World, anna: Process) -> None:
    held = get(anna)
    first = held.release()
    second = watched(held.release())
    outcome = watched(first)
    first.cancel()
    assert isinstance(outcome[0], CancelledError)
    world.run(0.1)
    assert second == [None]
    assert watched(held.release()) == [None]
    assert world.nodes[0].holders == {}


def test_a_lock_without_end_of_lease_outlives_its_process(world: World, anna: Process, ben: Process) -> None:
    held = get(anna, lease=None)
    assert held.remaining == math.inf
    anna.stop()
    world.run(1e5)
    assert world.nodes[0].holders["a"] == held.client_id
    state = watched(ben.client.lock_state("a"))
    world.run(0.1)
    assert (state[0].lease, state[0].remaining) == (None, None)


# ---- losing ------------------------------------------------------------------------------------


def test_lost_no_later_than_the_server_may_give_it_away(world: World, anna: Process, ben: Process) -> None:
    held = get(anna, lease=10)
    lost = watched(held.lost)
    moments: list[float] = []
    held.lost.addCallback(lambda _: moments.append(world.clock.seconds()))
    waiting = ben.client.acquire("a")
    taken = watched(waiting)
    waiting.addCallback(lambda _: moments.append(world.clock.seconds()))
    world.run(1.0)
    anna_id = held.client_id
    world.fault = lambda method, request: Fault.SILENT if getattr(request, "client_id", "") == anna_id else None
    world.run(60.0)
    assert isinstance(lost[0], LockLost)
    assert "has run out" in str(lost[0])
    assert isinstance(taken[0], Held)
    assert moments[0] < moments[1]
    with pytest.raises(LockLost):
        _ = held.token
    assert isinstance(watched(held.release())[0], LockLost)
    assert isinstance(watched(held.lost)[0], LockLost)


def test_a_process_that_was_stopped_sees_no_valid_token(world: World, anna: Process, ben: Process) -> None:
    """Whatever runs first when it goes on: its own timers, or what has arrived."""
    held = get(anna, lease=10)
    seen: list[Any] = []

    def look() -> None:
        try:
            seen.append(held.token)
        except LockLost as error:
            seen.append(error)

    lost = watched(held.lost)
    anna.clock.callLater(1.0, look)  # due before the end of the lease, and before the next renewal
    anna.stop()
    taken = watched(ben.client.acquire("a"))
    world.run(30.0)
    assert isinstance(taken[0], Held)
    anna.receive(look)
    anna.go_on(timers=False)
    assert isinstance(seen[0], LockLost)
    assert isinstance(lost[0], LockLost)
    anna.clock.advance(30.0)
    assert isinstance(seen[1], LockLost)
    world.run(1.0)


def test_a_timer_that_comes_late_does_not_see_a_valid_token_either(world: World, anna: Process) -> None:
    held = get(anna, lease=10)
    valid: list[bool] = []
    anna.clock.callLater(1.0, lambda: valid.append(held.valid))
    anna.stop()
    world.run(30.0)
    anna.go_on()
    assert valid == [False]


def test_an_answer_that_comes_after_the_end_of_the_lease_saves_nothing(world: World, anna: Process) -> None:
    held = get(anna, lease=10)
    lost = watched(held.lost)
    watched(held.renew())  # arrives, and is answered ...
    anna.stop()
    world.run(9.95)  # ... but the answer lies in the socket
    anna.go_on(timers=False)
    assert held.valid is False or lost == []
    world.run(30.0)
    assert held.valid == (lost == [])


def test_a_lock_taken_by_force_is_lost_at_the_next_renewal(world: World, anna: Process, ben: Process) -> None:
    held = get(anna, lease=9)
    lost = watched(held.lost)
    forced = get(ben, force=True)
    assert forced.token > held.token  # which its holder still believes to have
    world.run(3.0)
    assert isinstance(lost[0], LockLost)
    assert "ben:" in str(lost[0])


def test_a_lock_without_end_that_was_broken_is_lost_when_it_is_looked_after(
    world: World, anna: Process, ben: Process
) -> None:
    held = get(anna, lease=None)
    lost = watched(held.lost)
    broken = watched(ben.client.break_lock("a", held.client_id, held.token))
    again = watched(ben.client.break_lock("a", held.client_id, held.token))
    world.run(0.1)
    assert (broken, again) == ([True], [False])
    world.run(10.0)
    assert isinstance(lost[0], LockLost)


def test_the_block_of_a_lost_lock_ends_with_an_error(world: World, anna: Process, ben: Process) -> None:
    inside: Deferred[None] = Deferred()

    async def work() -> None:
        async with anna.client.lock("a", lease=9):
            await inside

    result = watched(Deferred.fromCoroutine(work()))
    world.run(0.1)
    get(ben, force=True)
    world.run(4.0)
    inside.callback(None)
    assert isinstance(result[0], LockLost)


def test_what_the_block_raised_is_not_hidden_by_the_loss(world: World, anna: Process, ben: Process) -> None:
    inside: Deferred[None] = Deferred()

    async def work() -> None:
        async with anna.client.lock("a", lease=9):
            await inside

    result = watched(Deferred.fromCoroutine(work()))
    world.run(0.1)
    get(ben, force=True)
    world.run(4.0)
    inside.errback(ZeroDivisionError())
    assert isinstance(result[0], ZeroDivisionError)


def test_whoever_lets_go_of_a_lock_does_not_keep_it(world: World, anna: Process, ben: Process) -> None:
    held = get(anna, lease=9)
    waiting = watched(ben.client.acquire("a"))
    reference = weakref.ref(held)
    del held
    gc.collect()
    assert reference() is None
    world.run(3.5)  # it would have been renewed by now
    assert isinstance(waiting[0], Held)
    assert anna.client.held == 0


def test_whoever_waits_for_the_loss_keeps_the_lock(world: World, anna: Process) -> None:
    lost = get(anna, lease=9).lost
    gc.collect()
    world.run(100.0)
    assert anna.client.held == 1
    assert not lost.called


# ---- waiting -----------------------------------------------------------------------------------


def test_contenders_come_in_turn(world: World, anna: Process, ben: Process) -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        process = (anna, ben)[number % 2]
        async with process.client.lock("a"):
            order.append(number)

    for process in (anna, ben):  # who has to look for the master comes later to the queue
        watched(process.client.lock_state("a"))
    world.run(0.1)
    for number in range(50):
        Deferred.fromCoroutine(work(number))
        world.run(0.0005)
    world.run(5.0)
    assert order == list(range(50))


def test_waiting_has_an_end(world: World, anna: Process, ben: Process) -> None:
    get_back = get(anna, lease=60)
    began = world.clock.seconds()
    waiting = ben.client.acquire("a", wait=70.0)  # several calls
    result = watched(waiting)
    over: list[float] = []
    waiting.addCallback(lambda _: over.append(world.clock.seconds() - began))
    world.run(100.0)
    assert isinstance(result[0], LockTimeout)
    assert "is held by 'anna:" in str(result[0])
    assert over[0] == pytest.approx(70.0, abs=0.1)
    assert get_back.valid


def test_a_lock_that_is_not_free_and_nobody_waits(world: World, anna: Process, ben: Process) -> None:
    held = get(anna)
    taken = watched(ben.client.try_acquire("a"))
    world.run(0.1)
    assert taken == [None]
    watched(held.release())
    world.run(0.1)
    taken = watched(ben.client.try_acquire("a"))
    world.run(0.1)
    assert isinstance(taken[0], Held)


def test_who_gives_up_waiting_holds_nothing(world: World, anna: Process, ben: Process) -> None:
    held = get(anna)
    waiting = ben.client.acquire("a")
    result = watched(waiting)
    world.run(1.0)
    waiting.cancel()
    assert isinstance(result[0], CancelledError)
    world.run(0.1)
    watched(held.release())
    world.run(1.0)
    assert world.nodes[0].holders == {}
    assert ben.client.held == 0


@pytest.mark.parametrize("moment", [0.0, 0.0005, 0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004])
def test_a_lock_granted_to_somebody_who_gives_up_is_given_back(
    world: World, anna: Process, ben: Process, moment: float
) -> None:
    """Whether his giving up overtakes the grant, meets it, or comes behind."""
    held = get(anna)
    waiting = ben.client.acquire("a", lease=1000)
    result = watched(waiting)
    world.run(1.0)
    watched(held.release())
    world.run(moment)
    waiting.cancel()
    world.run(1.0)
    if isinstance(result[0], Held):
        assert moment >= 0.002  # the release had arrived, and the grant had, too
        watched(result[0].release())
        world.run(0.1)
    assert world.nodes[0].holders == {}


@pytest.mark.parametrize("moment", [-0.003, -0.002, -0.0015, -0.001, -0.0005, 0.0, 0.0005, 0.001])
def test_the_end_of_the_wait_and_the_release_at_the_same_time(
    world: World, anna: Process, ben: Process, moment: float
) -> None:
    held = get(anna)
    result = watched(ben.client.acquire("a", wait=10.0, lease=1000))
    world.run(10.0 + moment)
    watched(held.release())
    world.run(1.0)
    if isinstance(result[0], Held):
        assert world.nodes[0].holders["a"] == result[0].client_id
        assert result[0].valid
    else:
        assert isinstance(result[0], LockTimeout)
        assert world.nodes[0].holders == {}


def test_a_server_that_lets_nobody_wait_long_is_not_asked_all_the_time() -> None:
    world = World(limits=LockLimits(wait_max_ms=0))
    anna, ben = Process(world, "anna"), Process(world, "ben", 2)
    held = get(anna)
    waiting = watched(ben.client.acquire("a"))
    methods(world)
    world.run(20.0)
    assert 15 <= methods(world).count("AcquireLock") <= 60
    watched(held.release())
    world.run(2.0)
    assert isinstance(waiting[0], Held)
    world.close()


def test_a_full_server_is_asked_again() -> None:
    world = World(limits=LockLimits(max_waiters=1))
    anna, ben, carl = (Process(world, name, seed) for seed, name in enumerate(("anna", "ben", "carl")))
    held = get(anna)
    first = watched(ben.client.acquire("a"))
    world.run(0.1)
    second = watched(carl.client.acquire("a"))
    world.run(1.0)
    assert second == []
    watched(held.release())
    world.run(0.1)
    watched(first[0].release())
    world.run(3.0)
    assert isinstance(second[0], Held)
    world.close()


# ---- failovers ---------------------------------------------------------------------------------


def test_a_lock_is_kept_through_a_failover(world: World, anna: Process) -> None:
    held = get(anna, lease=3)
    lost = watched(held.lost)
    for master in (1, 2):
        world.kill(world.nodes[0].group.master or 0)
        world.run(0.7)
        world.elect(master)
        world.run(20.0)
        if master == 1:
            world.nodes[0].up = True
    assert lost == []
    assert held.valid


def test_without_a_master_for_too_long_a_lock_is_lost(world: World, anna: Process) -> None:
    held = get(anna, lease=3)
    lost = watched(held.lost)
    world.kill(0)
    world.run(3.0)
    assert isinstance(lost[0], LockLost)
    world.elect(1)
    world.run(10.0)
    assert world.nodes[1].holders == {}
    assert not held.valid


def test_who_waits_keeps_his_place_through_a_failover(world: World, anna: Process) -> None:
    held = get(anna, lease=3)
    order: list[int] = []
    for number in range(30):
        waiter = Process(world, f"w{number}", seed=number)

        async def work(waiter: Process = waiter, number: int = number) -> None:
            async with waiter.client.lock("a"):
                order.append(number)

        Deferred.fromCoroutine(work())
        world.run(0.01)
    world.kill(0)
    world.run(0.5)
    world.elect(1)
    world.run(2.0)
    assert order == []
    watched(held.release())
    world.run(5.0)
    assert order == list(range(30))


def test_many_contenders_of_one_process_are_back_in_line_soon_after_a_failover(world: World, anna: Process) -> None:
    """They do not find the new master one after the other, each by being kept waiting."""
    held = get(anna)
    ben = Process(world, "ben", 2)
    contenders = [ben.client.acquire("a") for _ in range(200)]
    results = [watched(contender) for contender in contenders]
    world.run(1.0)
    world.kill(0)
    world.run(0.5)
    world.elect(1)
    world.run(0.5)
    state = watched(ben.client.lock_state("a"))
    world.run(0.1)
    assert state[0].waiters == 200
    assert held.valid
    for contender in contenders:
        contender.cancel()
    assert all(isinstance(result[0], CancelledError) for result in results)


def test_who_waits_without_end_waits_through_any_number_of_failovers(world: World, anna: Process) -> None:
    """It gives up where no master is reached, not where one follows the other faster than a call lasts."""
    held = get(anna)
    ben = Process(world, "ben", 2)
    waiting = watched(ben.client.acquire("a"))
    for number in range(12):
        world.run(5.0)
        master = number % 2
        world.kill(master)
        world.run(0.5)
        world.nodes[master].up = True
        world.elect(1 - master)
    assert waiting == []
    watched(held.release())
    world.run(5.0)
    assert isinstance(waiting[0], Held)


def test_who_waits_without_end_gives_up_without_a_master(world: World, anna: Process) -> None:
    held = get(anna)
    ben = Process(world, "ben", 2)
    waiting = watched(ben.client.acquire("a"))
    world.run(60.0)
    assert waiting == []
    for node in range(3):
        world.kill(node)
    world.run(31.0)
    assert isinstance(waiting[0], Unavailable)
    assert not held.valid


@pytest.mark.parametrize("fault", list(Fault))
def test_an_acquisition_whose_answer_is_lost_is_repeated_and_is_the_same(
    world: World, anna: Process, fault: Fault
) -> None:
    watched(anna.client.lock_state("a"))
    world.run(0.1)
    faults = [fault]
    world.fault = lambda method, request: faults.pop() if faults and method == "AcquireLock" else None
    result = watched(anna.client.acquire("a", wait=60))
    world.run(40.0)
    assert isinstance(result[0], Held)
    assert world.nodes[0].holders["a"] == result[0].client_id
    assert not faults


def test_an_acquisition_that_cannot_be_answered_leaves_no_lock_behind(world: World, anna: Process) -> None:
    """Granted, but never told: when it is given up, the lock is looked for and given back."""
    watched(anna.client.lock_state("a"))
    world.run(0.1)
    world.fault = lambda method, request: Fault.REPLY_LOST if method == "AcquireLock" else None
    result = watched(anna.client.acquire("a", lease=1000, wait=1))
    world.run(3.0)
    assert len(result) == 1
    world.run(3.0)
    assert world.nodes[0].holders == {}


def test_no_node_at_all(world: World, anna: Process) -> None:
    for node in range(3):
        world.kill(node)
    began = world.clock.seconds()
    waiting = anna.client.acquire("a", wait=5.0)
    result = watched(waiting)
    over: list[float] = []
    waiting.addCallback(lambda _: over.append(world.clock.seconds() - began))
    world.run(20.0)
    assert isinstance(result[0], Unavailable)
    assert "start 2 more" in str(result[0])
    assert over[0] < 6.0
    endless = watched(anna.client.acquire("a"))
    world.run(29.0)
    assert endless == []
    world.run(5.0)
    assert isinstance(endless[0], Unavailable)


# ---- several lock groups -----------------------------------------------------------------------


def test_keys_go_to_their_lock_group() -> None:
    world = World(100, 100)
    anna = Process(world)
    names = [f"lock {number}" for number in range(40)]
    held = [get(anna, name) for name in names]
    counts = [len(nodes[0].holders) for nodes in world.groups]
    assert sum(counts) == 40
    assert min(counts) > 5
    listed: list[str] = []

    async def collect() -> None:
        async for state in anna.client.locks("lock 1"):
            listed.append(state.name)

    Deferred.fromCoroutine(collect())
    world.run(0.1)
    assert sorted(listed) == sorted(name for name in names if name.startswith("lock 1"))
    assert all(lock.valid for lock in held)
    world.close()


def test_a_group_that_is_down_stops_nobody_else() -> None:
    world = World(100, 100)
    anna = Process(world)
    for node in range(3):
        world.kill(node, 1)
    results = [watched(anna.client.acquire(f"lock {number}", wait=1.0)) for number in range(20)]
    world.run(5.0)
    kinds = {type(result[0]) for result in results}
    assert kinds == {Held, Unavailable}
    world.close()


def test_a_topic_without_locks(anna: Process) -> None:
    world = World(0)
    process = Process(world)
    assert isinstance(watched(process.client.acquire("a"))[0], NoLockGroup)
    world.close()


# ---- bounds and mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"name": ""}, "key: it is empty"),
        ({"name": "\ud800"}, "no valid Unicode"),
        ({"name": "x" * 2000}, "limits.key_bytes 1024"),
        ({"name": "__lock__x"}, "reserved"),
        ({"name": "a", "lease": 0}, "lease: 0"),
        ({"name": "a", "lease": -1.0}, "lease: -1.0"),
        ({"name": "a", "lease": math.nan}, "lease: nan"),
        ({"name": "a", "lease": math.inf}, "lease: inf"),
        ({"name": "a", "lease": 0.01}, "limits.lease_min_ms 100"),
        ({"name": "a", "lease": 1e7}, "limits.lease_max_ms"),
        ({"name": "a", "wait": -1}, "wait: -1"),
        ({"name": "a", "wait": math.nan}, "wait: nan"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, anna: Process, arguments: dict[str, Any], text: str) -> None:
    result = watched(anna.client.acquire(**arguments))
    world.run(0.1)
    assert isinstance(result[0], InvalidRequest)
    assert text in str(result[0])


def test_a_client_holds_and_waits_for_so_many_locks(world: World) -> None:
    anna = Process(world, max_locks=3)
    held = [get(anna, "a"), get(anna, "b")]
    waiting = anna.client.acquire("a")
    result = watched(waiting)
    assert isinstance(watched(anna.client.acquire("c"))[0], TooManyLocks)
    waiting.cancel()
    assert isinstance(result[0], CancelledError)
    world.run(0.1)
    assert get(anna, "c").valid
    assert isinstance(watched(anna.client.acquire("d"))[0], TooManyLocks)
    watched(held[0].release())
    world.run(0.1)
    assert get(anna, "d").valid


def test_so_many_calls_wait_that_there_is_room_for_renewals(world: World, anna: Process) -> None:
    others = get(anna, "a", lease=60)
    ben = Process(world, "ben", max_waiting=2)
    held = get(ben, "b", lease=3)
    waiting = [ben.client.acquire("a"), ben.client.watch("s")]
    results = [watched(each) for each in waiting]
    assert isinstance(watched(ben.client.acquire("a"))[0], TooManyLocks)
    assert isinstance(watched(ben.client.watch_lock("c"))[0], TooManyLocks)
    world.run(20.0)
    assert held.valid
    waiting[1].cancel()
    assert isinstance(results[1][0], CancelledError)
    assert get(ben, "c").valid
    closed = watched(ben.client.close())
    world.run(0.1)
    assert closed == [None]
    assert isinstance(results[0][0], CancelledError)
    assert others.valid


def test_closing_gives_everything_back(world: World, anna: Process, ben: Process) -> None:
    locks = [get(anna, name) for name in "abc"]
    lost = [watched(lock.lost) for lock in locks]
    blocked = get(ben, "d")
    waiting = watched(anna.client.acquire("d"))
    world.run(0.1)
    closed, again = watched(anna.client.close()), watched(anna.client.close())
    assert isinstance(waiting[0], CancelledError)
    world.run(0.1)
    assert (closed, again) == ([None], [None])
    assert set(world.nodes[0].holders) == {"d"}
    assert lost == [[], [], []]
    assert blocked.valid
    assert isinstance(watched(anna.client.acquire("e"))[0], ClientClosed)
    assert isinstance(watched(anna.client.get("e"))[0], ClientClosed)


def test_closing_without_a_server_takes_so_long_and_no_longer(world: World, anna: Process) -> None:
    get(anna)
    for node in range(3):
        world.kill(node)
    closed = watched(anna.client.close())
    world.run(5.1)
    assert closed == [None]


# ---- the example of docs/api.md ----------------------------------------------------------------


def test_the_examples_of_the_documentation(world: World, anna: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block for block in code_blocks(DOCUMENTATION, "python") if "from phxqueue.lock.client" in block]
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)  # our own documentation

    async def connect(*args: object, **kwargs: object) -> LockClient:
        return Process(world, "report").client

    monkeypatch.setattr(LockClient, "connect", connect)
    tokens: list[int] = []

    async def write(fencing_token: int) -> None:
        tokens.append(fencing_token)
        assert list(world.nodes[0].holders) == ["nightly report"]

    for _ in range(2):
        report = watched(Deferred.fromCoroutine(names["report"](write)))
        world.run(0.2)
        assert report == [None]
    assert tokens[0] < tokens[1]
    assert world.nodes[0].holders == {}
    counting = [watched(Deferred.fromCoroutine(names["count_up"](anna.client))) for _ in range(5)]
    world.run(1.0)
    assert all(len(result) == 1 and result[0] > 0 for result in counting)
    counted = watched(anna.client.get("counter"))
    world.run(0.1)
    assert counted[0].value == b"5"


def test_who_waits_for_a_lock_is_told_why_the_service_grants_none(world: World) -> None:
    anna = Process(world)
    world.nodes[0].group.append(restored_table(1 << 61, 10_000))
    world.elect(1)
    said: list[str] = []
    waiting = watched(anna.client.acquire("a", on_refusal=said.append))
    world.run(5.0)
    assert waiting == []
    assert "restored from a backup, and grants no locks for another 10 s" in said[0]
    assert len(said) > 3
    world.run(7.0)
    [held] = waiting
    assert isinstance(held, Held)
    assert len(said) < 15
