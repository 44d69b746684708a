"""The faults. Each is done to a cluster under load, lasts a while, and is undone by whoever called it."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.gather import gather
from phxqueue.admin.processes.child import Child
from tests.chaos.cluster import LOW_WATER, ChaosCluster
from tests.chaos.disks import MIB
from tests.chaos.schedule import Planned

#: Of the clusters here: the configuration's default.
LEASE_S = 0.4
STOP_TIMEOUT_S = 30.0


class NotStopped(Exception):
    """A process did not heed SIGTERM; the message names it."""


class Scene:
    """One fault at work.

    Attributes:
        rng: the choices of this fault.
        hold_s: how long it is meant to last.
        note: what happened in the end, for the log of the run.
    """

    def __init__(self, reactor: Any, cluster: ChaosCluster, planned: Planned) -> None:
        self.cluster = cluster
        self.rng: random.Random = planned.rng()
        self.hold_s = planned.hold_s
        self.note = ""
        self._reactor = reactor

    def sleep(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        return deferLater(self._reactor, seconds, lambda: None)

    async def hold(self) -> None:
        """Let the fault last."""
        await self.sleep(self.hold_s)

    async def master_first(self) -> list[Child]:
        """The store nodes, the master of a random group first."""
        groups = self.cluster.topic.stores[0].paxos_groups
        master = await self.cluster.looked_up_master(self.rng.randrange(groups))
        nodes = list(self.cluster.stores)
        self.rng.shuffle(nodes)
        nodes.sort(key=lambda child: child is not master)
        return nodes

    def names(self, *children: Child) -> str:
        return " ".join(child.name for child in children)


Doing = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        weight: how often, beside the others.
        majority: whether a majority of the nodes is well and connected all the time, so that service must go on.
        network, disk: what it needs to be possible at all.
    """

    do: Doing
    weight: int
    majority: bool
    network: bool = False
    disk: bool = False


FAULTS: dict[str, Fault] = {}


def fault(weight: int, *, majority: bool = True, network: bool = False, disk: bool = False) -> Callable[[Doing], Doing]:
    """Register a function as a fault under its own name."""

    def register(do: Doing) -> Doing:
        FAULTS[do.__name__] = Fault(do, weight, majority, network, disk)
        return do

    return register


# ---- processes that die --------------------------------------------------------------------------


@fault(4)
async def kill_master(scene: Scene) -> None:
    master, *_ = await scene.master_first()
    scene.note = scene.names(master)
    await scene.cluster.kill(master)
    await scene.hold()


@fault(2)
async def kill_follower(scene: Scene) -> None:
    *_, follower = await scene.master_first()
    scene.note = scene.names(follower)
    await scene.cluster.kill(follower)
    await scene.hold()


@fault(2, majority=False)
async def kill_two(scene: Scene) -> None:
    first, second, _ = await scene.master_first()
    scene.note = scene.names(first, second)
    await scene.cluster.kill(first, second)
    await scene.hold()


@fault(2, majority=False)
async def kill_all(scene: Scene) -> None:
    await scene.cluster.kill(*scene.cluster.stores)
    await scene.sleep(scene.rng.choice((0.0, scene.hold_s)))


@fault(3, majority=False)
async def kill_in_recovery(scene: Scene) -> None:
    """One or all are killed and, while they recover, killed again."""
    victims = (await scene.master_first())[: scene.rng.choice((1, 1, 3))]
    times = scene.rng.randint(1, 3)
    scene.note = f"{scene.names(*victims)}, {times} times in recovery"
    await scene.cluster.kill(*victims)
    for _ in range(times):
        for child in victims:
            child.spawn()
        # A start takes about 0.7 s here, of which the last part is recovery.
        await scene.sleep(scene.rng.uniform(0.3, 2.0))
        await scene.cluster.kill(*victims)


@fault(1)
async def kill_consumers(scene: Scene) -> None:
    await scene.cluster.kill(*scene.cluster.consumers)
    await scene.hold()


# ---- processes that hang ---------------------------------------------------------------------------


async def _pause(scene: Scene, seconds: float, *children: Child) -> None:
    scene.note = f"{scene.names(*children)} for {seconds:.2f} s"
    for child in children:
        child.signal(signal.SIGSTOP)
    await scene.sleep(seconds)
    for child in children:
        child.signal(signal.SIGCONT)


