"""A network that loses, delays, repeats and reorders, and that can be cut in one direction only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from phxqueue.paxos.messages import Message
from phxqueue.proto.methods import Method
from phxqueue.proto.paxos_pb2 import PeerFrame
from phxqueue.replica import codec
from phxqueue.replica.interfaces import ITransport, RequestT, ResponseT
from phxqueue.testing.sim.hellos import HELLO, Hellos
from phxqueue.testing.sim.peer_calls import MARK, PeerCalls
from phxqueue.testing.sim.world import ProcessClock, World

Observer = Callable[[int, Sequence[tuple[int, Message]]], None]
"""Sees every frame at the moment it is sent: (sender, [(group_id, message), ...])."""


@dataclass(slots=True)
class NetworkFaults:
    """How bad the network is. Probabilities per frame; delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min: float = 0.0001
    delay_max: float = 0.001
    spike: float = 0.0  # probability of a delay of up to spike_max
    spike_max: float = 0.5


class Network:
    """Delivers frames between processes.

    Attributes:
        cut: the (sender, receiver) pairs that hear nothing: what they send is lost.
        held: pairs whose frames wait until the pair is removed, as TCP keeps sending while a route is gone.
        observers: see every frame that is sent, whatever becomes of it.
    """

    def __init__(self, world: World) -> None:
        self.faults = NetworkFaults()
        self.cut: set[tuple[int, int]] = set()
        self.held: dict[tuple[int, int], list[bytes]] = {}
        self.observers: list[Observer] = []
        self._world = world
        self._inboxes: dict[int, tuple[ProcessClock, Callable[[int, bytes], None]]] = {}
        self._sent = 0
        self._latest: dict[tuple[int, int], int] = {}  # the youngest frame that has arrived, by its number

    def attach(self, node_id: int, clock: ProcessClock, receive: Callable[[int, bytes], None]) -> None:
        """Have frames for `node_id` handed to `receive(sender, wire)`; replaces what was attached before."""
        self._inboxes[node_id] = (clock, receive)

    def detach(self, node_id: int) -> None:
        """The process is gone; frames for it are lost."""
        self._inboxes.pop(node_id, None)

    def attached(self, node_id: int) -> bool:
        """Whether that process is running."""
        return node_id in self._inboxes

    def send(self, sender: int, receiver: int, wire: bytes) -> None:
        """Send one frame, to be delivered never, once, or twice."""
        random, faults = self._world.random, self.faults
        if (sender, receiver) in self.cut:
            return
        if faults.loss and random.random() < faults.loss:
            self._world.count("lost frame")
            return
        if (sender, receiver) in self.held:
            self.held[sender, receiver].append(wire)
            return
        self._deliver_later(sender, receiver, wire)
        if faults.duplicate and random.random() < faults.duplicate:
            self._world.count("repeated frame")
            self._deliver_later(sender, receiver, wire)

    def release(self, pairs: set[tuple[int, int]]) -> None:
        """Let through what was held up between these pairs."""
        for pair in sorted(pairs):
            for wire in self.held.pop(pair, ()):
                self._deliver_later(*pair, wire)

    def delay(self) -> float:
        """Draw how long one message travels."""
        random, faults = self._world.random, self.faults
        if faults.spike and random.random() < faults.spike:
            self._world.count("late frame")
            return random.uniform(0.0, faults.spike_max)
        return faults.delay_min + (faults.delay_max - faults.delay_min) * random.random()

    def lost(self) -> bool:
        """Draw whether a call or an answer between client and node gets lost."""
        lost = self.faults.loss > 0 and self._world.random.random() < self.faults.loss
        if lost:
            self._world.count("lost call")
        return lost

    def _deliver_later(self, sender: int, receiver: int, wire: bytes) -> None:
        self._sent += 1
        self._world.call_later(self.delay(), self._deliver, sender, receiver, wire, self._sent)

    def _deliver(self, sender: int, receiver: int, wire: bytes, number: int) -> None:
        latest = self._latest.get((sender, receiver), 0)
        if number < latest:
            self._world.count("overtaken frame")
        self._latest[sender, receiver] = max(latest, number)
        inbox = self._inboxes.get(receiver)
        if inbox is not None:
            clock, receive = inbox
            clock.receive(receive, sender, wire)


@implementer(ITransport)
class SimTransport:
    """One node's end of the network. Frames really are encoded, so the codec is part of what is tested.

    Attributes:
        calls: what the node calls and answers beside frames.
        stamp: says on every frame where it comes from.
    """

    def __init__(
        self,
        network: Network,
        node_id: int,
        members: Sequence[int],
        clock: ProcessClock,
        report: Callable[[Failure], None],
    ) -> None:
        self.calls = PeerCalls(clock, partial(network.send, node_id), report)
        self.stamp: Callable[[bytes], bytes] = lambda wire: wire
        self._network = network
        self._node_id = node_id
        self._peers = [member for member in members if member != node_id]

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        """Send one frame."""
        for observe in self._network.observers:
            observe(self._node_id, messages)
        wire = codec.encode_frame(self._node_id, messages).SerializeToString()
        self._network.send(self._node_id, receiver, self.stamp(wire))

    def call(
        self, receiver: int, method: Method[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> Deferred[ResponseT]:
        """Call a peer."""
        return self.calls.call(receiver, method, request, timeout)

    def reachable(self) -> frozenset[int]:
        """Return the peers that are running and not cut off (a connection would be open)."""
        me, network = self._node_id, self._network
        return frozenset(
            peer
            for peer in self._peers
            if network.attached(peer) and not {(me, peer), (peer, me)} & (network.cut | network.held.keys())
        )


def frame_receiver(
    node_id: int,
    receive: Callable[[Sequence[tuple[int, Any]]], None],
    calls: PeerCalls,
    hellos: Hellos | None,
) -> Callable[[int, bytes], None]:
    """Return an inbox that decodes frames for a node, and hands calls and hellos on."""

    def take(sender: int, wire: bytes) -> None:
        if wire.startswith(MARK):
            calls.receive(sender, wire)
            return
        if hellos is not None:
            if wire.startswith(HELLO):
                hellos.receive(sender, wire)
                return
            frame = hellos.taken(sender, wire)
            if frame is None:
                return
            wire = frame
        receive(codec.decode_frame(PeerFrame.FromString(wire), sender, node_id))

    return take
