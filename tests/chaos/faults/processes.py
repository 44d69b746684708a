"""Processes of the store that die, hang or are stopped."""

from __future__ import annotations

import signal

from tests.chaos.faults.scene import Scene, fault
from tests.chaos.spec import MASTER_LEASE_S

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
    first, second, *_ = await scene.master_first()
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


# ---- processes that hang ---------------------------------------------------------------------------


@fault(2)
async def pause_master_shortly(scene: Scene) -> None:
    """Shorter than the lease."""
    master, *_ = await scene.master_first()
    for _ in range(scene.rng.randint(1, 4)):
        await scene.pause(scene.rng.uniform(0.1, 0.9) * MASTER_LEASE_S, master)
        await scene.sleep(scene.rng.uniform(0.0, 0.3))


@fault(4)
async def pause_master(scene: Scene) -> None:
    """Longer than the lease."""
    master, *_ = await scene.master_first()
    await scene.pause(scene.rng.uniform(1.0, 3.0) * MASTER_LEASE_S + scene.hold_s, master)


@fault(1)
async def pause_follower(scene: Scene) -> None:
    *_, follower = await scene.master_first()
    await scene.pause(MASTER_LEASE_S + scene.hold_s, follower)


@fault(2, majority=False)
async def pause_two(scene: Scene) -> None:
    first, second, *_ = await scene.master_first()
    await scene.pause(MASTER_LEASE_S + scene.hold_s, first, second)


@fault(1, majority=False)
async def pause_all(scene: Scene) -> None:
    await scene.pause(scene.rng.uniform(0.1, 3.0) * MASTER_LEASE_S, *scene.cluster.stores)


@fault(2, majority=False)
async def pause_master_kill_next(scene: Scene) -> None:
    """The master hangs, its successor dies, the old master wakes up."""
    master, *others = await scene.master_first()
    scene.note = f"{scene.names(master)} hangs"
    master.signal(signal.SIGSTOP)
    await scene.sleep(MASTER_LEASE_S * scene.rng.uniform(0.5, 4.0))
    successor = await scene.cluster.looked_up_master() or others[0]
    if successor is master:
        successor = others[0]
    await scene.cluster.kill(successor)
    scene.note += f", {scene.names(successor)} killed"
    await scene.sleep(scene.rng.uniform(0.0, 0.5))
    master.signal(signal.SIGCONT)
    await scene.hold()


# ---- processes that are stopped in order -------------------------------------------------------------


@fault(2)
async def stop_master(scene: Scene) -> None:
    master, *_ = await scene.master_first()
    scene.note = scene.names(master)
    await scene.stop(master)
    await scene.sleep(scene.rng.choice((0.0, scene.hold_s)))


@fault(2)
async def rolling_restart(scene: Scene) -> None:
    for child in scene.rng.sample(scene.cluster.stores, len(scene.cluster.stores)):
        await scene.stop(child)
        await scene.cluster.start_these(child)


@fault(1, majority=False)
async def stop_all(scene: Scene) -> None:
    await scene.stop(*scene.cluster.stores)
