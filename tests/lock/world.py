"""A lock group of three nodes and clients of it, on virtual time, without sockets: real services, faulty lines.

Nodes run the real LockService on a log that a majority of one keeps. Clients are real LockClients with the real
MasterClient; only the connections are made of timers. A client has a clock of its own, which stands still while its
process is stopped: what arrives meanwhile waits for it, as in the socket of a stopped process.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from itertools import count
from math import inf
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from phxqueue.config import Cluster, LockLimits, LockNode, Topic
from phxqueue.lock.client import LockClient, LockClientSettings
from phxqueue.lock.service import LockService
from phxqueue.lock.shares import Share
from phxqueue.net.address import Address
from phxqueue.net.routing import MasterClient, RoutingSettings
from phxqueue.net.service import RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import ChangeShareRequest, ShareChange
from phxqueue.proto.methods import CHANGE_SHARE
from phxqueue.replica.errors import OutcomeUnknown
from tests.lock.rig import LockTableGroup, topic
from tests.stand_ins import NO_CONTEXT, VALUE

LATENCY_S = 0.001


class Fault(enum.Enum):
    """What becomes of one call."""

    REQUEST_LOST = "never arrives, and the connection breaks"
    REPLY_LOST = "carried out, and the connection breaks"
    SILENT = "never arrives, no answer"


class Group(LockTableGroup):
    """The Paxos group of one node: what its master chooses is at once everybody's."""

    def __init__(self, node_id: int, peers: list[Group]) -> None:
        super().__init__(master=None)
        self.node_id = node_id
        self._peers = peers

    def serving(self) -> bool:
        return self.master == self.node_id and self.lease

    def proposing(self) -> bool:
        return self.master == self.node_id

    def append(self, payload: bytes, outcome: Deferred[Any] | None = None) -> None:
        for peer in self._peers:
            if peer is not self:
                peer.learn(payload)
        super().append(payload, outcome)

    def learn(self, payload: bytes) -> None:
        self.log.append(payload)
        self.state_machine.apply(len(self.log) - 1, VALUE, payload)
        for applied in list(self.on_applied):
            applied(len(self.log) - 1, payload)


class Node:
    """One lock node."""

    def __init__(self, world: World, lock_index: int, node_id: int, group: Group) -> None:
        lock = world.topic.locks[lock_index]
        self.group = group
        self.lock_id = lock.lock_id
        self.up = True
        self.address = Address(lock.nodes[node_id].ip, lock.nodes[node_id].port)
        numbers = count(1)
        node = LockNode(
            cluster=Cluster(topics=(world.topic,)),
            topic=world.topic,
            lock=lock,
            node=lock.nodes[node_id],
            data_dir=Path("data"),
            limits=world.limits,
        )
        self.service = LockService(
            node,
            {0: group},
            world.clock,
            accepting=lambda: True,
            number=lambda: next(numbers) << 8 | node_id,
            caller=Process(world, f"lock {lock.lock_id} node {node_id}", node_id).caller,
        )
        self.rpc = RpcService(f"lock {lock.lock_id} node {node_id}")
        self.service.register(self.rpc)

    @property
    def holders(self) -> dict[str, str]:
        return {name: lock.client_id for name, lock in self.group.state_machine.locks.items()}


