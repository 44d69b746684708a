"""Brings requests through consensus: from the batcher into entries, and each outcome back to who asked.

One object per Paxos group. A request ends in exactly one of three ways: committed (it was chosen and applied here),
refused (it surely is in no entry), unknown (its entry was under way when mastership was lost or time ran out; the
producer sends it again with the same sequence, and the idempotence window tells the difference).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import AddResponse, AddResult
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded
from phxqueue.replica.interfaces import Clock, DelayedCall
from phxqueue.store.batcher import Batcher, BatcherLimits, Proposal, Stretches
from phxqueue.store.group import StoreGroup
from phxqueue.store.outcomes import Delayed, Duplicate, KeyDuplicate, Outcome, Outcomes, Prepared, Refusal
from phxqueue.store.queues import BATCH_VERSION

#: How often to look whether something blocked may leave.
_LOOK_AGAIN_S = 0.005

_UNKNOWN = "the outcome is unknown, try again with the same producer_id and sequence"

#: One Add that waits for its outcome: its answer, and the item count of each of its batches.
Waiting = tuple[Deferred[AddResponse], tuple[int, ...]]


class _Entry:
    """An entry in flight."""

    __slots__ = ("done", "proposal", "started")

    def __init__(self, proposal: Proposal[Waiting], started: float) -> None:
        self.proposal = proposal
        self.started = started
        self.done = False


class Proposals:
    """The way from requests to entries and back, for one group.

    Args:
        group: the Paxos group.
        limits: of the batcher.
        timeout_s: how long an entry may be in flight before its requests are told that the outcome is unknown.
        retry_after_ms: what refused clients are told.
        clock: monotonic seconds and timers.
        timestamp_ms: the time for the next entry's timestamp, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
    """

    def __init__(
        self,
        group: StoreGroup,
        limits: BatcherLimits,
        *,
        timeout_s: float,
        retry_after_ms: int,
        clock: Clock,
        timestamp_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
    ) -> None:
        self.in_flight = 0
        self._group = group
        self._batcher: Batcher[Waiting] = Batcher(limits)
        self._timeout_s = timeout_s
        self._retry_after_ms = retry_after_ms
        self._clock = clock
        self._timestamp_ms = timestamp_ms
        self._refuse = refuse
        self._entries: deque[_Entry] = deque()
        self._soon: DelayedCall | None = None
        self._later: DelayedCall | None = None
        self._later_at = 0.0
        self._timeout: DelayedCall | None = None
        self._idle: list[Deferred[None]] = []
        self._log = Logger(namespace="phxqueue.store.proposals")
        group.on_window_free.append(self._wake)
        group.on_hand_over.append(self.flush)

    @property
    def batcher(self) -> Batcher[Waiting]:
        """What waits; for status and metrics."""
        return self._batcher

    def add(self, frames: bytes, counts: tuple[int, ...], version: int = BATCH_VERSION) -> Deferred[AddResponse]:
        """Have batches stored, all in one entry.

        Args:
            frames: the batches, each framed by `frame_batch`.
            counts: items per batch.
            version: of the command that they need.

        Returns:
            Fires with the response, or fails with RpcError.

        Raises:
            RpcError: RESOURCE_EXHAUSTED, when too much is waiting already.
        """
        if not self._batcher.has_room(len(frames)):
            raise self._overloaded()
        answer: Deferred[AddResponse] = Deferred()
        self._batcher.offer(frames, len(counts), (answer, counts), self._clock.seconds(), version)
        if self._soon is None:
            self._wake()
        return answer

    def move(
        self, queue_id: int, consumer_group_id: int, acked: int, dropped: Stretches = (), generation: int = 0
    ) -> None:
        """Have a cursor replicated, with the next entry or by itself; `generation`: see `phxqueue.store.replays`."""
        self._batcher.move(queue_id, consumer_group_id, acked, self._clock.seconds(), dropped, generation)
        self._wake()

    def dispute(self, frame: bytes) -> None:
        """Have a contradicted claim noted in the ledger, before the next move of a cursor."""
        self._batcher.dispute(frame, self._clock.seconds())
        self._wake()

    def abandon(self) -> None:
        """Refuse everything that waits: mastership is gone. What is in flight answers by itself."""
        waiting = self._batcher.clear()
        if waiting:
            error = self._refuse()
            for answer, _ in waiting:
                _fail(answer, error)
        self._check_idle()

    def flush(self) -> None:
        """Send off what waits, cursor moves too, as far as there is room."""
        self._flush(at_once=True)

    def drain(self) -> Deferred[None]:
        """Send off what waits, cursor moves too, and fire when nothing is in flight any more."""
        drained: Deferred[None] = Deferred()
        self._idle.append(drained)
        self._flush(at_once=True)
        self._check_idle()
        return drained

    def close(self) -> None:
        """Stop all timers and refuse what waits."""
        self._group.on_window_free.remove(self._wake)
        self._group.on_hand_over.remove(self.flush)
        self.abandon()
        for call in (self._soon, self._later, self._timeout):
            if call is not None and call.active():
                call.cancel()
        self._soon = self._later = self._timeout = None

    # ---- proposing ------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Propose at the end of this reactor turn, together with what still arrives in it, or when something is due."""
        if self._soon is not None:
            return
        now = self._clock.seconds()
        due = self._batcher.next_due(self.in_flight, now)
        if due is None:
            return
        if due <= now and self._group.window_free:
            self._soon = self._clock.callLater(0, self._flush)
        else:
            # A full window tells when it has room again; a journal that is busy with other groups does not.
            self._wake_at(due if due > now else now + _LOOK_AGAIN_S, now)

    def _wake_at(self, due: float, now: float) -> None:
        if self._later is not None:
            if self._later_at <= due:
                return
            self._later.cancel()
        self._later_at = due
        self._later = self._clock.callLater(due - now, self._due)

    def _due(self) -> None:
        self._later = None
        self._wake()

    def _flush(self, *, at_once: bool = False) -> None:
        self._soon = None
        while self._group.window_free:
            if at_once and not self._group.proposing():
                # A cursor that is refused waits for the next entry: here it would be the next at once, for ever.
                self.abandon()
                break
            proposal = self._batcher.take(self.in_flight, self._clock.seconds(), self._timestamp_ms(), at_once=at_once)
            if proposal is None:
                break
            self._propose(proposal)
        self._wake()

    def _propose(self, proposal: Proposal[Waiting]) -> None:
        entry = _Entry(proposal, self._clock.seconds())
        self._entries.append(entry)
        self.in_flight += 1
        if self._timeout is None:
            self._timeout = self._clock.callLater(self._timeout_s, self._check_timeouts)
        outcome = self._group.propose(proposal.payload)
        outcome.addCallbacks(self._applied, self._failed, callbackArgs=(entry,), errbackArgs=(entry,))
        outcome.addErrback(lambda failure: self._log.failure("answering requests failed", failure))

    # ---- outcomes --------------------------------------------------------------------------------

    def _finish(self, entry: _Entry) -> None:
        self.in_flight -= 1
        entry.done = True
        entries = self._entries
        while entries and entries[0].done:
            entries.popleft()

    def _applied(self, outcomes: Outcomes | Refusal, entry: _Entry) -> None:
        self._finish(entry)
        if isinstance(outcomes, Refusal):
            error = RpcError(Status.INTERNAL, outcomes.message, maybe_executed=False)
            for answer, _ in entry.proposal.tokens:
                _fail(answer, error)
        else:
            place = 0
            for answer, counts in entry.proposal.tokens:
                last = place + len(counts)
                if not answer.called:  # else it was cancelled or told that the outcome is unknown
                    answer.callback(add_response(outcomes[place:last], counts, outcomes.stored_ms))
                place = last
        self._after()

    def _failed(self, failure: Failure, entry: _Entry) -> None:
        self._finish(entry)
        error = self._error(failure)
        for answer, _ in entry.proposal.tokens:
            _fail(answer, error)
        # If mastership is lost as well, abandon() forgets them again in a moment.
        self._again(entry.proposal)
        self._after()

    def _after(self) -> None:
        self._wake()
        self._check_idle()

    def _again(self, proposal: Proposal[Waiting]) -> None:
        for frame in proposal.disputes:
            self.dispute(frame)
        for key, (generation, acked) in proposal.moves.items():
            self.move(*key, acked, proposal.dropped.get(key, ()), generation)

    def _error(self, failure: Failure) -> RpcError:
        """What the requests of an entry that has no outcome are told."""
        if failure.check(NotServing):
            return self._refuse()
        if failure.check(Overloaded):
            return self._overloaded()
        if failure.check(OutcomeUnknown):
            return RpcError(
                Status.UNAVAILABLE,
                f"{failure.getErrorMessage()}: {_UNKNOWN}",
            )
        self._log.failure("proposing failed", failure)
        return RpcError(Status.INTERNAL, f"the store could not propose: {failure.getErrorMessage()}; see its log")

    def _overloaded(self) -> RpcError:
        batcher = self._batcher
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"group {self._group.group_id} of the store has {batcher.waiting_requests} Adds with "
            f"{batcher.waiting_bytes} bytes waiting (limits.add_queue_requests {batcher.limits.queue_requests}, "
            f"limits.add_queue_bytes {batcher.limits.queue_bytes}): send more slowly",
            retry_after_ms=self._retry_after_ms,
        )

    def _check_timeouts(self) -> None:
        """Tell the requests of entries in flight for too long; the entries themselves go on."""
        self._timeout = None
        now = self._clock.seconds()
        for entry in self._entries:
            if entry.done:
                continue
            left = entry.started + self._timeout_s - now
            if left > 1e-6:
                self._timeout = self._clock.callLater(left, self._check_timeouts)
                return
            error = RpcError(
                Status.UNAVAILABLE,
                f"group {self._group.group_id}: no decision within {self._timeout_s:g} s "
                f"(store_paxos_propose_timeout_ms): {_UNKNOWN}",
            )
            for answer, _ in entry.proposal.tokens:
                _fail(answer, error)

    def _check_idle(self) -> None:
        if self._idle and not self.in_flight and not self._batcher.waiting_requests and not self._batcher.waiting_moves:
            idle, self._idle = self._idle, []
            for drained in idle:
                drained.callback(None)


