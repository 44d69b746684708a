"""Lock groups get other shares of the keys while they serve: never two holders, tokens rise, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.lock.client.spreading import SpreadError, Spreading
from phxqueue.lock.shares import Share, Shares, Territory
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.lock_pb2 import AcquireLockRequest, RenewLockRequest, SetStringRequest, ShareChange
from tests.lock.world import Process, World, adopt
from tests.stand_ins import NO_CONTEXT, Call

NAMES = [f"lock {number}" for number in range(60)]


@pytest.fixture
def world() -> Iterator[World]:
    """Two lock groups, of which only the first has keys."""
    made = World(100, 0, spread=False)
    yield made
    made.close()


def spread(world: World, weights: Mapping[int, int], process: Process | None = None) -> list[Any]:
    """Drive a change; what comes of it, once it has."""
    process = process or Process(world)
    outcome: list[Any] = []
    spreading = Spreading(process.caller, world.topic)
    Deferred.fromCoroutine(spreading.run(weights)).addBoth(outcome.append)
    return outcome


def ask(world: World, index: int, method: Any, request: Any) -> Call:
    """Ask the master of a lock group."""
    [master] = [node for node in world.groups[index] if node.group.proposing()]
    request.topic_id, request.lock_id = 1000, master.lock_id
    call = Call(lambda: master.rpc.table[method.number].handler(request, NO_CONTEXT))
    world.clock.advance(0)
    return call


def acquire(world: World, index: int, name: str, client_id: str = "me", lease_ms: int = 60_000) -> Call:
    request = AcquireLockRequest(lock_key=name, client_id=client_id, lease_time_ms=lease_ms)
    return ask(world, index, methods.ACQUIRE_LOCK, request)


def where(world: World, name: str) -> list[int]:
    """The lock groups in which a key is open."""
    masters = [next(node for node in nodes if node.group.proposing()) for nodes in world.groups]
    return [
        index
        for index, master in enumerate(masters)
        if Territory(index + 1, master.group.state_machine.shares).is_open(name)
    ]


def held(world: World) -> dict[str, int]:
    return {name: acquire(world, 0, name).answer.lock_info.version for name in NAMES}


def test_a_group_is_added_while_everything_is_held(world: World) -> None:
    tokens = held(world)
    text = SetStringRequest(key="string 1", value=b"kept")
    ask(world, 0, methods.SET_STRING, text)
    outcome = spread(world, {1: 100, 2: 100})
    while not outcome:
        world.run(0.001)
        assert all(len(where(world, name)) <= 1 for name in NAMES)
    assert outcome == [Share(2, ((1, 100), (2, 100)))]
    moved = [name for name in NAMES if where(world, name) == [1]]
    assert 15 < len(moved) < 45
    assert all(len(where(world, name)) == 1 for name in NAMES)
    for name in NAMES:
        [index] = where(world, name)
        renewed = ask(
            world,
            index,
            methods.RENEW_LOCK,
            RenewLockRequest(lock_key=name, client_id="me", lease_time_ms=60_000, version=tokens[name]),
        )
        assert renewed.answer.lock_info.version == tokens[name]
        assert not acquire(world, index, name, "you").answer.acquired
        other = acquire(world, 1 - index, name, "you").error
        assert (other.status, f"belongs to lock group {index + 1}" in other.message) == (Status.INVALID_ARGUMENT, True)
    # Nothing stays behind, and what is granted from now on has higher tokens than all before.
    tables = [nodes[0].group.state_machine for nodes in world.groups]
    assert sorted([*tables[0].locks, *tables[1].locks]) == sorted(NAMES)
    assert len(tables[0].strings) + len(tables[1].strings) == 1
    request = AcquireLockRequest(lock_key=moved[0], client_id="you", lease_time_ms=60_000, force=True)
    taken = ask(world, 1, methods.ACQUIRE_LOCK, request)
    assert taken.answer.lock_info.version > max(tokens.values())
    assert tables[0].state_hash() == world.groups[0][2].group.state_machine.state_hash()


def test_moved_leases_run_their_full_length_again(world: World) -> None:
    acquire(world, 0, "lock 1", lease_ms=1000)
    spread(world, {1: 0, 2: 100})
    world.run(0.5)
    assert where(world, "lock 1") == [1]
    world.run(0.4)
    assert acquire(world, 1, "lock 1", "you").answer.acquired is False
    world.run(0.7)
    assert acquire(world, 1, "lock 1", "you").answer.acquired


@pytest.mark.parametrize("after", range(0, 40, 3))
def test_whoever_drives_may_die_at_any_moment_and_another_goes_on(after: int) -> None:
    world = World(100, 0, spread=False)
    tokens = held(world)
    process = Process(world)
    calls = _limited(process, after)
    first = spread(world, {1: 100, 2: 100}, process)
    world.run(0.2)
    assert calls[0] <= after + 1
    assert all(len(where(world, name)) <= 1 for name in NAMES)
    if not first:
        refused = spread(world, {1: 50, 2: 100}, Process(world, seed=3))
        world.run(0.5)
        unfinished = isinstance(getattr(refused[0], "value", None), SpreadError)
        assert unfinished or isinstance(refused[0], Share)
    goal = {1: 100, 2: 100}
    world.depose(1)
    last = spread(world, goal, Process(world, seed=2))
    world.run(1.0)
    assert isinstance(last[0], Share)
    assert last[0].weights == ((1, 100), (2, 100))
    for name in NAMES:
        [index] = where(world, name)
        assert world.groups[index][1].group.state_machine.locks[name].version == tokens[name]
    world.close()


def _limited(process: Process, most: int) -> list[int]:
    """Let a driver's process make so many calls; the rest is never answered, as if it had died."""
    calls, call = [0], process.caller.call

    def limited(*arguments: Any, **more: Any) -> Any:
        calls[0] += 1
        return Deferred() if calls[0] > most else call(*arguments, **more)

    process.caller.call = limited  # type: ignore[method-assign]
    return calls


