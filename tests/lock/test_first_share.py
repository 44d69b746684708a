"""Several lock groups start for the first time: they agree on who serves what, whoever comes when, and what fails."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from phxqueue.config import LockGroup
from phxqueue.lock.client import Held
from phxqueue.lock.client.spreading import SpreadError, Spreading
from phxqueue.lock.first_share import agreed, first_place
from phxqueue.lock.shares import Share, Shares, Territory
from tests.lock.rig import topic
from tests.lock.world import Fault, Process, World, watched

NAMES = [f"lock {number}" for number in range(40)]
FIRST = Share(1, ((1, 100), (2, 50)))
NEWER = Share(4, ((2, 50),))


def locks(*scales: int, paxos_groups: int = 1) -> list[LockGroup]:
    return [
        LockGroup(lock_id=lock.lock_id, scale=lock.scale, nodes=lock.nodes, paxos_groups=paxos_groups)
        for lock in topic(*scales).locks
    ]


# ---- what may be taken --------------------------------------------------------------------------


def test_when_nobody_has_a_share_one_place_decides_by_its_file() -> None:
    both = locks(100, 50)
    assert first_place(both) == (1, 0)
    assert agreed(both, (1, 0), {(2, 0): None}) == FIRST
    assert agreed(both, (2, 0), {(1, 0): None}) is None


def test_it_waits_for_every_paxos_group_of_the_others() -> None:
    both = locks(100, 50, paxos_groups=2)
    told: dict[tuple[int, int], Share | None] = {(1, 1): None, (2, 0): None}
    assert agreed(both, (1, 0), told) is None
    assert agreed(both, (1, 0), {**told, (2, 1): None}) == FIRST
    assert agreed(both, (1, 1), {(1, 0): None, (2, 0): None, (2, 1): None}) is None


def test_what_anybody_has_counts_more_than_any_file() -> None:
    three = locks(100, 100, 100)
    assert agreed(three, (1, 0), {(3, 0): NEWER}) == NEWER
    assert agreed(three, (3, 0), {(1, 0): FIRST, (2, 0): NEWER}) == NEWER


def test_without_a_scale_there_is_nothing_to_decide() -> None:
    assert agreed(locks(0, 0), (1, 0), {(2, 0): None}) is None


# ---- starting -----------------------------------------------------------------------------------


@cache
def opened(lock_id: int, shares: Shares) -> list[str]:
    """The keys that are open in a lock group with these shares."""
    territory = Territory(lock_id, shares)
    return [name for name in NAMES if territory.is_open(name)]


def open_in(world: World) -> dict[str, list[int]]:
    """Where each key is open, by the tables of all nodes: a former master's as well."""
    found: dict[str, list[int]] = {name: [] for name in NAMES}
    for nodes in world.groups:
        lock_id = nodes[0].lock_id
        tables = {node.group.state_machine.shares for node in nodes}
        for name in {name for shares in tables for name in opened(lock_id, shares)}:
            found[name].append(lock_id)
    return found


def share(world: World, index: int) -> Share | None:
    found: Share | None = world.groups[index][0].group.state_machine.shares.share
    return found


def test_all_serve_when_all_have_started() -> None:
    world = World(100, 50, 50, spread=None)
    anna = Process(world, "anna")
    waiting = {name: watched(anna.client.acquire(name, lease=60)) for name in NAMES}
    for index in range(3):
        world.run(1.0)
        assert not any(waiting.values())
        world.elect(0, index)
    world.run(3.0)
    assert [share(world, index) for index in range(3)] == [Share(1, ((1, 100), (2, 50), (3, 50)))] * 3
    assert all(isinstance(held[0], Held) for held in waiting.values())
    assert all(len(where) == 1 for where in open_in(world).values())
    assert {where[0] for where in open_in(world).values()} == {1, 2, 3}
    world.close()


def test_a_group_that_is_down_is_waited_for() -> None:
    world = World(100, 50, spread=None)
    world.elect(0, 0)
    world.run(60.0)
    assert share(world, 0) is None
    world.elect(1, 1)
    world.run(6.0)
    assert share(world, 0) == share(world, 1) == FIRST
    world.close()


SERVING = Shares(Share(3, ((2, 50), (3, 50))))


def test_whoever_comes_later_takes_over_what_there_is_and_serves_nothing() -> None:
    """Also with the lowest id and a scale, which its operator should not have given it."""
    world = World(100, 50, 50, spread=None)
    for index in (1, 2):
        world.groups[index][0].group.state_machine.shares = SERVING
    for index in range(3):
        world.elect(0, index)
    world.run(3.0)
    assert share(world, 0) == SERVING.share
    assert all(1 not in where for where in open_in(world).values())
    world.close()


