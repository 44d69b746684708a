"""Several clients, two locks, and everything that can go wrong, in an order that a seed decides.

What must hold at every moment, by true time: of all that believe to hold a lock, one at most, and it has the highest
token. And when the trouble is over, everybody gets what he waits for, and nothing stays locked behind.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from twisted.internet.defer import CancelledError, Deferred

from phxqueue.lock.client import Held, LockError
from phxqueue.lock.client.holding import State
from tests.lock.world import Fault, Process, World

KEYS = ("a", "b")
PROCESSES = 4
TROUBLE_S = 60.0
#: How much faster or slower the clocks of the processes run: within what clients allow for (1 %) together with the
#: server's, which is the true one here.
DRIFTS = (0.0, 0.008, -0.008, 0.004)


class Contender:
    """One process: its clock, and what it believes to hold."""

    def __init__(self, world: World, number: int, random: Random) -> None:
        self.world = world
        self.random = random
        self.process = Process(world, f"c{number}", seed=random.randrange(1 << 30), call_timeout_s=3.0, patience_s=5.0)
        drift = DRIFTS[number]
        self.process.client._lease_clock = lambda: world.clock.seconds() * (1 + drift)
        self.held: list[Held] = []
        self.running = 0
        self.quiet = False

    async def contend(self, checker: Checker) -> None:
        """Again and again: wait for a lock, hold it for a while, give it back or forget it; give up now and then."""
        random = self.random
        self.running += 1
        while not self.quiet:
            key = random.choice(KEYS)
            waiting = self.process.client.acquire(key, random.choice((0.5, 1.0, 3.0)), random.choice((None, 0.0, 3.0)))
            if random.random() < 0.2:
                self.process.clock.callLater(random.uniform(0.0, 2.0), waiting.cancel)
            try:
                held = await waiting
                checker.granted(key, held.token)
            except (LockError, CancelledError):
                await self.pause(random.uniform(0.01, 0.5))
                continue
            self.held.append(held)
            await self.pause(random.choice((0.01, 0.1, 1.0, 6.0)))
            self.held.remove(held)
            if random.random() < 0.9:
                with suppress(LockError):  # lost, or nobody could be told: its lease ends it
                    await held.release()
            del held
        self.running -= 1

    def pause(self, seconds: float) -> Deferred[None]:
        waking: Deferred[None] = Deferred()
        self.process.clock.callLater(seconds, waking.callback, None)
        return waking

    def believed(self, key: str) -> list[Held]:
        """What it would take to be its own if it looked now; without looking."""
        return [held for held in self.held if held.name == key and _believed(held)]


def _believed(held: Held) -> bool:
    holding = held._holding
    return holding.state is State.HELD and not holding.lease.over(holding._lease_clock())


class Checker:
    """What must hold at every moment."""

    def __init__(self) -> None:
        self.contenders: list[Contender] = []
        self.tokens: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.grants = 0

    def granted(self, key: str, token: int) -> None:
        """Somebody has been told that he holds a lock; if others have it by now, its lease is over."""
        self.grants += 1
        self.tokens[key] = max(self.tokens[key], token)

    def look(self) -> None:
        for key in KEYS:
            believed = [held for contender in self.contenders for held in contender.believed(key)]
            assert len(believed) <= 1
            assert all(held._holding.token == self.tokens[key] for held in believed)


def trouble(world: World, random: Random, contenders: list[Contender]) -> None:
    """Something happens."""
    what = random.random()
    process = random.choice(contenders).process
    if what < 0.25:
        if process.stopped:
            process.go_on(timers=random.random() < 0.5)
        else:
            process.stop()
    elif what < 0.45:
        up = [node.group.node_id for node in world.nodes if node.up]
        if len(up) > 2:
            world.kill(random.choice(up))
        for node in world.nodes:
            if not node.up and random.random() < 0.5:
                node.up = True
    elif what < 0.7:
        up = [node.group.node_id for node in world.nodes if node.up]
        chosen = random.choice(up)
        if any(node.group.master == node.group.node_id for node in world.nodes):
            world.depose(chosen)
        else:
            world.elect(chosen)
    elif what < 0.8:
        process.line_broke(random.choice(world.nodes).address)


@pytest.mark.parametrize("seed", range(25))
def test_never_two_holders(seed: int) -> None:
    random = Random(seed)
    world = World()
    checker = Checker()
    contenders = [Contender(world, number, random) for number in range(PROCESSES)]
    checker.contenders = contenders
    faults = (*Fault, *[None] * 60)
    world.fault = lambda method, request: random.choice(faults)
    world.latency = lambda: random.choice((0.0001, 0.001, 0.01, random.uniform(0.0, 0.2)))
    world.on_step = checker.look
    for contender in contenders:
        for _ in range(3):
            Deferred.fromCoroutine(contender.contend(checker))
    end = world.clock.seconds() + TROUBLE_S
    while world.clock.seconds() < end:
        if random.random() < 0.1:
            trouble(world, random, contenders)
        world.run(random.choice((0.0005, 0.01, 0.1)))
    assert checker.grants > 5
    world.fault = lambda method, request: None
    world.latency = lambda: 0.001
    for node in world.nodes:
        node.up = True
    world.depose(0)
    for contender in contenders:
        contender.quiet = True
        if contender.process.stopped:
            contender.process.go_on()
    world.run(60.0)
    assert [contender.running for contender in contenders] == [0] * PROCESSES
    assert world.nodes[0].holders == {}
    world.close()