def add_response(outcomes: list[Outcome], counts: tuple[int, ...], stored_ms: int = 0) -> AddResponse:
    """The answer to an Add whose batches had these outcomes. `stored_ms`: of those that were stored just now."""
    response = AddResponse()
    for outcome, count in zip(outcomes, counts, strict=True):
        result = response.results.add()
        if isinstance(outcome, int):
            result.first_cursor = outcome
            result.count = count
            result.timestamp_ms = stored_ms
        elif isinstance(outcome, Duplicate):
            _tell_place(result, outcome.first_cursor, outcome.delayed, outcome.prepared)
            result.count = outcome.count
            result.duplicate = True
            result.timestamp_ms = outcome.stored_ms
            if isinstance(outcome, KeyDuplicate):
                result.by_key, result.queue_id, result.deliver_at_ms = True, outcome.queue_id, outcome.deliver_at_ms
        elif isinstance(outcome, Prepared):
            _tell_place(result, outcome.number, prepared=True)
            result.count = count
        elif isinstance(outcome, Delayed):
            _tell_place(result, outcome.number, delayed=True)
            result.count = count
            result.timestamp_ms = stored_ms
        elif isinstance(outcome, Refusal):
            result.status = outcome.status
            result.message = outcome.message
    return response


def _tell_place(result: AddResult, place: int, delayed: bool = False, prepared: bool = False) -> None:
    if delayed:
        result.delayed, result.timer_number = True, place
    elif prepared:
        result.prepared, result.half_number = True, place
    else:
        result.first_cursor = place


def _fail(answer: Deferred[Any], error: RpcError) -> None:
    if not answer.called:
        answer.errback(error)
