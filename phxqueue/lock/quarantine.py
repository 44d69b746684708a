"""The time after a restore from a backup in which no lock is granted.

Whoever got a lock after the backup was taken may believe in it until its lease has run out, and nothing here tells of
him. So a restored table grants nothing new (what it knows to be held goes on) until a master has counted the time that
such leases can have at most. The table itself refuses (`LockTable.quarantine_ms`); this only ends it.
"""

from __future__ import annotations

import math

from twisted.logger import Logger

from phxqueue.lock.keeping import Keeping
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import WHOLE_TABLE
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import LockOperation
from phxqueue.replica.interfaces import Clock, DelayedCall

#: When an end that could not be proposed is proposed again, in seconds.
_RETRY_S = 0.1
#: When somebody who wants a lock meanwhile should come again.
_COME_AGAIN_MS = 1000


class Quarantine:
    """Of one Paxos group, while this node is its master."""

    def __init__(self, keeping: Keeping, clock: Clock) -> None:
        self._keeping = keeping
        self._clock = clock
        self._timer: DelayedCall | None = None
        self._running = False
        self._ends_at = 0.0
        self._log = Logger(namespace="phxqueue.lock.quarantine")

    def begin(self) -> None:
        """A term has begun."""
        self.end()
        self._running = True
        seconds = self._keeping.table.quarantine_ms / 1000
        if seconds:
            self._log.warn("restored from a backup: no lock is granted for {seconds:g} s", seconds=seconds)
            self._ends_at = self._clock.seconds() + seconds
            self._timer = self._clock.callLater(seconds, self._open)

    def refusal(self) -> RpcError:
        """What somebody is told who wants a lock meanwhile."""
        left = max(0.0, self._ends_at - self._clock.seconds())
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"this lock group was restored from a backup, and grants no locks for another {math.ceil(left)} s, until "
            "those that nobody knows of any more have run out: ask again",
            retry_after_ms=_COME_AGAIN_MS,
        )

    def end(self) -> None:
        """The term is over."""
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _open(self) -> None:
        self._timer = None
        self._keeping.change(WHOLE_TABLE, LockOperation(kind=LockOperation.OPEN), self._told)

    def _told(self, result: Result) -> None:
        if isinstance(result, RpcError) and self._running and self._timer is None:
            self._timer = self._clock.callLater(_RETRY_S, self._open)