class World:
    """The lock groups of a topic.

    Args:
        scales: of the lock groups.
        spread: whether all know their shares, or only the first of them; None: nobody does, and nobody is master.

    Attributes:
        clock: true time, which the nodes' clocks and all leases follow.
        fault: asked about every call.
        latency: how long the next message travels, in seconds; messages of one connection keep their order.
        on_step: called whenever time has moved on.
        calls: (method, request) of every call that was sent.
    """

    def __init__(self, *scales: int, limits: LockLimits | None = None, spread: bool | None = True) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.topic: Topic = topic(*scales)
        self.limits = limits or LockLimits()
        self.fault: Callable[[str, Any], Fault | None] = lambda method, request: None
        self.latency: Callable[[], float] = lambda: LATENCY_S
        self.on_step: Callable[[], None] = lambda: None
        self.calls: list[tuple[str, Any]] = []
        self.processes: list[Process] = []
        self.groups: list[list[Node]] = []
        for index in range(len(self.topic.locks)):
            peers: list[Group] = []
            peers.extend(Group(node_id, peers) for node_id in range(3))
            self.groups.append([Node(self, index, group.node_id, group) for group in peers])
        if spread is None:
            return
        for index in range(len(self.groups)):
            self.elect(0, index)
        if len(scales) > 1:
            weights = tuple((lock_id, scale) for lock_id, scale in enumerate(scales, 1) if scale)
            for nodes in self.groups if spread else self.groups[:1]:
                adopt(nodes[0], Share(1, weights))
            self.clock.advance(0)

    @property
    def nodes(self) -> list[Node]:
        """Of the first lock group."""
        return self.groups[0]

    def node_at(self, address: Address) -> Node:
        [found] = [node for nodes in self.groups for node in nodes if node.address == address]
        return found

    def elect(self, node_id: int, index: int = 0) -> None:
        """A node becomes master."""
        nodes = self.groups[index]
        for node in nodes:
            node.group.master = node_id if node.up else None
        for changed in list(nodes[node_id].group.on_mastership):
            changed(True)
        self.clock.advance(0)

    def kill(self, node_id: int, index: int = 0) -> None:
        """A node's process is killed: its connections break."""
        node = self.groups[index][node_id]
        was_master = node.group.master == node_id
        node.up = False
        for process in self.processes:
            process.line_broke(node.address)
        if was_master:
            for other in self.groups[index]:
                other.group.master = None
            node.group.lose(OutcomeUnknown("killed"))

    def depose(self, to: int, index: int = 0) -> None:
        """Mastership goes from one living node to another."""
        for node in self.groups[index]:
            if node.group.master == node.group.node_id:
                node.group.lose(OutcomeUnknown("deposed"), to)
        self.elect(to, index)

    def run(self, seconds: float) -> None:
        """Let time pass for everybody, in steps of what is due."""
        end = self.clock.seconds() + seconds
        clocks = [self.clock, *(process.clock for process in self.processes if not process.stopped)]
        while True:
            left = end - self.clock.seconds()
            # By how much each clock has to go on: they agree but for the last bit.
            due = min((call.getTime() - clock.seconds() for clock in clocks for call in clock.calls), default=inf)
            for clock in clocks:
                clock.advance(max(0.0, min(due, left)))
            self.on_step()
            if due > left:
                return

    def close(self) -> None:
        """End everything; check that clients leave no timer behind."""
        for process in self.processes:
            if process.stopped:
                process.go_on()
            process.client.close()
        self.run(60.0)
        for process in self.processes:
            assert process.clock.getDelayedCalls() == []
        for nodes in self.groups:
            for node in nodes:
                node.service.close()
        assert self.clock.getDelayedCalls() == []


def adopt(master: Node, share: Share) -> None:
    """A lock group gets its first share of the keys."""
    change = ShareChange(step=ShareChange.ADOPT, share=share.message())
    request = ChangeShareRequest(topic_id=1000, lock_id=master.lock_id, change=change)
    master.rpc.table[CHANGE_SHARE.number].handler(request, NO_CONTEXT)


class Process:
    """A client process."""

    def __init__(self, world: World, name: str = "anna", seed: int = 1, **settings: Any) -> None:
        self.world = world
        self.clock = Clock()
        self.clock.advance(world.clock.seconds())
        self.stopped = False
        self._lines: dict[Address, Line] = {}
        self._inbox: list[Callable[[], None]] = []
        caller = self.caller = MasterClient(self, self.clock, random.Random(seed), settings=RoutingSettings())
        self.client = LockClient(
            world.topic,
            caller,
            self.clock,
            settings=LockClientSettings(**settings),
            name=name,
            random=random.Random(seed),
            lease_clock=world.clock.seconds,
        )
        world.processes.append(self)

    # ---- Connections ----------------------------------------------------------------------------

    def existing(self, address: Address) -> Line | None:
        line = self._lines.get(address)
        return line if line is not None and line.open else None

    def connection(self, address: Address) -> Deferred[Line]:
        line = self.existing(address)
        if line is None:
            node = self.world.node_at(address)
            if not node.up:
                text = f"{address}: connection refused (is the node running?)"
                return fail(RpcError(Status.UNAVAILABLE, text, maybe_executed=False))
            line = self._lines[address] = Line(self, node)
        return succeed(line)

    def line_broke(self, address: Address) -> None:
        line = self._lines.pop(address, None)
        if line is not None:
            line.broke()

    # ---- SIGSTOP and SIGCONT --------------------------------------------------------------------

    def receive(self, act: Callable[[], None]) -> None:
        """Something arrives from the network."""
        if self.stopped:
            self._inbox.append(act)
        else:
            act()

    def stop(self) -> None:
        self.stopped = True

    def go_on(self, *, timers: bool = True) -> None:
        """Timers that are due, and what has arrived, in this order; without `timers` only what has arrived."""
        self.stopped = False
        if timers:
            self.clock.advance(self.world.clock.seconds() - self.clock.seconds())
        inbox, self._inbox = self._inbox, []
        for act in inbox:
            act()


