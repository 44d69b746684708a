"""The master's side of counting where readers begin: see :mod:`phxqueue.store.begins`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.proto.store_pb2 import ReaderBegin, StoreCommand
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.store.begins import Begin, Key, after_leaving, next_begin
from phxqueue.store.group import StoreGroup
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import TIMER_VERSION

#: How long beginnings are gathered for one command, in seconds: consumers begin with all their queues at once.
GATHER_S = 0.05
#: Beginnings in one command.
MOST = 1000


class Beginning:
    """Of one Paxos group: notes who begins where, answers how often that was, and has it replicated."""

    def __init__(self, group: StoreGroup, machine: StoreQueues, clock: Clock, timestamp_ms: Callable[[], int]) -> None:
        self._group = group
        self._machine = machine
        self._clock = clock
        self._timestamp_ms = timestamp_ms
        self._fresh: dict[Key, Begin] = {}  # not replicated yet
        self._later: DelayedCall | None = None
        self._log = Logger(namespace="phxqueue.store.beginning")

    def began(self, key: Key, reader_id: int, acked: int, delivered: int, end: int) -> Begin | None:
        """A reader is handed the items from `acked` to `end`; see next_begin. None: it began before."""
        last = self._last(key)
        begin = next_begin(last, reader_id, acked, delivered, end)
        if begin is None:  # its answer may have been lost
            return last if last is not None and last.acked == acked else None
        self._note(key, begin)
        return begin

    def left(self, key: Key, reader_id: int, acked: int, delivered: int) -> None:
        """A reader ends of its own will, when everything below `acked` is finished."""
        begin = after_leaving(self._last(key), reader_id, acked, delivered)
        if begin is not None:
            self._note(key, begin)

    def _last(self, key: Key) -> Begin | None:
        return self._fresh.get(key) or self._machine.begins.known.get(key)

    def _note(self, key: Key, begin: Begin) -> None:
        self._fresh[key] = begin
        if self._later is None:
            self._later = self._clock.callLater(GATHER_S, self._replicate)

    def forget(self, key: Key) -> None:
        """A replay has moved the group: whoever begins now is the first."""
        self._fresh.pop(key, None)

    def clear(self) -> None:
        """Mastership begins or ends."""
        self._fresh.clear()
        self.close()

    def close(self) -> None:
        """End the timer."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        self._later = None

    def _replicate(self) -> None:
        self._later = None
        understood = self._machine.version >= TIMER_VERSION or self._group.lowest_version >= TIMER_VERSION
        if not understood or not self._group.proposing():
            self._fresh.clear()
            return
        if not self._group.window_free:
            self._later = self._clock.callLater(GATHER_S, self._replicate)
            return
        some = dict(list(self._fresh.items())[:MOST])
        begins = [
            ReaderBegin(
                queue_id=key[0], consumer_group_id=key[1], acked=begin.acked, end=begin.end,
                reader_id=begin.reader_id, count=begin.count,
                generation=self._machine.replays.generation(key),
            )
            for key, begin in some.items()
        ]  # fmt: skip
        command = StoreCommand(version=TIMER_VERSION, timestamp_ms=self._timestamp_ms(), begins=begins)
        proposed = self._group.propose(command.SerializeToString())
        proposed.addBoth(self._settled, some)
        if len(some) < len(self._fresh):
            self._later = self._clock.callLater(GATHER_S, self._replicate)

    def _settled(self, result: Any, some: dict[Key, Begin]) -> None:
        if isinstance(result, Failure) and result.check(ReplicaError) is None:
            self._log.failure("group {group}: noting readers failed", result, group=self._group.group_id)
        # What came to nothing is lost with the mastership, or for good: one crash more is needed then.
        for key, begin in some.items():
            if self._fresh.get(key) is begin:
                del self._fresh[key]
