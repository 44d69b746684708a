"""Collects what one reactor turn has to say to each peer, and sends it as one frame."""

from __future__ import annotations

from phxqueue.paxos.messages import Message
from phxqueue.replica.interfaces import Clock, DelayedCall, ITransport


class Outbox:
    """Messages of all groups of a node, grouped by receiver; flushed at the end of the reactor turn.

    A turn that steps a hundred groups thus costs one frame per peer, and heartbeats of all groups travel together.
    """

    def __init__(self, transport: ITransport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._waiting: dict[int, list[tuple[int, Message]]] = {}
        self._flush_call: DelayedCall | None = None

    def put(self, group_id: int, receiver: int, message: Message) -> None:
        """Queue one message; everything put within this reactor turn leaves together."""
        waiting = self._waiting.get(receiver)
        if waiting is None:
            self._waiting[receiver] = [(group_id, message)]
        else:
            waiting.append((group_id, message))
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self.flush)

    def flush(self) -> None:
        """Hand everything to the transport now."""
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
        waiting, self._waiting = self._waiting, {}
        for receiver, messages in waiting.items():
            self._transport.send(receiver, messages)

    def clear(self) -> None:
        """Forget what was not sent yet (shutdown)."""
        self._waiting.clear()
        if self._flush_call is not None and self._flush_call.active():
            self._flush_call.cancel()
        self._flush_call = None