class Line:
    """A connection of a client to a node."""

    def __init__(self, process: Process, node: Node) -> None:
        self.open = True
        self.last_heard = 0.0
        self._process = process
        self._world = process.world
        self._node = node
        self._pending: dict[Deferred[Any], Any] = {}
        self._serving: list[Deferred[Any]] = []
        self._last_arrival: dict[str, float] = {}

    def call(self, method: Any, request: Any, timeout: float) -> Deferred[Any]:
        world = self._world
        sent = method.request.FromString(request.SerializeToString())
        world.calls.append((method.name, sent))
        answer: Deferred[Any] = Deferred(self._cancelled)
        late = RpcError(Status.DEADLINE_EXCEEDED, f"{self._node.address} did not answer in time")
        self._pending[answer] = self._process.clock.callLater(timeout, self._end, answer, late)
        fault = world.fault(method.name, sent)
        if fault is Fault.REQUEST_LOST:
            self._process.receive(self.broke)
        elif fault is not Fault.SILENT:
            self._send("to", self._arrive, method, sent, answer, fault)
        return answer

    def _send(self, direction: str, act: Callable[..., None], *arguments: Any) -> None:
        """Have something arrive, behind what was sent before."""
        clock = self._world.clock
        at = max(clock.seconds() + self._world.latency(), self._last_arrival.get(direction, 0.0))
        self._last_arrival[direction] = at
        clock.callLater(max(0.0, at - clock.seconds()), act, *arguments)

    def broke(self) -> None:
        """The connection is lost, at both ends."""
        self.open = False
        serving, self._serving = self._serving, []
        for served in serving:
            served.cancel()
        for answer in list(self._pending):
            gone = RpcError(Status.UNAVAILABLE, f"connection to {self._node.address} lost")
            self._process.receive(lambda answer=answer, gone=gone: self._end(answer, gone))  # type: ignore[misc]

    def _arrive(self, method: Any, request: Any, answer: Deferred[Any], fault: Fault | None) -> None:
        if not self.open:
            return
        try:
            row = self._node.rpc.table.get(method.number)
            if row is None:
                raise RpcError(Status.INVALID_ARGUMENT, f"{self._node.rpc.name} does not know method {method.number}")
            result = row.handler(request, NO_CONTEXT)
        except RpcError as error:
            result = fail(error)
        served: Deferred[Any] = result if isinstance(result, Deferred) else succeed(result)
        self._serving.append(served)
        answer.served = served  # type: ignore[attr-defined]

        def reply(outcome: Any) -> None:
            if served in self._serving:
                self._serving.remove(served)
            if fault is Fault.REPLY_LOST:
                self._process.receive(self.broke)
            elif self.open:
                self._send("from", self._process.receive, lambda: self._end(answer, outcome))

        served.addBoth(reply)

    def _cancelled(self, answer: Deferred[Any]) -> None:
        timer = self._pending.pop(answer, None)
        if timer is not None:
            timer.cancel()

        def arrive() -> None:
            served = getattr(answer, "served", None)
            if served is not None and served in self._serving:
                self._serving.remove(served)
                served.addErrback(lambda _: None)
                served.cancel()

        self._send("to", arrive)

    def _end(self, answer: Deferred[Any], outcome: Any) -> None:
        timer = self._pending.pop(answer, None)
        if timer is None:
            return
        if timer.active():
            timer.cancel()
        if isinstance(outcome, Failure) and not outcome.check(RpcError):
            return  # the node gave it up: its process is gone, or ours has said so
        self.last_heard = self._process.clock.seconds()
        if isinstance(outcome, RpcError):
            answer.errback(outcome)
        else:
            answer.callback(outcome)


def watched(deferred: Deferred[Any]) -> list[Any]:
    """A list that gets the result, or the exception, once there is one."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
