"""What is wrong with a consumer process, from its counters and its queues. Pure.

docs/operations.md has a row for each kind, with what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phxqueue.console.alarms import Alarm
from phxqueue.console.conditions import Condition, Lately

HANDLER_FAILING, UNKNOWN_HANDLE, REFUSED = "handler-failing", "unknown-handle", "acks-refused"
STOPPED, UNREACHABLE, BUFFERS_FULL = "queue-stopped", "store-unreachable", "buffers-full"
#: Counters are looked at over so many seconds.
WINDOW_S = 60.0
#: Attempts that failed within the window: so many, and so large a part of all.
FAILING_LEAST, FAILING_PART = 10, 0.5
#: A queue of which nothing fetched is finished for so long stands still.
STOPPED_S = 120.0
UNREACHABLE_S = 30.0
#: Of prefetch_bytes; for so long.
FULL_PART, FULL_S = 0.95, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """One queue that is consumed.

    Attributes:
        position: everything below is finished; None: nothing that was fetched waits to be finished.
        resting: it is paused, on purpose.
        unreachable: its store does not answer.
    """

    consumer_group_id: int
    store_id: int
    queue_id: int
    position: int | None
    resting: bool
    unreachable: bool


class ConsumerConditions:
    """Of one process.

    Args:
        name: of the consumer.
        handler_timeout_s: a handler may take so long: no queue stands still before.
    """

    def __init__(self, name: str, handler_timeout_s: float) -> None:
        self._subject: tuple[tuple[str, str | int], ...] = (("consumer", name),)
        self._stopped_s = max(STOPPED_S, 2 * handler_timeout_s)
        self._counts = Lately(WINDOW_S)
        self._positions: dict[tuple[int, int, int], tuple[int, float]] = {}  # (position, since)

    def look(
        self, now: float, counts: Mapping[str, int], queues: Iterable[QueueState], held_bytes: int, prefetch_bytes: int
    ) -> Iterable[Condition]:
        """What holds now; `counts`: what the process has done so far, by name (consumer.workshop.Stats)."""
        yield from self._of_counts(self._counts.risen(now, counts))
        queues = list(queues)
        yield from self._unreachable(queues)
        yield from self._stopped(now, queues)
        if held_bytes >= FULL_PART * prefetch_bytes:
            yield self._condition(
                BUFFERS_FULL,
                f"{held_bytes} bytes are fetched and not finished, of prefetch_bytes {prefetch_bytes}: nothing more is "
                "fetched for any queue",
                "handlers are slower than what comes, or hang: see handler-failing and queue-stopped; add consumers, "
                "or raise prefetch_bytes if there is memory",
                FULL_S,
                warning=True,
                held_bytes=held_bytes,
            )

    def _of_counts(self, lately: Mapping[str, int]) -> Iterable[Condition]:
        failed, handled = lately["raised"] + lately["timed_out"], lately["handled"]
        if failed >= max(FAILING_LEAST, FAILING_PART * handled):
            yield self._condition(
                HANDLER_FAILING,
                f"{failed} of {max(handled, failed)} attempts failed within {WINDOW_S:.0f} s ("
                f"{lately['raised']} raised, {lately['timed_out']} timed out)",
                "this consumer's log has the tracebacks; what they depend on may be down. `phxqueue pause` keeps items "
                "from using up their attempts meanwhile; `phxqueue dlq requeue` brings back those that have",
                0.0,
                raised=lately["raised"],
                timed_out=lately["timed_out"],
            )
        if lately["unknown_handle"]:
            yield self._condition(
                UNKNOWN_HANDLE,
                f"{lately['unknown_handle']} items within {WINDOW_S:.0f} s are of a kind that this consumer has no "
                "handler for: each becomes a later attempt, and a dead letter in the end",
                "its log names the handle_id: deploy the handler, or stop the producer of it; then "
                "`phxqueue dlq requeue`",
                0.0,
                items=lately["unknown_handle"],
            )
        if lately["refused_acks"]:
            yield self._condition(
                REFUSED,
                f"{lately['refused_acks']} acknowledgements within {WINDOW_S:.0f} s were refused: what was handled is "
                "not what is stored (reconcile = strict), and comes again and again",
                "the store has an alarm (mismatch) with the cursors: see its section in "
                "docs/operations/reconciliation.md",
                0.0,
                refused=lately["refused_acks"],
            )

    def _unreachable(self, queues: Iterable[QueueState]) -> Iterable[Condition]:
        for store_id in sorted({queue.store_id for queue in queues if queue.unreachable}):
            yield self._condition(
                UNREACHABLE,
                f"queues of store {store_id} cannot be read: it has no master, or cannot be reached from here",
                "see `phxqueue status`; when all is well there, see the network and this consumer's certificate",
                UNREACHABLE_S,
                store=store_id,
            )

    def _stopped(self, now: float, queues: Iterable[QueueState]) -> Iterable[Condition]:
        known, self._positions = self._positions, {}
        for queue in queues:
            if queue.position is None or queue.resting or queue.unreachable:
                continue
            key = queue.consumer_group_id, queue.store_id, queue.queue_id
            before = known.get(key)
            since = before[1] if before is not None and before[0] == queue.position else now
            self._positions[key] = queue.position, since
            if now - since >= self._stopped_s:
                yield self._condition(
                    STOPPED,
                    f"cursor {queue.position} was fetched and is not finished for {now - since:.0f} s; nothing "
                    "behind it can be acknowledged",
                    "`phxqueue peek` shows the item: its handler hangs without a time-out, its next attempt cannot be "
                    "stored, or it is tried for ever (ordered = true)",
                    0.0,
                    store=queue.store_id,
                    queue=queue.queue_id,
                    group=queue.consumer_group_id,
                )

    def _condition(
        self, kind: str, cause: str, remedy: str, after_s: float, *, warning: bool = False, **facts: int
    ) -> Condition:
        places: tuple[tuple[str, str | int], ...] = tuple(
            (name, facts[name]) for name in ("store", "queue", "group") if name in facts
        )
        return Condition(
            Alarm(
                kind=kind,
                subject=(*self._subject, *places),
                cause=cause,
                remedy=remedy,
                facts=facts,
                warning=warning,
            ),
            after_s,
        )
