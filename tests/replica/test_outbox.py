"""One frame per peer and reactor turn, whatever the number of groups and messages."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from zope.interface import implementer

from phxqueue.paxos.messages import Heartbeat, Message
from phxqueue.replica.interfaces import ITransport
from phxqueue.replica.outbox import Outbox


@implementer(ITransport)
class Frames:
    def __init__(self) -> None:
        self.sent: list[tuple[int, list[int]]] = []

    def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
        self.sent.append((receiver, [group_id for group_id, _ in messages]))

    def reachable(self) -> frozenset[int]:
        return frozenset()


def beat(receiver: int) -> Heartbeat:
    return Heartbeat(0, receiver, 1, -1, 0.0, 1)


def test_a_turn_costs_one_frame_per_peer() -> None:
    clock, frames = Clock(), Frames()
    outbox = Outbox(frames, clock)
    for group_id in range(100):
        for receiver in (1, 2):
            outbox.put(group_id, receiver, beat(receiver))
    assert frames.sent == []
    clock.advance(0)
    assert frames.sent == [(1, list(range(100))), (2, list(range(100)))]


def test_the_next_turn_is_the_next_frame() -> None:
    clock, frames = Clock(), Frames()
    outbox = Outbox(frames, clock)
    outbox.put(0, 1, beat(1))
    clock.advance(0)
    clock.advance(0)
    assert frames.sent == [(1, [0])]
    outbox.put(5, 1, beat(1))
    clock.advance(0)
    assert frames.sent == [(1, [0]), (1, [5])]


def test_what_is_put_while_sending_leaves_in_a_frame_of_its_own() -> None:
    clock = Clock()

    class Answering(Frames):
        def send(self, receiver: int, messages: Sequence[tuple[int, Message]]) -> None:
            super().send(receiver, messages)
            if len(self.sent) == 1:
                outbox.put(9, receiver, beat(receiver))

    frames = Answering()
    outbox = Outbox(frames, clock)
    outbox.put(0, 1, beat(1))
    clock.advance(0)
    clock.advance(0)
    assert frames.sent == [(1, [0]), (1, [9])]


def test_flushing_leaves_nothing_behind() -> None:
    clock, frames = Clock(), Frames()
    outbox = Outbox(frames, clock)
    outbox.put(0, 1, beat(1))
    outbox.flush()
    assert frames.sent == [(1, [0])]
    assert clock.getDelayedCalls() == []


def test_clearing_sends_nothing() -> None:
    clock, frames = Clock(), Frames()
    outbox = Outbox(frames, clock)
    outbox.put(0, 1, beat(1))
    outbox.clear()
    clock.advance(1)
    assert frames.sent == []
    assert clock.getDelayedCalls() == []
