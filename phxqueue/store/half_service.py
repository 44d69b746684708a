"""The master's side of half messages: lets them in, has them decided, asks about them, and ends those of which nobody
says anything.

Times are those of the wall clock, looked at as for delayed batches (:mod:`phxqueue.store.delays`).
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
    DecideHalfRequest,
    DecideHalfResponse,
    HalfDecision,
    HalfMessage,
    HalfState,
    ListHalvesRequest,
    ListHalvesResponse,
    ShowHalfRequest,
    ShowHalfResponse,
    StoreCommand,
)
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.next_look import NextLook
from phxqueue.store.delays import AGAIN_S, LOOK_S
from phxqueue.store.group import StoreGroup
from phxqueue.store.half_schedule import HalfPolicy, HalfSchedule
from phxqueue.store.half_table import COMMITTED, EXPIRED, ROLLED_BACK, Half
from phxqueue.store.halves import decided_before
from phxqueue.store.outcomes import HalfOutcome, Refusal
from phxqueue.store.proposing import no_outcome, only_outcome
from phxqueue.store.queues import StoreQueues
from phxqueue.store.reading import Reading
from phxqueue.store.state import KEYS_VERSION
from phxqueue.store.understood import check_understood

#: Half messages that one command ends because nobody decided.
EXPIRE_MOST = 1000
#: Most half messages in one answer to ListHalves.
LIST_MOST = 1000
#: Longest name of producers, in bytes.
MAX_NAME_BYTES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfLimits:
    """Bounds, as configured: see max_prepared and delayed_pin_entries of StoreLimits."""

    waiting: int
    pin_entries: int
    retry_after_ms: int


class Halves:
    """Of one Paxos group.

    Args:
        policy: of a pub.
        reading: gives the items.
        asked: called with the names of producers that are to be asked something.
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds; never goes back.
        wall_ms: the wall clock, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
        look_s: longest time between looks at the wall clock while something is undecided.
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        limits: HalfLimits,
        *,
        policy: Callable[[int], HalfPolicy],
        reading: Reading,
        asked: Callable[[Sequence[str]], None],
        clock: Clock,
        timestamp_ms: Callable[[], int],
        wall_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
        look_s: float = LOOK_S,
    ) -> None:
        self._group = group
        self._machine = machine
        self._limits = limits
        self._policy = policy
        self._reading = reading
        self._asked = asked
        self._clock = clock
        self._timestamp_ms = timestamp_ms
        self._wall_ms = wall_ms
        self._refuse = refuse
        self._look_s = look_s
        # The table is another one after a checkpoint was installed.
        self._schedule = HalfSchedule(machine.halves, policy)
        self._next_look = NextLook(clock, self.look)
        self._ending = False
        self._log = Logger(namespace="phxqueue.store.half_service")

    # ---- in ----------------------------------------------------------------------------------------

    def admit(self, headers: Sequence[BatchHeader]) -> None:
        """Let half messages in.

        Raises:
            RpcError: INVALID_ARGUMENT; RESOURCE_EXHAUSTED, too many; UNAVAILABLE, not all nodes know them yet.
        """
        check_understood(self._group, self._machine, KEYS_VERSION, "half messages")
        for header in headers:
            if len(header.prepared_by.encode()) > MAX_NAME_BYTES:
                raise RpcError(Status.INVALID_ARGUMENT, f"prepared_by: a name has at most {MAX_NAME_BYTES} bytes")
            if header.deliver_at_ms or header.idempotency_key or header.origin:
                raise RpcError(
                    Status.INVALID_ARGUMENT,
                    "prepared_by: a half message is new, with no deliver_at_ms and no idempotency_key",
                )
        waiting = len(self._machine.halves)
        if waiting + len(headers) > self._limits.waiting:
            raise RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"group {self._group.group_id} of the store has {waiting} half messages undecided "
                f"(limits.max_prepared {self._limits.waiting}): commit or roll back some, or raise the limit",
                retry_after_ms=self._limits.retry_after_ms,
            )

    # ---- deciding ----------------------------------------------------------------------------------

    def decide(self, request: DecideHalfRequest) -> DecideHalfResponse | Deferred[DecideHalfResponse]:
        """Commit or roll back. Answers with what it is then, whoever decided first."""
        check_understood(self._group, self._machine, KEYS_VERSION, "half messages")
        if request.decision not in (COMMITTED, ROLLED_BACK):
            raise RpcError(Status.INVALID_ARGUMENT, "decision: COMMITTED or ROLLED_BACK")
        if self._machine.halves.find(request.half_number) is None and self._group.serving():
            return _response([decided_before(self._machine, request.half_number)])
        return self._propose([request.half_number], request.decision).addCallbacks(_response, self._not_decided)

    def _propose(self, numbers: Sequence[int], decision: HalfState.ValueType) -> Deferred[Any]:
        command = StoreCommand(
            version=KEYS_VERSION,
            timestamp_ms=self._timestamp_ms(),
            half_decisions=[HalfDecision(half_number=number, decision=decision) for number in numbers],
        )
        return self._group.propose(command.SerializeToString())

    def _not_decided(self, failure: Failure) -> DecideHalfResponse:
        raise no_outcome(
            failure,
            self._group,
            self._refuse,
            self._limits.retry_after_ms,
            "it is not known whether it was decided; decide again",
        )

    # ---- asking, and giving up ---------------------------------------------------------------------

    def begin(self) -> None:
        """Mastership has changed, or the configuration: plan anew."""
        self._schedule = HalfSchedule(self._machine.halves, self._policy)
        self.look()

    def look(self) -> None:
        """See what is due, and come back for what is not. Cheap: called after every entry."""
        if not len(self._machine.halves) or not self._group.proposing():
            return
        if not self._group.serving():
            self._next_look.within(self._look_s)
            return
        now_ms = self._wall_ms()
        self._schedule.advance(now_ms)
        names = list(self._schedule.names)
        if names:
            self._asked(names)
        if not self._ending:
            self._end_overdue()
        due_ms = self._schedule.next_ms
        if due_ms is not None:
            self._next_look.within(min(max(due_ms - now_ms, 0) / 1000, self._look_s))

    def _end_overdue(self) -> None:
        numbers = self._schedule.take_overdue(EXPIRE_MOST)
        if not numbers:
            return
        if not self._group.window_free:
            self._schedule.give_back(numbers)
            self._next_look.within(AGAIN_S)
            return
        self._ending = True
        self._propose(numbers, EXPIRED).addBoth(self._ended, numbers)

    def _ended(self, result: Any, numbers: list[int]) -> None:
        self._ending = False
        if isinstance(result, Failure):
            if result.check(ReplicaError) is None:
                self._log.failure("group {group}: ending half messages failed", result, group=self._group.group_id)
            self._schedule.give_back(numbers)
            self._next_look.within(AGAIN_S)
            return
        self._log.warn(
            "group {group}: {count} half messages were rolled back because nobody decided in time, the first is number "
            "{number}: `phxqueue halves list --expired`",
            group=self._group.group_id,
            count=len(numbers),
            number=numbers[0],
        )
        self.look()

    def questions(self, name: str, most: int) -> list[Half]:
        """What to ask producers of that name about now; each is given out once at its time."""
        if not len(self._machine.halves) or not self._group.serving():
            return []
        return self._schedule.take_questions(name, most)

    def close(self) -> None:
        """End the timer."""
        self._next_look.close()

    # ---- showing -----------------------------------------------------------------------------------

    def listed(self, request: ListHalvesRequest) -> ListHalvesResponse:
        """Return some of the undecided ones in the order of their numbers, or of the expired ones, the newest first."""
        halves = self._machine.halves
        response = ListHalvesResponse(waiting=len(halves))
        limit = min(request.limit or LIST_MOST, LIST_MOST)
        if request.expired:
            for at_ms, number, one in halves.expired()[:limit]:
                response.halves.add(
                    half_number=number,
                    state=HalfState.EXPIRED,
                    queue_id=one.queue_id,
                    pub_id=one.pub_id,
                    count=one.items,
                    prepared_at_ms=one.prepared_ms,
                    ends_at_ms=at_ms,
                )
            return response
        found = list(islice(halves.after(request.after_number), limit + 1))
        response.halves.extend(self.described(half) for half in found[:limit])
        response.more = len(found) > limit
        return response

    def described(self, half: Half, items: bytes = b"") -> HalfMessage:
        """An undecided one as messages tell it."""
        return HalfMessage(
            half_number=half.number,
            queue_id=half.queue_id,
            pub_id=half.pub_id,
            count=half.items,
            size=half.size,
            prepared_at_ms=half.prepared_ms,
            ends_at_ms=self._policy(half.pub_id).ends(half),
            prepared_by=self._machine.halves.name_of(half),
            consumer_group_ids=half.mask,
            items=items,
        )

    async def with_items(self, halves: Sequence[Half]) -> list[HalfMessage]:
        """The same with their items, read from the log; ones decided meanwhile are left out.

        Raises RpcError when the log cannot be read.
        """
        entries = {half.instance: self._reading.entry(half.instance) for half in halves}
        cold = [instance for instance, entry in entries.items() if entry is None]
        if cold:
            entries.update(await self._reading.read_for_caller(cold))
        found = []
        for half in halves:
            entry = entries[half.instance]
            if entry is not None and self._machine.halves.find(half.number) is not None:
                found.append(self.described(half, entry.kept_aside(half.ordinal).items))
        return found

    async def show(self, request: ShowHalfRequest) -> ShowHalfResponse:
        """One half message: with its items while it is undecided, else what became of it. Raises RpcError."""
        halves, number = self._machine.halves, request.half_number
        half = halves.find(number)
        if half is not None:
            for found in await self.with_items([half]):
                return ShowHalfResponse(half=found)
        known = halves.decided(number)
        if known is None:
            refusal = decided_before(self._machine, number)
            text = refusal.message if isinstance(refusal, Refusal) else "it was decided just now: ask again"
            raise RpcError(Status.NOT_FOUND, text)
        at_ms, decided = known
        return ShowHalfResponse(
            half=HalfMessage(
                half_number=number,
                state=HalfState.ValueType(decided.state),
                queue_id=decided.queue_id,
                pub_id=decided.pub_id,
                count=decided.items,
                prepared_at_ms=decided.prepared_ms,
                ends_at_ms=at_ms,
                first_cursor=decided.cursor,
            )
        )

    # ---- the log -----------------------------------------------------------------------------------

    def notice(self) -> str:
        """What to tell an operator when the log is kept for half messages only; "": nothing."""
        lowest = self._machine.halves.lowest_instance if self._group.serving() else None
        pinned = 0 if lowest is None else max(self._machine.first_queued() - lowest, 0)
        if pinned <= self._limits.pin_entries:
            return ""
        return (
            f"group {self._group.group_id}: {pinned} entries of the log are kept only because undecided half messages "
            "lie among them (`phxqueue halves list` shows those): disk space stays in use until they are decided"
        )


def _response(outcomes: Any) -> DecideHalfResponse:
    outcome = only_outcome(outcomes)
    assert isinstance(outcome, HalfOutcome)
    return DecideHalfResponse(
        state=HalfState.ValueType(outcome.state),
        first_cursor=outcome.cursor,
        count=outcome.count,
        queue_id=outcome.queue_id,
    )
