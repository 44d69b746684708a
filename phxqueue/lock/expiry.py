"""Removes, through the log, what has outlived its lease by the master's clock.

When a term begins all leases begin again: of a large table some in each turn of the reactor, or the new master would be
silent for longer than its own lease. Until its turn has come a lease has no end, and is renewed through the log: so it
ends later than it might, never earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from phxqueue.config.settings import LockLimits
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.operations import expire_operation
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, STRINGS, TableKey
from phxqueue.lock.silence import Silences
from phxqueue.net.status import RpcError
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.replica.next_look import NextLook

#: When what could not be proposed is tried again, in seconds.
_RETRY_S = 0.1
#: When what is on its way to another lock group is looked at again, in seconds.
_MOVING_S = 1.0
#: Leases that begin in one turn of the reactor, milliseconds of work.
BEGIN_KEYS = 1000


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
        self._next_look = NextLook(clock, self._expire)
        self._running = False
        self._to_begin: Iterator[TableKey] = iter(())
        self._begin_timer: DelayedCall | None = None
        self._inherits = False
        self.expired = 0  # removed under this node
        self._silences = Silences(keeping, clock, limits, is_open, lowest_version)

    def term_begun(self) -> None:
        """Every lease runs its full length again, but those of locks that are known to be silent."""
        self._begin(inherits=True)

    def begin(self) -> None:
        """Every lease runs its full length again."""
        self._begin(inherits=False)

    def _begin(self, *, inherits: bool) -> None:
        self._stop_beginning()
        self._keeping.leases.clear()
        self._silences.begin()
        self._running = True
        self._inherits = inherits
        table = self._keeping.table
        names = ((LOCKS, [*table.locks]), (STRINGS, [*table.strings]))
        self._to_begin = ((space, name) for space, some in names for name in some)
        self._begin_some()

    def _begin_some(self) -> None:
        """Let the leases of the next keys begin, but those that an entry has let begin meanwhile."""
        keeping, self._begin_timer = self._keeping, None
        portion = [*islice(self._to_begin, BEGIN_KEYS)]
        for key in portion:
            if keeping.leases.begun(key) is None:
                self.note(key)
                if self._inherits:
                    self._silences.inherit(key)
        keeping.beginning = len(portion) == BEGIN_KEYS
        if keeping.beginning:
            self._begin_timer = self._clock.callLater(0, self._begin_some)
        self.arm()

    def _stop_beginning(self) -> None:
        self._keeping.beginning = False
        if self._begin_timer is not None and self._begin_timer.active():
            self._begin_timer.cancel()
        self._begin_timer = None

    def end(self) -> None:
        """The term is over: whatever expires is the next master's business."""
        self._running = False
        self._stop_beginning()
        self._keeping.leases.clear()
        self._next_look.close()
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
        if due is not None:
            self._next_look.within(max(0.0, due - self._clock.seconds()))

    def _expire(self) -> None:
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
