"""Nodes that forget everything, come and go, while others die, hang or are cut off at the same time.

No acknowledged item may rest on a disk that is emptied here: one disk at a time, and the next one only when the change
of members before it is settled, as ``phxqueue members`` says.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.admin.mastership import ReplicaSet
from phxqueue.admin.member_changes import Place
from phxqueue.admin.processes.child import Child
from phxqueue.paxos.config import MemberKind
from tests.chaos.faults.scene import Scene, fault
from tests.chaos.spec import MASTER_LEASE_S

#: Of a node that is a member no more and comes back.
LEARNER_PRIORITY = 0


def _store(scene: Scene) -> ReplicaSet:
    return scene.cluster.topic.stores[0]


def _quiet(line: str) -> None:
    """What a person would read."""


@fault(4, majority=False)
async def empty_disk(scene: Scene) -> None:
    """A store node is killed, its disk is emptied, it starts anew and is replaced, among other faults."""
    nodes = await scene.master_first()
    victim = scene.rng.choice((nodes[0], nodes[1], *scene.cluster.stores))
    scene.note = scene.names(victim)
    changing = await _start_emptied(scene, _store(scene), victim)
    if victim not in nodes:
        nodes = [victim, *nodes]  # a learner: any two of the others may go
    await _mischief(scene, [child for child in nodes if child is not victim])
    await scene.cluster.revive()
    await changing


@fault(2)
async def empty_lock_disk(scene: Scene) -> None:
    """The same for a lock node."""
    nodes = await scene.lock_master_first()
    victim = scene.rng.choice(nodes[:2])
    scene.note = scene.names(victim)
    changing = await _start_emptied(scene, scene.cluster.topic.locks[0], victim)
    await _mischief(scene, [child for child in nodes if child is not victim])
    await scene.cluster.revive()
    await changing


@fault(4, majority=False)
async def change_members(scene: Scene) -> None:
    """The learner gets a vote, a voter (perhaps the master) is removed and comes back as learner, among other faults.

    With an emptied disk, or with what it knew before.
    """
    cluster = scene.cluster
    changes = cluster.changes(_store(scene), _quiet)
    nodes = await scene.master_first()
    leaver = scene.rng.choice((nodes[0], *nodes))
    (newcomer,) = [child for child in cluster.stores if child not in nodes]
    new, left = cluster.number(newcomer), cluster.number(leaver)
    await _amid(scene, [*nodes, newcomer], lambda: changes.promote(new, MemberKind.VOTER))
    staying = [child for child in (*nodes, newcomer) if child is not leaver]
    await _amid(scene, staying, lambda: changes.remove(left))
    emptied = scene.rng.random() < 0.7
    scene.note = f"{newcomer.name} for {leaver.name}{', emptied' if emptied else ''}{scene.note}"
    if emptied:
        await cluster.kill(leaver)
        cluster.empty_disk(leaver)
        await cluster.start_these(leaver)
    place = _place(scene, left)
    await _amid(scene, staying, lambda: changes.add(left, place, LEARNER_PRIORITY))
    cluster.take_over(await changes.look())


def _place(scene: Scene, number: int) -> Place:
    node = _store(scene).node(number)
    return Place(node.address, node.paxos_address)


async def _start_emptied(scene: Scene, replica_set: ReplicaSet, victim: Child) -> Deferred[None]:
    """Return the command that re-admits it, under way."""
    cluster = scene.cluster
    await cluster.kill(victim)
    cluster.empty_disk(victim)
    await scene.sleep(scene.rng.choice((0.0, 0.0, scene.hold_s)))
    await cluster.start_these(victim)
    changes = cluster.changes(replica_set, _quiet)
    return Deferred.fromCoroutine(changes.replace(cluster.number(victim), None))


async def _amid(scene: Scene, nodes: list[Child], change: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Carry a change through while something happens to one of these nodes."""
    changing: Deferred[Any] = Deferred.fromCoroutine(change())
    await _mischief(scene, nodes)
    await scene.cluster.revive()
    await changing


async def _mischief(scene: Scene, nodes: list[Child]) -> None:
    """Nothing, or something that happens to one of these nodes just now."""
    await scene.sleep(scene.rng.uniform(0.0, 0.5))
    what = scene.rng.choice((_nothing, _nothing, _die, _hang, _cut_off, _restart))
    await what(scene, scene.rng.choice(nodes))


async def _nothing(scene: Scene, child: Child) -> None:
    pass


async def _die(scene: Scene, child: Child) -> None:
    scene.note += f", {child.name} killed"
    await scene.cluster.kill(child)
    await scene.sleep(scene.rng.uniform(0.0, 1.0))


async def _hang(scene: Scene, child: Child) -> None:
    scene.note += f", {child.name} hangs"
    child.signal(signal.SIGSTOP)
    await scene.sleep(scene.rng.uniform(0.5, 4.0) * MASTER_LEASE_S)
    child.signal(signal.SIGCONT)


async def _cut_off(scene: Scene, child: Child) -> None:
    if scene.cluster.network is None:
        return
    scene.note += f", {child.name} cut off"
    machine = scene.cluster.number(child)
    others = [number for number in range(len(scene.cluster.stores)) if number != machine]
    scene.cluster.network.cut([machine], others)
    scene.cluster.network.cut(others, [machine])
    await scene.sleep(scene.rng.uniform(0.5, 4.0) * MASTER_LEASE_S)
    scene.cluster.network.heal()


async def _restart(scene: Scene, child: Child) -> None:
    scene.note += f", {child.name} restarted"
    await scene.stop(child)
    await scene.cluster.start_these(child)