@fault(2)
async def pause_master_shortly(scene: Scene) -> None:
    """Shorter than the lease."""
    master, *_ = await scene.master_first()
    for _ in range(scene.rng.randint(1, 4)):
        await _pause(scene, scene.rng.uniform(0.1, 0.9) * LEASE_S, master)
        await scene.sleep(scene.rng.uniform(0.0, 0.3))


@fault(4)
async def pause_master(scene: Scene) -> None:
    """Longer than the lease."""
    master, *_ = await scene.master_first()
    await _pause(scene, scene.rng.uniform(1.0, 3.0) * LEASE_S + scene.hold_s, master)


@fault(1)
async def pause_follower(scene: Scene) -> None:
    *_, follower = await scene.master_first()
    await _pause(scene, LEASE_S + scene.hold_s, follower)


@fault(2, majority=False)
async def pause_two(scene: Scene) -> None:
    first, second, _ = await scene.master_first()
    await _pause(scene, LEASE_S + scene.hold_s, first, second)


@fault(1, majority=False)
async def pause_all(scene: Scene) -> None:
    await _pause(scene, scene.rng.uniform(0.1, 3.0) * LEASE_S, *scene.cluster.stores)


@fault(1)
async def pause_consumers(scene: Scene) -> None:
    await _pause(scene, scene.hold_s, *scene.cluster.consumers)


@fault(2, majority=False)
async def pause_master_kill_next(scene: Scene) -> None:
    """The master hangs, its successor dies, the old master wakes up."""
    master, *others = await scene.master_first()
    scene.note = f"{scene.names(master)} hangs"
    master.signal(signal.SIGSTOP)
    await scene.sleep(LEASE_S * scene.rng.uniform(0.5, 4.0))
    successor = await scene.cluster.looked_up_master() or others[0]
    if successor is master:
        successor = others[0]
    await scene.cluster.kill(successor)
    scene.note += f", {scene.names(successor)} killed"
    await scene.sleep(scene.rng.uniform(0.0, 0.5))
    master.signal(signal.SIGCONT)
    await scene.hold()


# ---- processes that are stopped in order -------------------------------------------------------------


async def _stop(scene: Scene, *children: Child) -> None:
    killed = await scene.cluster.stop(*children)
    if killed:
        raise NotStopped(f"{scene.names(*killed)} did not heed SIGTERM")


@fault(2)
async def stop_master(scene: Scene) -> None:
    master, *_ = await scene.master_first()
    scene.note = scene.names(master)
    await _stop(scene, master)
    await scene.sleep(scene.rng.choice((0.0, scene.hold_s)))


@fault(2)
async def rolling_restart(scene: Scene) -> None:
    for child in scene.rng.sample(scene.cluster.stores, 3):
        await _stop(scene, child)
        await scene.cluster.start_these(child)


@fault(1, majority=False)
async def stop_all(scene: Scene) -> None:
    await _stop(scene, *scene.cluster.stores)


@fault(1)
async def restart_consumers(scene: Scene) -> None:
    for child in scene.cluster.consumers:
        await _stop(scene, child)
        await scene.cluster.start_these(child)


# ---- networks that are cut ------------------------------------------------------------------------------


def _cut(scene: Scene, sources: list[Child], targets: list[Child]) -> None:
    cluster = scene.cluster
    assert cluster.network is not None
    cluster.network.cut([cluster.number(child) for child in sources], [cluster.number(child) for child in targets])


@fault(3, network=True)
async def isolate_master(scene: Scene) -> None:
    master, *others = await scene.master_first()
    scene.note = scene.names(master)
    _cut(scene, [master], others)
    _cut(scene, others, [master])
    await scene.hold()


@fault(2, network=True)
async def isolate_follower(scene: Scene) -> None:
    *others, follower = await scene.master_first()
    scene.note = scene.names(follower)
    _cut(scene, [follower], others)
    _cut(scene, others, [follower])
    await scene.hold()


@fault(3, network=True)
async def master_is_not_heard(scene: Scene) -> None:
    """One way: the master hears the others, and they do not hear it."""
    master, *others = await scene.master_first()
    scene.note = scene.names(master)
    _cut(scene, [master], others)
    await scene.hold()


@fault(3, network=True)
async def master_hears_nothing(scene: Scene) -> None:
    """The other way."""
    master, *others = await scene.master_first()
    scene.note = scene.names(master)
    _cut(scene, others, [master])
    await scene.hold()