def test_a_change_of_master_on_the_way_does_not_matter() -> None:
    world = World(100, 50, spread=None)
    world.elect(0, 0)
    world.elect(0, 1)
    world.run(0.001)
    world.depose(1, 0)
    world.run(0.001)
    world.kill(0, 1)
    world.run(1.0)
    world.elect(2, 1)
    world.run(5.0)
    assert share(world, 0) == share(world, 1) == FIRST
    world.close()


class Operator:
    """Runs `locks spread` with some weights, at some time."""

    def __init__(self, world: World, seed: int, weights: dict[int, int]) -> None:
        self.outcome: list[Any] = []
        spreading = Spreading(Process(world, "operator", seed).caller, world.topic)
        Deferred.fromCoroutine(spreading.run(weights)).addBoth(self.outcome.append)

    @property
    def refused(self) -> bool:
        return bool(self.outcome) and not isinstance(self.outcome[0], Share)


def someone_starts(world: World, random_: random.Random) -> None:
    """A master is elected, deposed or killed."""
    index = random_.randrange(len(world.groups))
    up = [node for node in world.groups[index] if node.up]
    masters = [node for node in up if node.group.proposing()]
    node = random_.choice(up)
    if not masters:
        world.elect(node.group.node_id, index)
    elif random_.random() < 0.3 and len(up) > 1:
        world.kill(masters[0].group.node_id, index)
    elif node not in masters:
        world.depose(node.group.node_id, index)


def at_most_one(world: World) -> None:
    for name, where in open_in(world).items():
        assert len(where) <= 1, f"{name} is served by lock groups {where}"


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_no_key_is_ever_served_by_two(first: int) -> None:
    """Elections, deaths, lost calls, and operators with other ideas, while the first share is agreed."""
    for seed in range(first, first + 10):
        one_start(seed)


def one_start(seed: int) -> None:
    random_ = random.Random(seed)
    world = World(100, 50, 70, spread=None)
    world.latency = lambda: random_.choice((0.001, 0.02, 0.3))
    faults = [Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.SILENT]
    world.fault = lambda method, request: random_.choice(faults) if random_.random() < 0.1 else None
    world.on_step = lambda: at_most_one(world)
    operators: list[Operator] = []
    for step in range(25):
        someone_starts(world, random_)
        if random_.random() < (0.5 if step < 4 else 0.1):
            weights = {lock_id: random_.choice((0, 50, 100)) for lock_id in (1, 2, 3)}
            operators.append(Operator(world, 100 + step, weights))
        world.run(random_.choice((0.001, 0.05, 0.5)))
    world.fault = lambda method, request: None
    world.latency = lambda: 0.001
    for index, nodes in enumerate(world.groups):
        if not any(node.group.proposing() for node in nodes):
            world.elect(next(node for node in nodes if node.up).group.node_id, index)
    world.run(60.0)
    assert all(operator.outcome for operator in operators), f"seed {seed}"
    shares = {node.group.state_machine.shares for nodes in world.groups for node in nodes}
    assert all(one.share is not None for one in shares), f"seed {seed}: {shares}"
    if not operators:
        assert len(shares) == 1, f"seed {seed}: {shares}"
    world.on_step = lambda: None
    world.close()


def test_an_operator_who_is_late_changes_what_has_been_agreed() -> None:
    world = World(100, 50, spread=None)
    for index in range(2):
        world.elect(0, index)
    world.run(3.0)
    operator = Operator(world, 1, {1: 10, 2: 10})
    world.run(3.0)
    assert operator.outcome == [Share(2, ((1, 10), (2, 10)))]
    world.close()


def test_of_two_operators_at_the_first_start_one_is_refused() -> None:
    """Both have seen that there is no share yet."""
    world = World(0, 0, spread=None)  # nothing to agree on by themselves
    for index in range(2):
        world.elect(0, index)
    first, second = Operator(world, 1, {1: 10, 2: 10}), Operator(world, 2, {1: 10, 2: 20})
    world.on_step = lambda: at_most_one(world)
    world.run(5.0)
    assert [first.refused, second.refused] == [False, True]
    assert isinstance(second.outcome[0].value, SpreadError)
    assert "the shares of lock group 1 are 1=10, 2=10" in str(second.outcome[0].value)
    world.close()