def test_closed_keys_rest_and_nothing_of_them_ends(world: World) -> None:
    acquire(world, 0, "lock 1", lease_ms=500)
    process = Process(world)
    _limited(process, 7)  # it looks, adopts, looks, prepares both ... and dies
    spread(world, {1: 0, 2: 100}, process)
    world.run(5.0)
    if where(world, "lock 1"):
        pytest.fail("the driver did not get as far as closing the key")
    error = acquire(world, 0, "lock 1", "you").error
    assert (error.status, error.retry_after_ms) == (Status.RESOURCE_EXHAUSTED, 50)
    assert "lock 1" in world.groups[0][0].group.state_machine.locks


def test_a_change_that_cannot_be_finished_is_given_up(world: World) -> None:
    tokens = held(world)
    process = Process(world)
    _limited(process, 13)
    spread(world, {1: 100, 2: 100}, process)
    world.run(1.0)
    outcome: list[Any] = []
    other = Process(world, seed=2)
    Deferred.fromCoroutine(Spreading(other.caller, world.topic).abandon()).addBoth(outcome.append)
    world.run(1.0)
    assert outcome == [Share(1, ((1, 100),))]
    assert all(where(world, name) == [0] for name in NAMES)
    assert not world.groups[1][0].group.state_machine.locks
    assert {name: lock.version for name, lock in world.groups[0][0].group.state_machine.locks.items()} == tokens


@pytest.mark.parametrize(
    ("weights", "message"), [({3: 1}, "lock groups of lockconfig.conf"), ({1: 0, 2: 0}, "at least one above 0")]
)
def test_shares_that_cannot_be(world: World, weights: dict[int, int], message: str) -> None:
    [failure] = _finished(world, spread(world, weights))
    assert isinstance(failure.value, SpreadError)
    assert message in str(failure.value)


def _finished(world: World, outcome: list[Any]) -> list[Any]:
    world.run(1.0)
    return outcome


def test_a_group_with_keys_that_is_no_longer_configured_is_missed() -> None:
    world = World(100, 0, spread=False)
    for nodes in world.groups:
        nodes[0].group.state_machine.shares = Shares(Share(3, ((1, 100), (7, 100))))
    [failure] = _finished(world, spread(world, {1: 100, 2: 100}))
    assert "lock group 7 has keys and is not in lockconfig.conf" in str(failure.value)
    world.close()


