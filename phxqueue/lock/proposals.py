"""Brings operations through consensus: what arrives in one turn shares an entry, and each gets its own outcome back.

One object per Paxos group. Operations are proposed in the order in which they were offered, so what is offered later
meets the state that the earlier ones leave. An operation ends in exactly one of three ways: it was carried out or
refused by the table, with an outcome; it surely is in no entry (NOT_MASTER, NO_MASTER, RESOURCE_EXHAUSTED); nobody
knows (UNAVAILABLE: its entry was under way when mastership was lost).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config.settings import LockLimits
from phxqueue.lock.records import Outcome, TableKey
from phxqueue.lock.table import FIRST_VERSION, RESTORE_VERSION, SILENT_VERSION
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation
from phxqueue.replica.errors import NotServing, OutcomeUnknown
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.replica.served_group import ServedGroup

Result = Outcome | RpcError
Done = Callable[[Result], None]
"""Gets an operation's outcome, or why there is none. Must not raise."""

#: Operations that not every program knows.
_NEEDS = {LockOperation.SILENT: SILENT_VERSION, LockOperation.OPEN: RESTORE_VERSION}

_UNKNOWN = "the change may have been made or not: ask for what is there, or repeat it as it was"


@dataclass(frozen=True, slots=True)
class _Offer:
    key: TableKey
    operation: LockOperation
    size: int
    done: Done