@fault(2, network=True)
async def cut_master_from_one(scene: Scene) -> None:
    """Two ways or one: both still have the third node."""
    master, *others = await scene.master_first()
    other = scene.rng.choice(others)
    ways = scene.rng.choice(("->", "<-", "<->"))
    scene.note = f"{scene.names(master)} {ways} {scene.names(other)}"
    if ">" in ways:
        _cut(scene, [master], [other])
    if "<" in ways:
        _cut(scene, [other], [master])
    await scene.hold()


@fault(1, majority=False, network=True)
async def everybody_alone(scene: Scene) -> None:
    _cut(scene, scene.cluster.stores, scene.cluster.stores)
    await scene.hold()


@fault(2, majority=False, network=True)
async def ring_of_one_way_cuts(scene: Scene) -> None:
    """Each hears only one of the others."""
    nodes = await scene.master_first()
    for source, target in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        _cut(scene, [source], [target])
    await scene.hold()


@fault(2, majority=False, network=True)
async def flapping(scene: Scene) -> None:
    """The master is cut off and back again, around the length of its lease."""
    assert scene.cluster.network is not None
    for _ in range(scene.rng.randint(3, 8)):
        master, *others = await scene.master_first()
        _cut(scene, [master], others)
        if scene.rng.random() < 0.5:
            _cut(scene, others, [master])
        await scene.sleep(scene.rng.uniform(0.3, 1.5) * LEASE_S)
        scene.cluster.network.heal()
        await scene.sleep(scene.rng.uniform(0.0, 1.5) * LEASE_S)


@fault(1, network=True)
async def clients_do_not_hear_the_master(scene: Scene) -> None:
    """The nodes are well: only the answers of one get lost."""
    master, *_ = await scene.master_first()
    scene.note = scene.names(master)
    assert scene.cluster.network is not None
    scene.cluster.network.mute(scene.cluster.number(master))
    await scene.hold()


@fault(2, majority=False, network=True)
async def isolate_master_kill_another(scene: Scene) -> None:
    """First one half is cut off, then the other half dies: the old master comes back to a majority."""
    master, *others = await scene.master_first()
    _cut(scene, [master], others)
    _cut(scene, others, [master])
    await scene.sleep(LEASE_S * scene.rng.uniform(0.5, 4.0))
    victims = scene.rng.sample(others, scene.rng.randint(1, 2))
    scene.note = f"{scene.names(master)} alone, {scene.names(*victims)} killed"
    await scene.cluster.kill(*victims)
    assert scene.cluster.network is not None
    scene.cluster.network.heal()
    await scene.hold()


# ---- disks that are full -----------------------------------------------------------------------------------


def _fill(scene: Scene, leave: int, *children: Child) -> None:
    for child in children:
        scene.cluster.disks[scene.cluster.number(child)].fill(leave)


@fault(1, majority=False, disk=True)
async def disk_below_low_water(scene: Scene) -> None:
    """The master, or all of them, may not take anything new; reads and acknowledgements go on."""
    victims = (await scene.master_first())[: scene.rng.choice((1, 3))]
    scene.note = scene.names(*victims)
    _fill(scene, LOW_WATER // 2, *victims)
    await scene.hold()


@fault(3, disk=True)
async def disk_full_at_one(scene: Scene) -> None:
    """Not a byte is left: the node may end, and must not come back before there is room."""
    nodes = await scene.master_first()
    victim = scene.rng.choice(nodes[:2])
    scene.note = scene.names(victim)
    scene.cluster.doomed.add(victim)
    _fill(scene, scene.rng.choice((0, 64 * 1024, MIB)), victim)
    await scene.hold()
    if scene.rng.random() < 0.5:
        await _restart_on_full_disk(scene, victim)


@fault(1, majority=False, disk=True)
async def disk_full_everywhere(scene: Scene) -> None:
    scene.cluster.doomed.update(scene.cluster.stores)
    _fill(scene, scene.rng.choice((0, 64 * 1024)), *scene.cluster.stores)
    await scene.hold()
    if scene.rng.random() < 0.5:
        await gather(_restart_on_full_disk(scene, child) for child in scene.cluster.stores)


async def _restart_on_full_disk(scene: Scene, child: Child) -> None:
    """Kill a node and start it where there is no room for its recovery; either outcome will do, silence will not."""
    await scene.cluster.kill(child)
    child.spawn()
    await scene.sleep(2.0)
    scene.note += f", {child.name} started on a full disk: {'runs' if child.running else child.outcome}"
