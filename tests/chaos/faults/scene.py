"""What a fault is, and what it has in its hands while it is at work."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.processes.child import Child
from tests.chaos.cluster import ChaosCluster
from tests.chaos.schedule import Planned


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
        self.reactor = reactor
        self.cluster = cluster
        self.rng: random.Random = planned.rng()
        self.hold_s = planned.hold_s
        self.note = ""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        return deferLater(self.reactor, seconds, lambda: None)

    async def hold(self) -> None:
        """Let the fault last."""
        await self.sleep(self.hold_s)

    async def master_first(self) -> list[Child]:
        """The store nodes that have a vote, the master of a random group first."""
        groups = self.cluster.topic.stores[0].paxos_groups
        master = await self.cluster.looked_up_master(self.rng.randrange(groups))
        nodes = [self.cluster.stores[number] for number in sorted(self.cluster.voters)]
        self.rng.shuffle(nodes)
        nodes.sort(key=lambda child: child is not master)
        return nodes

    async def lock_master_first(self) -> list[Child]:
        """The lock nodes, the master of a random group first."""
        groups = self.cluster.topic.locks[0].paxos_groups
        master = await self.cluster.looked_up_lock_master(self.rng.randrange(groups))
        nodes = list(self.cluster.locks)
        self.rng.shuffle(nodes)
        nodes.sort(key=lambda child: child is not master)
        return nodes

    def names(self, *children: Child) -> str:
        return " ".join(child.name for child in children)

    async def pause(self, seconds: float, *children: Child) -> None:
        """Let processes hang for a while."""
        self.note = f"{self.names(*children)} for {seconds:.2f} s"
        for child in children:
            child.signal(signal.SIGSTOP)
        await self.sleep(seconds)
        for child in children:
            child.signal(signal.SIGCONT)

    async def stop(self, *children: Child) -> None:
        """Let processes end in good order."""
        killed = await self.cluster.stop(*children)
        if killed:
            raise NotStopped(f"{self.names(*killed)} did not heed SIGTERM")

    def cut(self, sources: list[Child], targets: list[Child]) -> None:
        """Nothing that the machines of these store nodes say to those of others arrives any more."""
        cluster = self.cluster
        assert cluster.network is not None
        cluster.network.cut([cluster.number(child) for child in sources], [cluster.number(child) for child in targets])

    def others(self, child: Child) -> list[Child]:
        """All store nodes but one."""
        return [other for other in self.cluster.stores if other is not child]


Doing = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        weight: how often, beside the others.
        majority: whether a majority of the store nodes is well and connected all the time, so that service must go on.
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
