"""Fencing: who reads a queue under a lock that has passed to somebody else is refused, whichever node is master.

A reader names the version of its lock (the fencing token) in every Get. The highest one seen of each queue and consumer
group is replicated before the Get that brought it is answered. So no master, however new, answers a reader with a
lower one: it cannot acknowledge what the present holder is working on, though it may not have noticed yet that it has
lost its lock.

While a node of the store still runs a program that does not know the command, tokens are kept in the master's memory
only, and the next master learns them from the holder's next Get.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import Fence, StoreCommand
from phxqueue.replica.errors import NotServing, ReplicaError
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.store.group import StoreGroup
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import FENCE_VERSION
from phxqueue.store.understood import understood

Key = tuple[int, int]
"""(queue id, consumer group id)"""

#: Most tokens in one entry; the rest go with the next.
ENTRY_FENCES = 1000
#: When a full window is looked at again, in seconds.
_AGAIN_S = 0.005


class Fencing:
    """The fencing tokens of one Paxos group's queues, on its master.

    Args:
        timestamp_ms: the time for the next entry's timestamp, Unix milliseconds.
        refuse: makes the error for Gets that meet a group which is not served here (any more).
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        clock: Clock,
        timestamp_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
    ) -> None:
        self._group = group
        self._machine = machine
        self._clock = clock
        self._timestamp_ms = timestamp_ms
        self._refuse = refuse
        self._seen: dict[Key, int] = {}  # under this mastership, whether replicated yet or not
        self._waiting: list[tuple[Key, int, Deferred[None]]] = []
        self._soon: DelayedCall | None = None
        self._log = Logger(namespace="phxqueue.store.fencing")

    def highest(self, key: Key) -> int:
        """The highest token seen; 0: none."""
        return max(self._machine.fences.get(key, 0), self._seen.get(key, 0))

    def check(self, key: Key, token: int) -> None:
        """Refuse a reader whose lock has passed to another. Raises RpcError (FENCED)."""
        highest = self.highest(key)
        if 0 < token < highest:
            raise RpcError(
                Status.FENCED,
                f"consumer group {key[1]} of queue {key[0]} is read under lock version {highest}, this Get carries "
                f"{token}: its lock has passed to another consumer",
            )

    def admit(self, key: Key, token: int) -> Deferred[None] | None:
        """Let a reader in; None: at once, else when its token is replicated. Raises RpcError (FENCED).

        The Deferred fails with RpcError when the group is no longer served here. Whoever waited for it has to `check`
        again: a higher one may have come meanwhile.
        """
        self.check(key, token)
        if token <= self._machine.fences.get(key, 0):
            return None
        self._seen[key] = token
        if not understood(self._group, self._machine, FENCE_VERSION):
            return None
        admitted: Deferred[None] = Deferred()
        self._waiting.append((key, token, admitted))
        self._wake(0.0)
        return admitted

    def clear(self) -> None:
        """Mastership begins or ends: what is not replicated is forgotten."""
        self._seen.clear()
        waiting, self._waiting = self._waiting, []
        for _, _, admitted in waiting:
            _fail(admitted, self._refuse())

    def close(self) -> None:
        """Refuse who waits and end the timer."""
        self.clear()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None

    def _wake(self, seconds: float) -> None:
        if self._soon is None:
            self._soon = self._clock.callLater(seconds, self._flush)

    def _flush(self) -> None:
        self._soon = None
        if self._waiting and not self._group.window_free:
            self._wake(_AGAIN_S)
            return
        taken, self._waiting = self._waiting[:ENTRY_FENCES], self._waiting[ENTRY_FENCES:]
        if self._waiting:
            self._wake(0.0)
        if not taken:
            return
        tokens: dict[Key, int] = {}
        for key, token, _ in taken:
            tokens[key] = max(token, tokens.get(key, 0))
        fences = [Fence(queue_id=key[0], consumer_group_id=key[1], token=token) for key, token in tokens.items()]
        command = StoreCommand(version=FENCE_VERSION, timestamp_ms=self._timestamp_ms(), fences=fences)
        outcome = self._group.propose(command.SerializeToString())
        outcome.addBoth(self._settled, [admitted for _, _, admitted in taken])

    def _settled(self, result: Any, admitted: list[Deferred[None]]) -> None:
        """The entry was applied here, or nobody knows what became of it: then the reader asks again."""
        if not isinstance(result, Failure):
            for one in admitted:
                if not one.called:
                    one.callback(None)
            return
        if result.check(NotServing):
            error = self._refuse()
        else:
            error = RpcError(Status.UNAVAILABLE, f"{result.getErrorMessage()}: ask again")
        if result.check(ReplicaError) is None:
            self._log.failure("group {group}: fencing failed", result, group=self._group.group_id)
        for one in admitted:
            _fail(one, error)


def _fail(admitted: Deferred[None], error: RpcError) -> None:
    if not admitted.called:
        admitted.errback(error)
