"""The master's side of delayed batches: lets them in, has them fired when they are due, cancels and lists them.

What is due is decided by the master's wall clock, looked at when the next one should be due and at least every
`LOOK_S`; the command says up to which time. A wall clock that is set forward fires early what lies in between, one that
is set back fires late: within `LOOK_S` everything follows the clock again. Nothing is fired twice or lost by it, for
replicas follow the command alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import (
    CancelDelayedRequest,
    CancelDelayedResponse,
    CancelTimer,
    DelayedBatch,
    FireTimers,
    ListDelayedRequest,
    ListDelayedResponse,
    StoreCommand,
)
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.next_look import NextLook
from phxqueue.store.group import StoreGroup
from phxqueue.store.proposing import no_outcome, only_outcome
from phxqueue.store.queues import BATCH_VERSION, StoreQueues
from phxqueue.store.state import TIMER_VERSION
from phxqueue.store.timers import Timer
from phxqueue.store.understood import check_understood, understood

#: Delayed batches moved by one command: some milliseconds of work on every replica.
FIRE_BATCHES = 2000
#: Longest time between looks at the wall clock while something waits for it, in seconds: it may have been set.
LOOK_S = 1.0
#: After a proposal that came to nothing, and while the window is full, in seconds.
AGAIN_S = 0.02
#: Most batches in one answer to ListDelayed.
LIST_BATCHES = 1000
#: How often the log being pinned is told, in seconds.
WARN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayLimits:
    """Bounds, as configured: see max_delay_s, max_delayed and delayed_pin_entries of StoreLimits."""

    longest_ms: int
    waiting: int
    pin_entries: int
    retry_after_ms: int


class Delays:
    """Of one Paxos group.

    Args:
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds; never goes back.
        wall_ms: the wall clock, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
        look_s: longest time between looks at the wall clock while something is delayed.
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        limits: DelayLimits,
        *,
        clock: Clock,
        timestamp_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
        look_s: float = LOOK_S,
    ) -> None:
        self._group = group
        self._machine = machine
        self._limits = limits
        self._clock = clock
        self._timestamp_ms = timestamp_ms
        self._wall_ms = wall_ms
        self._refuse = refuse
        self._look_s = look_s
        self._next_look = NextLook(clock, self.look)
        self._firing = False
        self._warned_at: float | None = None
        self._log = Logger(namespace="phxqueue.store.delays")

    # ---- in ----------------------------------------------------------------------------------------

    @property
    def best_version(self) -> int:
        """The version of a command whose batches say where their items come from, if all members know it."""
        return TIMER_VERSION if understood(self._group, self._machine, TIMER_VERSION) else BATCH_VERSION

    def admit(self, headers: Sequence[BatchHeader]) -> int:
        """Let delayed batches in; return the version that their command needs.

        Raises:
            RpcError: INVALID_ARGUMENT, too far ahead; RESOURCE_EXHAUSTED, too many; UNAVAILABLE, not all nodes know
                delayed batches yet.
        """
        machine, limits = self._machine, self._limits
        check_understood(self._group, self._machine, TIMER_VERSION, "delayed messages")
        latest = max(header.deliver_at_ms for header in headers)
        if latest > self._wall_ms() + limits.longest_ms:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"deliver_at_ms: {latest} is more than {limits.longest_ms / 1000:.0f} s ahead (limits.max_delay_s of "
                "the store)",
            )
        if len(machine.timers) + len(headers) > limits.waiting:
            raise RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"group {self._group.group_id} of the store has {len(machine.timers)} delayed batches waiting "
                f"(limits.max_delayed {limits.waiting}): enqueue them later, or raise the limit",
                retry_after_ms=limits.retry_after_ms,
            )
        return TIMER_VERSION

    # ---- out ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Have fired what is due, and come back for what is not. Cheap: called after every entry."""
        due_ms = self._machine.timers.first_due_ms
        if due_ms is None or self._firing or not self._group.proposing():
            return
        left_ms = due_ms - self._wall_ms()
        if left_ms > 0:
            self._next_look.within(min(left_ms / 1000, self._look_s))
        elif self._group.window_free:
            self._fire()
        else:
            self._next_look.within(AGAIN_S)

    def _fire(self) -> None:
        self._firing = True
        command = StoreCommand(
            version=TIMER_VERSION,
            timestamp_ms=self._timestamp_ms(),
            fire=FireTimers(due_ms=self._wall_ms(), most=FIRE_BATCHES),
        )
        fired = self._group.propose(command.SerializeToString())
        fired.addBoth(self._fired)

    def _fired(self, result: Any) -> None:
        self._firing = False
        if not isinstance(result, Failure):
            self.look()
            return
        if result.check(ReplicaError) is None:
            self._log.failure("group {group}: firing delayed items failed", result, group=self._group.group_id)
        # Whether it was chosen shows in the table; asking twice for the same moves nothing twice.
        self._next_look.within(AGAIN_S)

    def close(self) -> None:
        """End the timer."""
        self._next_look.close()

    # ---- cancelling and listing ----------------------------------------------------------------------

    def cancel(self, request: CancelDelayedRequest) -> Deferred[CancelDelayedResponse]:
        """Drop a delayed batch. Fails with NOT_FOUND when it is in its queue already, or was never there."""
        check_understood(self._group, self._machine, TIMER_VERSION, "delayed messages")
        one = CancelTimer(deliver_at_ms=request.deliver_at_ms, timer_number=request.timer_number)
        command = StoreCommand(version=TIMER_VERSION, timestamp_ms=self._timestamp_ms(), cancels=[one])
        outcome = self._group.propose(command.SerializeToString())
        return outcome.addCallbacks(_cancelled, self._not_cancelled)

    def _not_cancelled(self, failure: Failure) -> CancelDelayedResponse:
        raise no_outcome(
            failure,
            self._group,
            self._refuse,
            self._limits.retry_after_ms,
            "it is not known whether it was cancelled; cancel it again",
        )

    def listed(self, request: ListDelayedRequest) -> ListDelayedResponse:
        """Return some of what waits, in the order of delivery."""
        timers = self._machine.timers
        response = ListDelayedResponse(waiting=len(timers))
        limit = min(request.limit or LIST_BATCHES, LIST_BATCHES)
        # A bounded part of the table per call, whatever is left out of it.
        seen: Timer | None = None
        for seen in islice(timers.after(request.after_ms, request.after_number), 10 * LIST_BATCHES):
            if not request.only_queue or seen.queue_id == request.queue_id:
                response.batches.append(_described(seen))
                if len(response.batches) == limit:
                    break
        if seen is not None:
            response.after_ms, response.after_number = seen.deliver_at_ms, seen.number
            response.more = next(timers.after(seen.deliver_at_ms, seen.number), None) is not None
        return response

    # ---- the log -------------------------------------------------------------------------------------

    @property
    def pinned(self) -> int:
        """Entries of the log that are kept for nothing but delayed batches."""
        lowest = self._machine.timers.lowest_instance
        return 0 if lowest is None else max(self._machine.first_queued() - lowest, 0)

    def notice(self) -> str:
        """What to tell an operator when the log is kept for delayed batches only; "": nothing."""
        pinned = self.pinned if self._group.serving() else 0
        if pinned <= self._limits.pin_entries:
            return ""
        return (
            f"group {self._group.group_id}: {pinned} entries of the log are kept only because delayed messages lie "
            "among them (`phxqueue delayed list` shows those, `phxqueue delayed cancel` drops one): disk space stays "
            "in use until they are due, or until there is enough of it to write them again (limits.relocate_bytes)"
        )

    def warn(self) -> None:
        """Say when the log is kept for delayed batches only; call it every now and then."""
        now = self._clock.seconds()
        if not len(self._machine.timers) or (self._warned_at is not None and now < self._warned_at + WARN_S):
            return
        notice = self.notice()
        if notice:
            self._warned_at = now
            self._log.warn("{notice}", notice=notice)


def _cancelled(outcomes: Any) -> CancelDelayedResponse:
    return CancelDelayedResponse(count=only_outcome(outcomes))


def _described(timer: Timer) -> DelayedBatch:
    return DelayedBatch(
        queue_id=timer.queue_id,
        pub_id=timer.pub_id,
        deliver_at_ms=timer.deliver_at_ms,
        timer_number=timer.number,
        count=timer.items,
        size=timer.size,
        consumer_group_ids=timer.mask,
    )
