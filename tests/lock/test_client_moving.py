"""Clients that run while keys move to another lock group: holders keep their locks, and everybody finds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.lock.client import Held, NoLockGroup, VersionMismatch
from phxqueue.lock.client.routes import LockRoutes
from phxqueue.lock.client.spreading import Spreading
from phxqueue.lock.shares import Share
from tests.lock.rig import topic
from tests.lock.world import Process, World, watched

NAMES = [f"lock {number}" for number in range(30)]


@pytest.fixture
def world() -> Iterator[World]:
    """Two lock groups, of which only the first has keys, in the clients' configuration too."""
    made = World(100, 0, spread=False)
    yield made
    made.close()


def spread(world: World, **weights: int) -> None:
    """Change the shares; everybody goes on meanwhile."""
    spreading = Spreading(Process(world, "operator").caller, world.topic)
    outcome = watched(Deferred.fromCoroutine(spreading.run({int(key[1:]): scale for key, scale in weights.items()})))
    world.run(0.5)
    assert isinstance(outcome[0], Share), outcome


def done(world: World, deferred: Deferred[Any], seconds: float = 0.5) -> Any:
    result = watched(deferred)
    world.run(seconds)
    assert len(result) == 1
    return result[0]


def moved(world: World) -> list[str]:
    return sorted(world.groups[1][0].holders)


def test_whoever_holds_a_lock_keeps_it_and_gives_it_back_where_it_is(world: World) -> None:
    anna, ben = Process(world, "anna"), Process(world, "ben", 2)
    held = {name: done(world, anna.client.acquire(name, lease=3), 0.01) for name in NAMES}
    tokens = {name: lock.token for name, lock in held.items()}
    waiting = {name: watched(ben.client.acquire(name, lease=3)) for name in NAMES}
    spread(world, _1=100, _2=100)
    assert 5 < len(moved(world)) < 25
    world.run(30.0)
    assert {name: lock.token for name, lock in held.items()} == tokens
    assert all(result == [] for result in waiting.values())
    for lock in held.values():
        watched(lock.release())
    world.run(1.0)
    for name in NAMES:
        [next_one] = waiting[name]
        assert isinstance(next_one, Held)
        assert next_one.token > tokens[name]
    assert {**world.groups[0][0].holders, **world.groups[1][0].holders}.keys() == set(NAMES)
    spread(world, _1=100, _2=0)  # and back
    world.run(10.0)
    assert all(result[0].valid for result in waiting.values())
    assert moved(world) == []


def test_strings_are_read_written_and_watched_where_they_are(world: World) -> None:
    anna = Process(world, "anna")
    versions = {name: done(world, anna.client.set(name, b"one"), 0.01) for name in NAMES}
    watching = {name: watched(anna.client.watch(name, versions[name])) for name in NAMES}
    spread(world, _1=0, _2=100)
    world.run(1.0)
    assert not any(watching.values())
    for name in NAMES:
        value = done(world, anna.client.get(name), 0.01)
        assert (value.value, value.version) == (b"one", versions[name])
        newer = done(world, anna.client.set(name, b"two", expected_version=versions[name]), 0.01)
        assert newer > versions[name]
        refused = done(world, anna.client.set(name, b"three", expected_version=versions[name]), 0.01)
        assert isinstance(refused, VersionMismatch)
        assert watching[name][0].version == newer
        assert done(world, anna.client.delete(name), 0.01) is True
    assert done(world, anna.client.lock_state("x")) is None


def test_who_gives_up_while_a_key_moves_leaves_nothing_behind(world: World) -> None:
    anna = Process(world, "anna")
    for name in NAMES:
        waiting = anna.client.acquire(name, lease=1000)
        watched(waiting)
        world.clock.callLater(0.003 * len(name), waiting.cancel)
    spread(world, _1=0, _2=100)
    world.run(5.0)
    for process in world.processes:
        done(world, process.client.close())
    assert world.groups[0][0].holders == world.groups[1][0].holders == {}


def test_a_newer_configuration_does_not_undo_what_was_learned(world: World) -> None:
    anna = Process(world, "anna")
    held = done(world, anna.client.acquire("lock 1", lease=3))
    spread(world, _1=0, _2=100)
    world.run(5.0)
    anna.client.reconfigure(world.topic)
    world.calls.clear()
    assert done(world, anna.client.lock_state("lock 1")).token == held.token
    assert {request.lock_id for _, request in world.calls} == {2}
    with pytest.raises(ValueError, match="topic"):
        anna.client.reconfigure(type(world.topic)(topic_id=7, topic_name="other"))


def test_a_group_that_the_configuration_does_not_name() -> None:
    routes = LockRoutes(topic(100))
    routes.learn(Share(2, ((1, 0), (9, 100))))
    with pytest.raises(NoLockGroup, match="lock group 9"):
        routes.place("a")
    routes.learn(Share(1, ((1, 100),)))  # an old one
    with pytest.raises(NoLockGroup):
        routes.place("a")
