"""Disks that are full: of a machine, and so of the lock node on it, too."""

from __future__ import annotations

from phxqueue.admin.gather import gather
from phxqueue.admin.processes.child import Child
from tests.chaos.disks import MIB
from tests.chaos.faults.scene import Scene, fault
from tests.chaos.spec import LOW_WATER


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
    scene.cluster.doomed.update(scene.cluster.on_machine(scene.cluster.number(victim)))
    _fill(scene, scene.rng.choice((0, 64 * 1024, MIB)), victim)
    await scene.hold()
    if scene.rng.random() < 0.5:
        await _restart_on_full_disk(scene, victim)


@fault(1, majority=False, disk=True)
async def disk_full_everywhere(scene: Scene) -> None:
    scene.cluster.doomed.update(scene.cluster.stores, scene.cluster.locks)
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
