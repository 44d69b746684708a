"""Notes in the log which holders of locks are not heard any more, and what a new master makes of it.

A new master does not know when the former one renewed which lease last, for renewals need no entry. So it lets every
lease run its full length again, also that of a holder who has long been dead: unless the log says so. Half a lease
after a lock was renewed last (who lives renews it two or three times in a lease) its master proposes an entry that
says how much of the lease has passed, and renews it through the log only from then on. Every node notes when it
applied such an entry: the lease began so much earlier, or before that. A node that becomes master while the lock is
still silent lets the lease run on from there, and each lease still has its full length, by clocks whose rates differ
as little as always.

So a lock whose holder and master have died is free one and a half leases and a failover later at the most: the worst
is a master that dies just before it would have noted the silence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from phxqueue.config.settings import LockLimits
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.operations import silent_operation
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, Lock, TableKey
from phxqueue.lock.table import SILENT_VERSION
from phxqueue.net.status import RpcError
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.next_look import NextLook

#: After which part of its lease without a renewal a lock is noted as silent.
QUIET_PART = 2
#: When what could not be proposed is tried again, in seconds.
_RETRY_S = 0.1
#: When it is looked again whether all members know such entries, and what is on its way to another lock group.
_LATER_S = 1.0


class Silences:
    """The silent locks of one Paxos group.

    Args:
        is_open: whether a key is served here.
        lowest_version: the newest command that every member of the group knows.
    """

    def __init__(
        self,
        keeping: Keeping,
        clock: Clock,
        limits: LockLimits,
        is_open: Callable[[TableKey], bool],
        lowest_version: Callable[[], int],
    ) -> None:
        self._keeping = keeping
        self._clock = clock
        self._limits = limits
        self._is_open = is_open
        self._lowest_version = lowest_version
        self._next_look = NextLook(clock, self._tell)
        self._running = False

    def seen(self) -> None:
        """Something has been applied, on whichever node: note by the own clock when a silence was told."""
        for silence in self._keeping.table.take_silenced():
            silence.begun = self._clock.seconds() - silence.passed_ms / 1000

    def inherit(self, key: TableKey) -> None:
        """A lease has begun with a term: that of a lock which was silent before it goes on instead."""
        keeping = self._keeping
        silence = keeping.table.inherited.get(key[1]) if key[0] == LOCKS else None
        if silence is not None and silence.begun is not None:
            keeping.leases.date_back(key, silence.begun)
            keeping.quiet.date_back(key, silence.begun)

    def begin(self) -> None:
        """All leases are about to begin again; each is noted."""
        self._keeping.quiet.clear()
        self._running = True

    def end(self) -> None:
        """The term is over."""
        self._running = False
        self._keeping.quiet.clear()
        self._next_look.close()

    def note(self, key: TableKey) -> None:
        """A key has changed: its lease begins again, or is gone."""
        record = self._keeping.table.record(key)
        if isinstance(record, Lock):
            self._keeping.quiet.begin(key, record.stamp, self._quiet_ms(record), self._clock.seconds())
        else:
            self._keeping.quiet.forget(key)

    def arm(self) -> None:
        """Come back when the next lock has been silent for long enough."""
        due = self._keeping.quiet.next_due() if self._running else None
        if due is not None:
            self._next_look.within(max(0.0, due - self._clock.seconds()))

    def _quiet_ms(self, lock: Lock) -> int:
        """How long a lock may be silent; 0: for ever."""
        return lock.lease_ms // QUIET_PART if lock.lease_ms >= self._limits.silence_lease_min_ms else 0

    def _tell(self) -> None:
        keeping, now = self._keeping, self._clock.seconds()
        known = self._lowest_version() >= SILENT_VERSION
        for key, stamp in keeping.quiet.take_due(now, self._limits.expire_operations):
            begun = keeping.leases.begun(key)
            if begun is None or not keeping.leases.remaining(key, now):
                continue  # its lease ends now, or has no end
            if not known or not self._is_open(key):
                keeping.quiet.again(key, stamp, now + _LATER_S)
                continue
            operation = silent_operation(key[1], stamp, int((now - begun) * 1000))
            keeping.change(key, operation, partial(self._told, key, stamp))
        self.arm()

    def _told(self, key: TableKey, stamp: int, result: Result) -> None:
        if isinstance(result, RpcError):
            self._keeping.quiet.again(key, stamp, self._clock.seconds() + _RETRY_S)
            self.arm()