class Proposals:
    """The way from operations to entries and back, for one group.

    Args:
        group: the Paxos group.
        limits: how much may wait and how much fits into an entry.
        clock: for the end of the reactor's turn.
        refuse: makes the error for operations that meet a group which is not served here (any more).
        quarantined: makes the error for those that want a lock while none is granted after a restore.
        before_answers: called when an entry has been applied, before the first of its outcomes is handed out.

    Attributes:
        term: the mastership that has begun; None: none has, and what is offered waits.
        in_flight: entries proposed and not yet applied.
    """

    def __init__(
        self,
        group: ServedGroup,
        limits: LockLimits,
        clock: Clock,
        *,
        refuse: Callable[[], RpcError],
        quarantined: Callable[[], RpcError],
        before_answers: Callable[[], None],
    ) -> None:
        self.term: int | None = None
        self.in_flight = 0
        self._group = group
        self._limits = limits
        self._clock = clock
        self._refuse = refuse
        self._quarantined = quarantined
        self._before_answers = before_answers
        self._waiting: deque[_Offer] = deque()
        self._waiting_bytes = 0
        self._busy: dict[TableKey, int] = {}
        self._soon: DelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._log = Logger(namespace="phxqueue.lock.proposals")
        group.on_window_free.append(self._wake)

    @property
    def waiting(self) -> int:
        """Operations that are in no entry yet."""
        return len(self._waiting)

    def busy(self, key: TableKey) -> bool:
        """Whether an operation on this key is under way: then only the log can tell what comes after it."""
        return key in self._busy

    def check_room(self) -> None:
        """Refuse a client's operation when too many are waiting. Raises RpcError (RESOURCE_EXHAUSTED)."""
        limits = self._limits
        if len(self._waiting) < limits.queue_operations and self._waiting_bytes < limits.queue_bytes:
            return
        raise RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"group {self._group.group_id} of the lock group has {len(self._waiting)} changes of {self._waiting_bytes} "
            f"bytes waiting (limits.queue_operations {limits.queue_operations}, limits.queue_bytes "
            f"{limits.queue_bytes}): send more slowly",
            retry_after_ms=limits.retry_after_ms,
        )

    def offer(self, key: TableKey, operation: LockOperation, done: Done) -> None:
        """Have an operation carried out. `done` is called once, never before this returns."""
        size = operation.ByteSize()
        self._waiting.append(_Offer(key, operation, size, done))
        self._waiting_bytes += size
        self._busy[key] = self._busy.get(key, 0) + 1
        self._wake()

    def begin(self, term: int, refusal: Callable[[TableKey], RpcError | None]) -> None:
        """A mastership has begun: what was offered may leave, but what is refused now that all is known."""
        self.term = term
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        for offer in waiting:
            error = refusal(offer.key)
            if error is None:
                self._waiting.append(offer)
                self._waiting_bytes += offer.size
            else:
                self._finish(offer, error)
        self._wake()

    def abandon(self) -> None:
        """Mastership is gone: refuse everything that waits. What is in flight answers by itself."""
        self.term = None
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        if waiting:
            error = self._refuse()
            for offer in waiting:
                self._finish(offer, error)
        self._check_idle()

    def drain(self) -> Deferred[None]:
        """Fire when everything offered so far has its outcome."""
        drained: Deferred[None] = Deferred()
        self._idle.append(drained)
        self._check_idle()
        return drained

    def close(self) -> None:
        """Refuse what waits and end all timers."""
        self._group.on_window_free.remove(self._wake)
        self.abandon()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._soon = None

    # ---- proposing ------------------------------------------------------------------------------

    def _may_propose(self) -> bool:
        return bool(self._waiting) and self.in_flight < self._limits.open_entries

    def _wake(self) -> None:
        """Propose at the end of this turn, together with what still arrives in it."""
        if self._soon is None and self.term is not None and self._may_propose():
            self._soon = self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._soon = None
        term = self.term
        if term is None:
            return
        while self._may_propose() and self._group.window_free:  # who hears False is told by on_window_free
            self._propose(self._take(), term)

    def _take(self) -> list[_Offer]:
        """What fits into one entry, at least one operation."""
        limits, waiting = self._limits, self._waiting
        taken = [waiting.popleft()]
        size = taken[0].size
        while waiting and len(taken) < limits.entry_operations and size + waiting[0].size <= limits.entry_bytes:
            size += waiting[0].size
            taken.append(waiting.popleft())
        self._waiting_bytes -= size
        return taken

    def _propose(self, offers: list[_Offer], term: int) -> None:
        operations = [offer.operation for offer in offers]
        version = max(_NEEDS.get(operation.kind, FIRST_VERSION) for operation in operations)
        command = LockCommand(version=version, term=term, operations=operations)
        self.in_flight += 1
        outcome = self._group.propose(command.SerializeToString())
        outcome.addCallbacks(self._applied, self._failed, callbackArgs=(offers,), errbackArgs=(offers,))
        outcome.addErrback(lambda failure: self._log.failure("answering requests failed", failure))

    # ---- outcomes -------------------------------------------------------------------------------

    def _applied(self, outcomes: list[Outcome] | Outcome, offers: list[_Offer]) -> None:
        self.in_flight -= 1
        self._before_answers()
        if isinstance(outcomes, Outcome):
            outcomes = [outcomes] * len(offers)
        for offer, outcome in zip(offers, outcomes, strict=True):
            self._finish(offer, self._judged(outcome))
        self._wake()
        self._check_idle()

    def _judged(self, outcome: Outcome) -> Result:
        if outcome.status == Status.FENCED:
            return RpcError(Status.UNAVAILABLE, "another mastership has begun meanwhile", maybe_executed=False)
        if outcome.status == Status.RESOURCE_EXHAUSTED:
            return self._quarantined()
        if outcome.status == Status.INVALID_ARGUMENT:
            text = "the lock table could not make sense of the change"
            return RpcError(Status.INTERNAL, text, maybe_executed=False)
        return outcome

    def _failed(self, failure: Failure, offers: list[_Offer]) -> None:
        self.in_flight -= 1
        error = self._error(failure)
        for offer in offers:
            self._finish(offer, error)
        self._wake()
        self._check_idle()

    def _error(self, failure: Failure) -> RpcError:
        if failure.check(NotServing):
            return self._refuse()
        if failure.check(OutcomeUnknown):
            return RpcError(Status.UNAVAILABLE, f"{failure.getErrorMessage()}: {_UNKNOWN}")
        self._log.failure("proposing failed", failure)
        return RpcError(Status.INTERNAL, f"the lock node could not propose: {failure.getErrorMessage()}; see its log")

    def _finish(self, offer: _Offer, result: Result) -> None:
        left = self._busy[offer.key] - 1
        if left:
            self._busy[offer.key] = left
        else:
            del self._busy[offer.key]
        try:
            offer.done(result)
        except Exception:  # a defect there must not keep the others of the same entry from their outcomes
            self._log.failure("a defect of the lock service itself: telling an outcome failed")

    def _check_idle(self) -> None:
        if self._idle and not self.in_flight and not self._waiting:
            idle, self._idle = self._idle, []
            for drained in idle:
                drained.callback(None)
