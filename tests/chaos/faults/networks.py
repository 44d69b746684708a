"""Machines that are cut off from each other. What is cut is a machine: the lock node on it is cut off, too."""

from __future__ import annotations

from tests.chaos.faults.scene import Scene, fault
from tests.chaos.spec import MASTER_LEASE_S


@fault(3, network=True)
async def isolate_master(scene: Scene) -> None:
    master, *_ = await scene.master_first()
    others = scene.others(master)
    scene.note = scene.names(master)
    scene.cut([master], others)
    scene.cut(others, [master])
    await scene.hold()


@fault(2, network=True)
async def isolate_follower(scene: Scene) -> None:
    *others, follower = await scene.master_first()
    scene.note = scene.names(follower)
    scene.cut([follower], others)
    scene.cut(others, [follower])
    await scene.hold()


@fault(3, network=True)
async def master_is_not_heard(scene: Scene) -> None:
    """One way: the master hears the others, and they do not hear it."""
    master, *_ = await scene.master_first()
    others = scene.others(master)
    scene.note = scene.names(master)
    scene.cut([master], others)
    await scene.hold()


@fault(3, network=True)
async def master_hears_nothing(scene: Scene) -> None:
    """The other way."""
    master, *_ = await scene.master_first()
    others = scene.others(master)
    scene.note = scene.names(master)
    scene.cut(others, [master])
    await scene.hold()


@fault(2, network=True)
async def cut_master_from_one(scene: Scene) -> None:
    """Two ways or one: both still have the third node."""
    master, *others = await scene.master_first()
    other = scene.rng.choice(others)
    ways = scene.rng.choice(("->", "<-", "<->"))
    scene.note = f"{scene.names(master)} {ways} {scene.names(other)}"
    if ">" in ways:
        scene.cut([master], [other])
    if "<" in ways:
        scene.cut([other], [master])
    await scene.hold()


@fault(1, majority=False, network=True)
async def everybody_alone(scene: Scene) -> None:
    scene.cut(scene.cluster.stores, scene.cluster.stores)
    await scene.hold()


@fault(2, majority=False, network=True)
async def ring_of_one_way_cuts(scene: Scene) -> None:
    """Each hears only one of the others."""
    nodes = await scene.master_first()
    for source, target in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        scene.cut([source], [target])
    await scene.hold()


@fault(2, majority=False, network=True)
async def flapping(scene: Scene) -> None:
    """The master is cut off and back again, around the length of its lease."""
    assert scene.cluster.network is not None
    for _ in range(scene.rng.randint(3, 8)):
        master, *_ = await scene.master_first()
        others = scene.others(master)
        scene.cut([master], others)
        if scene.rng.random() < 0.5:
            scene.cut(others, [master])
        await scene.sleep(scene.rng.uniform(0.3, 1.5) * MASTER_LEASE_S)
        scene.cluster.network.heal()
        await scene.sleep(scene.rng.uniform(0.0, 1.5) * MASTER_LEASE_S)


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
    scene.cut([master], scene.others(master))
    scene.cut(scene.others(master), [master])
    await scene.sleep(MASTER_LEASE_S * scene.rng.uniform(0.5, 4.0))
    victims = scene.rng.sample(others, scene.rng.randint(1, 2))
    scene.note = f"{scene.names(master)} alone, {scene.names(*victims)} killed"
    await scene.cluster.kill(*victims)
    assert scene.cluster.network is not None
    scene.cluster.network.heal()
    await scene.hold()
