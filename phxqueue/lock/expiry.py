"""Removes, through the log, what has outlived its lease by the master's clock."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from phxqueue.config.settings import LockLimits
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.operations import expire_operation
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, STRINGS, TableKey
from phxqueue.lock.silence import Silences
from phxqueue.net.status import RpcError
from phxqueue.replica.interfaces import Clock, DelayedCall

#: When what could not be proposed is tried again, in seconds.
_RETRY_S = 0.1
#: When what is on its way to another lock group is looked at again, in seconds.
_MOVING_S = 1.0


class Expiry:
    """The clean-up of one Paxos group while this node is its master.

    Args:
        limits: how many are proposed in one turn; which silences are noted.
        about_to_be_free: told of every lock whose removal has been offered.
        is_open: whether a key is served here; what is on its way to another lock group does not expire.
        lowest_version: the newest command that every member of the group knows.
    """

    def __init__(
        self,
        keeping: Keeping,
        clock: Clock,
        limits: LockLimits,
        about_to_be_free: Callable[[str], None],
        is_open: Callable[[TableKey], bool],
        lowest_version: Callable[[], int],
    ) -> None:
        self._keeping = keeping
        self._clock = clock
        self._most = limits.expire_operations
        self._about_to_be_free = about_to_be_free
        self._is_open = is_open
        self._timer: DelayedCall | None = None
        self._timer_at = 0.0
        self._running = False
        self.expired = 0  # removed under this node
        self._silences = Silences(keeping, clock, limits, is_open, lowest_version)

    def term_begun(self) -> None:
        """Every lease runs its full length again, but those of locks that are known to be silent."""
        self.begin()
        self._silences.inherit()
        self.arm()

    def begin(self) -> None:
        """Every lease runs its full length again."""
        keeping, now = self._keeping, self._clock.seconds()
        table = keeping.table
        leases = [((LOCKS, name), lock.stamp, lock.lease_ms) for name, lock in table.locks.items()]
        leases += [((STRINGS, key), string.stamp, string.lease_ms) for key, string in table.strings.items()]
        keeping.leases.restart(leases, now)
        self._running = True
        self._silences.begin()
        self.arm()

    def end(self) -> None:
        """The term is over: whatever expires is the next master's business."""
        self._running = False
        self._keeping.leases.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._silences.end()

    def seen(self) -> None:
        """Something has been applied, on whichever node."""
        self._silences.seen()

    def note(self, key: TableKey) -> None:
        """A key has changed: its lease begins again, or is gone."""
        if not self._running:
            return
        record = self._keeping.table.record(key)
        if record is None:
            self._keeping.leases.forget(key)
        else:
            self._keeping.leases.begin(key, record.stamp, record.lease_ms, self._clock.seconds())
        self._silences.note(key)

    def arm(self) -> None:
        """Come back when the next lease runs out, or the next lock has been silent for long enough."""
        self._silences.arm()
        due = self._keeping.leases.next_due() if self._running else None
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for key, stamp in self._keeping.leases.take_due(now, self._most):
            if not self._is_open(key):
                self._keeping.leases.again(key, stamp, now + _MOVING_S)
                continue
            operation = expire_operation(key[0] == LOCKS, key[1], stamp)
            self._keeping.change(key, operation, partial(self._done, key, stamp))
            if key[0] == LOCKS:
                self._about_to_be_free(key[1])
        self.arm()

    def _done(self, key: TableKey, stamp: int, result: Result) -> None:
        if isinstance(result, RpcError):
            self._keeping.leases.again(key, stamp, self._clock.seconds() + _RETRY_S)
            self.arm()
        else:
            self.expired += 1