def test_a_new_master_refuses_what_was_offered_for_a_closed_key(world: World) -> None:
    """A call that comes before the new master knows what is closed must not slip in behind the closing."""
    adopt(world.groups[1][0], Share(1, ((1, 100),)))
    world.clock.advance(0)
    change = ShareChange(step=ShareChange.PREPARE, share=Share(2, ((2, 100),)).message())
    request = methods.CHANGE_SHARE.request(change=change)
    assert ask(world, 0, methods.CHANGE_SHARE, request).answer is not None
    master = world.groups[0][1]
    master.group.auto = False
    world.depose(1)
    early = acquire(world, 0, "lock 1")
    assert early.pending
    master.group.choose()
    world.clock.advance(0)
    assert early.error.status is Status.RESOURCE_EXHAUSTED
    assert "lock 1" not in master.group.state_machine.locks
    master.group.auto = True


steps: list[tuple[Callable[[], ShareChange], Status]] = [
    (lambda: _step(ShareChange.COMMIT, 2), Status.VERSION_MISMATCH),
    (lambda: _step(ShareChange.IMPORT, 2), Status.VERSION_MISMATCH),
    (lambda: _step(ShareChange.PREPARE, 3), Status.VERSION_MISMATCH),
    (lambda: _step(ShareChange.PREPARE, 2), Status.OK),
    (lambda: _step(ShareChange.PREPARE, 2), Status.OK),
    (lambda: _step(ShareChange.PREPARE, 2, 7), Status.VERSION_MISMATCH),
    (lambda: _step(ShareChange.ABANDON, 2), Status.OK),
    (lambda: _step(ShareChange.PREPARE, 2, 7), Status.OK),
    (lambda: _step(ShareChange.IMPORT, 2), Status.OK),
    (lambda: _step(ShareChange.COMMIT, 2), Status.OK),
    (lambda: _step(ShareChange.COMMIT, 2), Status.OK),
    (lambda: _step(ShareChange.IMPORT, 2), Status.OK),
    (lambda: _step(ShareChange.ABANDON, 2), Status.VERSION_MISMATCH),
    (lambda: _step(ShareChange.PREPARE, 2), Status.VERSION_MISMATCH),
]


def _step(step: ShareChange.Step.ValueType, generation: int, scale: int = 100) -> ShareChange:
    return ShareChange(step=step, share=Share(generation, ((1, scale),)).message())


def test_steps_are_taken_in_their_order_and_any_number_of_times() -> None:
    shares = Shares(Share(1, ((1, 1),)))
    for make, expected in steps:
        status, shares = shares.changed(make())
        assert status is expected, make()
    assert shares == Shares(Share(2, ((1, 7),)))


def test_errors_of_the_service_name_the_lock_group(world: World) -> None:
    class Refusing:
        async def call(self, *arguments: Any) -> Any:
            raise RpcError(Status.NO_MASTER, "no majority")

    outcome: list[Any] = []
    Deferred.fromCoroutine(Spreading(Refusing(), world.topic).run({1: 1})).addBoth(outcome.append)
    assert "lock group 1 group 0: no majority; run it again to go on" in str(outcome[0].value)


def test_clients_keep_their_locks_and_find_the_keys_that_have_moved(world: World) -> None:
    """Their configuration still says that the second lock group has none."""
    anna = Process(world, name="anna")
    held = []
    for name in NAMES[:20]:
        anna.client.acquire(name, lease=2.0).addCallback(held.append)
    waiting: list[Any] = []
    bert = Process(world, name="bert", seed=2)
    for name in NAMES[:20]:
        bert.client.acquire(name, lease=2.0).addCallback(waiting.append)
    world.run(0.5)
    assert (len(held), waiting) == (20, [])
    tokens = {one.name: one.token for one in held}
    outcome = spread(world, {1: 100, 2: 100})
    world.run(10.0)
    assert isinstance(outcome[0], Share)
    moved = [name for name in tokens if where(world, name) == [1]]
    assert 3 < len(moved) < 17
    assert all(one.valid for one in held)
    assert waiting == []
    for one in held:
        one.release()
    world.run(2.0)
    assert sorted(one.name for one in waiting) == sorted(tokens)
    assert all(one.token > tokens[one.name] for one in waiting)
    written = watched_write(anna, moved[0])
    world.run(0.5)
    assert written == [True]


def watched_write(process: Process, key: str) -> list[Any]:
    """A string under a key that has moved."""
    done: list[Any] = []

    async def write() -> bool:
        await process.client.set(key, b"here")
        value = await process.client.get(key)
        return value is not None and value.value == b"here"

    Deferred.fromCoroutine(write()).addBoth(done.append)
    return done
