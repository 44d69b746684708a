"""Sends the batches of one lane and sees each of them to its end.

Outcomes, and what follows:

- stored: the callers get their cursors;
- refused for now (overload): the same request again, after a pause, until the callers' deadline;
- refused for good, or no master within the client's patience: `Refused`, unless an earlier try of the same
  batch ended without an answer: then `OutcomeUnknown`;
- no answer: `OutcomeUnknown`. If the batch has items with uin, the sender then *settles* it: it goes on repeating
  the request until it is answered (the store gives the first outcome and never a second copy), because what
  comes after those items must not leave before. After `settle_s` it gives up, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.routing import Route
from phxqueue.net.status import Retry, RpcError, Status
from phxqueue.producer.batching import Lane
from phxqueue.producer.confirmed import Known
from phxqueue.producer.entries import LaneEntry
from phxqueue.producer.errors import EnqueueError, KeyReused, OutcomeUnknown, Refused
from phxqueue.producer.requests import Part, Request
from phxqueue.producer.surroundings import Surroundings
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddResponse, AddResult

#: A caller whose batch is under way is told at its deadline plus this: the call itself, which ends at
#: the deadline, knows better what happened.
GRACE_S = 0.05

#: The store's answer to a sequence older than its window: it will not take that batch any more, whoever brings it.
NEVER_ANY_MORE = Status.OUT_OF_RANGE


class Sender:
    """Drives the lane of one (store, Paxos group)."""

    log = Logger()

    def __init__(self, surroundings: Surroundings, lane: tuple[int, int], route: Route, numbers: Iterator[int]) -> None:
        self.route = route
        self.closing = False
        self._all = surroundings
        self._lane_id = lane
        self._store_id = lane[0]
        self._numbers = numbers
        self._sent = 0  # the highest sequence of a batch
        self._doubted = 0  # the highest one of which nobody knows what became of it
        self._lane: Lane[LaneEntry] = Lane(surroundings.settings.lane_limits)
        self._under_way: set[Request] = set()
        self._calls: dict[Request, Deferred[Any]] = {}
        self._pauses: dict[Request, IDelayedCall] = {}
        self._due: IDelayedCall | None = None

    # -- in ---------------------------------------------------------------------------------------

    def add(self, entry: LaneEntry) -> None:
        """Line up; flush() at the end of the turn sends it."""
        self._lane.add(entry)

    def flush(self) -> None:
        """Send what should leave by now, and come back when more should."""
        now = self._all.clock.seconds()
        while (entries := self._lane.next_batch(now, flush=self.closing)) is not None:
            request = Request(self._all.topic_id, self._store_id, self._all.producer_id, entries, self._numbers)
            self._under_way.add(request)
            self._sent = request.message.batches[-1].header.sequence
            self._all.sent(self._lane_id)
            self._send(request)
        self._collect_void()
        self._set_due(now)

    def _set_due(self, now: float) -> None:
        due_at = self._lane.due_at()
        if due_at is None:
            self._cancel_due()
        elif self._due is None or not self._due.active():
            self._due = self._all.clock.callLater(max(0.0, due_at - now), self._is_due)

    def _is_due(self) -> None:
        self._due = None
        self.flush()

    def _cancel_due(self) -> None:
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None

    def _collect_void(self) -> None:
        if self._lane.voided:
            void, self._lane.voided = self._lane.voided, []
            for entry in void:
                self._all.left(entry.count, entry.size)

    # -- out --------------------------------------------------------------------------------------

    def _send(self, request: Request) -> None:
        self._all.stats.requests += 1
        request.tries += 1
        time_left = max(self._end_of(request) - self._all.clock.seconds(), 0.001)
        called = self._all.caller.call(self.route, ADD, request.message, time_left)
        if not called.called:
            self._calls[request] = called
        called.addCallbacks(self._on_answer, self._on_failure, callbackArgs=(request,), errbackArgs=(request,))
        called.addErrback(self._on_defect, request)

    def _end_of(self, request: Request) -> float:
        if request.settle_until is not None:
            return request.settle_until
        return request.last_arrived + self._all.settings.deadline_s

    def _on_answer(self, response: AddResponse, request: Request) -> None:
        self._calls.pop(request, None)
        nonsense = _nonsense(response, request)
        if nonsense:
            self._on_error(RpcError(Status.INTERNAL, f"{self.route.what} {nonsense}"), request)
            return
        again: list[int] = []
        error: RpcError | None = None
        for index, (part, result) in enumerate(zip(request.parts, response.results, strict=True)):
            if result.status == Status.OK:
                self._all.confirmed(self._lane_id, request.message.batches[index].header, result)
                self._stored(part, result, request)
                continue
            status = Status.from_wire(result.status)
            failed = RpcError(status, result.message, retry_after_ms=result.retry_after_ms)
            # Who no longer remembers cannot say that it was not written: by a try of which only the call knew, say.
            part.maybe_written = part.maybe_written or failed.maybe_executed or status is NEVER_ANY_MORE
            if status.retry is Retry.NEVER:
                self._tell(part, failed)
                if not _has_to_settle(part) or status is NEVER_ANY_MORE:
                    self._let_go(request, [index])
                    continue
            again.append(index)
            error = failed
        request.keep(again)
        if error is None:
            self._finish(request)
        else:
            self._again(request, error)

    def _on_failure(self, failure: Failure, request: Request) -> None:
        self._calls.pop(request, None)
        error = failure.value
        if not isinstance(error, RpcError):
            if not isinstance(error, CancelledError):
                self.log.failure("calling {what} failed in an unexpected way", failure, what=self.route.what)
            error = RpcError(Status.INTERNAL, f"{type(error).__name__}: {error}")
        self._on_error(error, request)

    def _on_defect(self, failure: Failure, request: Request) -> None:
        """Something here is wrong: say so, and keep nobody waiting for ever."""
        self.log.failure("{what}: a defect of the producer itself", failure, what=self.route.what)
        if request in self._under_way:
            for part in request.parts:
                part.maybe_written = True
                self._tell(part, RpcError(Status.INTERNAL, "a defect of the producer itself; its log has the details"))
            self._finish(request)

    def _on_error(self, error: RpcError, request: Request) -> None:
        for part in request.parts:
            part.maybe_written = part.maybe_written or error.maybe_executed
        if error.status in (Status.UNAVAILABLE, Status.NO_MASTER, Status.DEADLINE_EXCEEDED):
            self._all.unreachable(self._store_id)
        if _passes(error, settling=request.settle_until is not None):
            self._again(request, error)
        else:
            self._conclude(request, error)

    def _again(self, request: Request, error: RpcError) -> None:
        settings = self._all.settings
        pause = min(settings.backoff_max_s, settings.backoff_first_s * 2.0 ** min(request.pauses, 20))
        request.pauses += 1
        pause = max(pause * self._all.random.uniform(0.5, 1.0), error.retry_after_ms / 1000)
        in_doubt = request.settle_until is not None or any(part.maybe_written for part in request.parts)
        reserve = 0.0 if in_doubt else settings.least_try_s  # another try of what is surely refused could only spoil it
        if self._all.clock.seconds() + pause >= self._end_of(request) - reserve or self._is_pointless(request):
            self._conclude(request, error)
        else:
            self._pauses[request] = self._all.clock.callLater(pause, self._resend, request)

    def _is_pointless(self, request: Request) -> bool:
        """Whether nobody waits for this request any more, neither a caller nor a younger item."""
        if request.settle_until is not None:
            return self.closing
        return request.answered and not _to_settle(request)

    def _resend(self, request: Request) -> None:
        del self._pauses[request]
        self._all.stats.retries += 1
        self._send(request)

    # -- ends -------------------------------------------------------------------------------------

    def _stored(self, part: Part, result: AddResult, request: Request) -> None:
        stats = self._all.stats
        stats.duplicates += result.duplicate
        if request.settle_until is not None:
            stats.settled += 1
        offset = 0
        for entry in part.entries:
            if entry.answered:
                stats.stored_late += entry.count
            else:
                stats.stored += entry.count
                entry.stored(result, offset)
            offset += entry.count

    def _tell(self, part: Part, error: RpcError) -> None:
        told = self._describe(error, part.maybe_written)
        for entry in part.entries:
            self._fail(entry, told)

    def _fail(self, entry: LaneEntry, error: EnqueueError) -> None:
        if entry.answered:
            return
        if isinstance(error, OutcomeUnknown):
            self._all.stats.unknown += entry.count
        else:
            self._all.stats.refused += entry.count
        entry.fail(error)

    def _describe(self, error: RpcError, maybe_written: bool) -> EnqueueError:
        if error.status is Status.ALREADY_EXISTS:  # whatever earlier tries came to: else the key would be this item's
            return KeyReused(f"{self.route.what}: {error}; nothing was written")
        if maybe_written:
            return OutcomeUnknown(
                f"{self.route.what}: {error}; the items may or may not be written (the producer itself never writes "
                "them twice, enqueueing them again may)",
                error.status,
            )
        return Refused(f"{self.route.what}: {error}; nothing was written", error.status)

    def _conclude(self, request: Request, error: RpcError) -> None:
        """Tell the callers that are left, then settle what has to be settled or let go."""
        for part in request.parts:
            self._tell(part, error)
        settle = _to_settle(request)
        if request.settle_until is not None:
            self._abandon(request, error)
        elif settle and not self.closing:
            self._let_go(request, sorted({*range(len(request.parts))}.difference(settle)))
            request.keep(settle)
            request.pauses = 0
            request.settle_until = self._all.clock.seconds() + self._all.settings.settle_s
            self.log.warn(
                "{what}: the outcome of {items} items is unknown ({error}); their uins wait until it is settled",
                what=self.route.what,
                items=request.items,
                error=error,
            )
            self._again(request, error)
            return
        self._finish(request)

    def _abandon(self, request: Request, error: RpcError) -> None:
        self._all.stats.abandoned += len(request.parts)
        self.log.warn(
            "{what}: giving up on {batches} batches of unknown outcome after {tries} tries: {error}; should one of "
            "them still be written, it is written after younger items of its uins",
            what=self.route.what,
            batches=len(request.parts),
            tries=request.tries,
            error=error,
        )

    def _finish(self, request: Request) -> None:
        self._under_way.discard(request)
        self._let_go(request, range(len(request.parts)))
        self._lane.resolved(request.entries)
        self._expire_waiting(self._all.clock.seconds())
        self._all.left(request.items, request.size)
        # What its callers enqueue now is sent at the end of the turn, what already waits leaves here.
        self.flush()

    def _let_go(self, request: Request, indexes: Iterable[int]) -> None:
        """Nobody will ask about these parts again."""
        for index in indexes:
            if request.parts[index].maybe_written:
                self._doubted = max(self._doubted, request.message.batches[index].header.sequence)

    @property
    def known(self) -> Known:
        """What can be vouched for."""
        first = min((request.message.batches[0].header.sequence for request in self._under_way), default=self._sent + 1)
        return Known(self._doubted, first - 1, self._sent)

    # -- time and end -----------------------------------------------------------------------------

    def _expire_waiting(self, now: float) -> None:
        """Refuse what has waited so long that sending it would be pointless."""
        settings = self._all.settings
        for entry in self._lane.expire(now - settings.deadline_s + settings.least_try_s):
            self._all.left(entry.count, entry.size)
            error = Refused(
                f"{self.route.what}: not sent within {settings.deadline_s:g} s, because it was busy with earlier "
                "items; nothing was written",
                Status.DEADLINE_EXCEEDED,
            )
            self._fail(entry, error)
        self._collect_void()

    def expire(self, now: float) -> None:
        """Tell callers whose deadline has passed."""
        self._expire_waiting(now)
        settings = self._all.settings
        limit = now - settings.deadline_s - GRACE_S
        for request in [request for request in self._under_way if request.first_arrived < limit]:
            error = RpcError(Status.DEADLINE_EXCEEDED, f"no outcome within {settings.deadline_s:g} s")
            told = self._describe(error, maybe_written=True)
            for part in request.parts:
                for entry in part.entries:
                    if entry.arrived < limit:
                        self._fail(entry, told)

    @property
    def idle(self) -> bool:
        """Nobody waits for an outcome."""
        return self._lane.empty and all(request.settle_until is not None for request in self._under_way)

    def abort(self) -> None:
        """Give everything up: what has not left is refused, what is under way is unknown."""
        self.closing = True
        self._cancel_due()
        error = RpcError(Status.UNAVAILABLE, "the producer was closed", maybe_executed=False)
        for entry in self._lane.drain():
            self._all.left(entry.count, entry.size)
            self._fail(entry, self._describe(error, maybe_written=False))
        self._collect_void()
        for called in list(self._calls.values()):
            called.cancel()
        for request in list(self._pauses):
            self._pauses.pop(request).cancel()
            self._conclude(request, error)


def _nonsense(response: AddResponse, request: Request) -> str:
    """What makes an answer none to this request; "": nothing."""
    if len(response.results) != len(request.parts):
        return f"answered {len(response.results)} results for {len(request.parts)} batches"
    for batch, result in zip(request.message.batches, response.results, strict=True):
        if result.prepared and not batch.header.prepared_by:
            return "keeps as a half message what was sent as none"
    return ""


def _to_settle(request: Request) -> list[int]:
    return [index for index, part in enumerate(request.parts) if _has_to_settle(part)]


def _has_to_settle(part: Part) -> bool:
    return part.maybe_written and part.keyed


def _passes(error: RpcError, *, settling: bool) -> bool:
    """Whether the same request is worth sending again.

    Other nodes and time-outs were the MasterClient's business, which has given up: only overload is left. While
    settling everything is: that this try was refused says nothing about an earlier one that may still be on its way.
    """
    return settling or error.status.retry is Retry.SAME_AFTER_DELAY
