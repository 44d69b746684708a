"""Everything that decides who owns a queue: consumers, schedulers, lock nodes, and holders of locks of any kind."""

from __future__ import annotations

from tests.chaos.faults.scene import Scene, fault
from tests.chaos.spec import MASTER_LEASE_S, OWNER_LEASE_S

# ---- consumers -----------------------------------------------------------------------------------


@fault(1)
async def kill_consumers(scene: Scene) -> None:
    await scene.cluster.kill(*scene.cluster.consumers)
    await scene.hold()


@fault(3)
async def kill_one_consumer(scene: Scene) -> None:
    """Its queues go to the others, when it stays away for long enough."""
    victim = scene.rng.choice(scene.cluster.consumers)
    scene.note = scene.names(victim)
    await scene.cluster.kill(victim)
    await scene.sleep(scene.rng.choice((0.0, scene.hold_s, OWNER_LEASE_S + scene.hold_s)))


@fault(3)
async def pause_consumer_beyond_its_lease(scene: Scene) -> None:
    """It wakes up with items in its hands, in queues that others own by now."""
    victim = scene.rng.choice(scene.cluster.consumers)
    await scene.pause(OWNER_LEASE_S * scene.rng.uniform(1.0, 2.5), victim)


@fault(1)
async def pause_consumers(scene: Scene) -> None:
    await scene.pause(scene.hold_s, *scene.cluster.consumers)


@fault(1)
async def restart_consumers(scene: Scene) -> None:
    for child in scene.cluster.consumers:
        await scene.stop(child)
        await scene.cluster.start_these(child)


# ---- schedulers ----------------------------------------------------------------------------------


@fault(2)
async def kill_schedulers(scene: Scene) -> None:
    """One of them, or all."""
    victims = scene.rng.sample(scene.cluster.schedulers, scene.rng.randint(1, len(scene.cluster.schedulers)))
    scene.note = scene.names(*victims)
    await scene.cluster.kill(*victims)
    await scene.hold()


@fault(1)
async def pause_scheduler_beyond_its_lease(scene: Scene) -> None:
    victim = scene.rng.choice(scene.cluster.schedulers)
    await scene.pause(OWNER_LEASE_S * scene.rng.uniform(0.8, 2.0), victim)


# ---- lock nodes ----------------------------------------------------------------------------------


@fault(4)
async def kill_lock_master(scene: Scene) -> None:
    master, *_ = await scene.lock_master_first()
    scene.note = scene.names(master)
    await scene.cluster.kill(master)
    await scene.hold()


@fault(2)
async def pause_lock_master(scene: Scene) -> None:
    """Longer than its lease: it may believe that it still knows who holds what."""
    master, *_ = await scene.lock_master_first()
    await scene.pause(scene.rng.uniform(1.0, 3.0) * MASTER_LEASE_S + scene.hold_s, master)


@fault(1)
async def kill_two_lock_nodes(scene: Scene) -> None:
    first, second, _ = await scene.lock_master_first()
    scene.note = scene.names(first, second)
    await scene.cluster.kill(first, second)
    await scene.hold()


@fault(1)
async def kill_all_lock_nodes(scene: Scene) -> None:
    """Also for longer than the leases of all owners: their queues rest."""
    await scene.cluster.kill(*scene.cluster.locks)
    await scene.sleep(scene.rng.choice((0.0, scene.hold_s, OWNER_LEASE_S + scene.hold_s)))


@fault(1)
async def rolling_restart_of_lock_nodes(scene: Scene) -> None:
    for child in scene.rng.sample(scene.cluster.locks, len(scene.cluster.locks)):
        await scene.stop(child)
        await scene.cluster.start_these(child)


@fault(2)
async def kill_both_masters(scene: Scene) -> None:
    """Of the store, and of the locks of those who read it."""
    master, *_ = await scene.master_first()
    lock_master, *_ = await scene.lock_master_first()
    scene.note = scene.names(master, lock_master)
    await scene.cluster.kill(master, lock_master)
    await scene.hold()


# ---- holders of locks ------------------------------------------------------------------------------


@fault(2)
async def pause_holder_beyond_its_leases(scene: Scene) -> None:
    """It wakes up in the belief that it holds something."""
    victim = scene.rng.choice(scene.cluster.holders)
    await scene.pause(scene.rng.uniform(0.5, 3.0) * OWNER_LEASE_S, victim)


@fault(1)
async def kill_holder(scene: Scene) -> None:
    """What it held is free when the leases have run out."""
    victim = scene.rng.choice(scene.cluster.holders)
    scene.note = scene.names(victim)
    await scene.cluster.kill(victim)
    await scene.hold()
