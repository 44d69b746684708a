"""What is wrong as a scheduler sees it. Pure. docs/operations.md has a row for each kind, with what to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from phxqueue.console.alarms import Alarm
from phxqueue.console.conditions import Condition

NO_LOCK, NO_CONSUMER, SILENT = "scheduler-no-lock", "no-consumer", "consumer-silent"
#: Beyond lock_patience_s: only then does it show that the lock service answers again.
NO_LOCK_S = 15.0
#: Consumers may all be restarted at once.
SILENT_S = 30.0


def scheduler_conditions(
    topic: str,
    master: bool,
    failing: str,
    configured: Collection[str],
    alive: Mapping[str, object],
    lock_patience_s: float,
) -> Iterable[Condition]:
    """What holds now.

    Args:
        master: whether this scheduler is it.
        failing: why it cannot ask for the master's lock, or "".
        configured: addresses of the consumers that are to have queues, by weights of a scheduler.
        alive: of those that report.
        lock_patience_s: an attempt to get the lock fails when nobody has answered for so long.
    """
    subject = (("topic", topic),)
    if failing:
        yield Condition(
            Alarm(
                kind=NO_LOCK,
                subject=subject,
                cause=f"this scheduler cannot ask for the lock of the schedulers' master: {failing}",
                remedy="see to the lock service (`phxqueue masters list`): until then no scheduler can become the "
                "master, and consumers keep the queues that they have",
            ),
            lock_patience_s + NO_LOCK_S,
        )
    if not master or not configured:
        return
    silent = sorted(set(configured) - set(alive))
    if len(silent) == len(configured):
        yield Condition(
            Alarm(
                kind=NO_CONSUMER,
                subject=subject,
                cause=f"none of the {len(silent)} consumers reports: nothing is consumed, or nobody reaches "
                "this scheduler",
                remedy="start the consumers; look at their logs and at the network between",
            ),
            SILENT_S,
        )
        return
    for consumer in silent:
        yield Condition(
            Alarm(
                kind=SILENT,
                subject=(*subject, ("consumer", consumer)),
                cause="it does not report; its queues are read by others",
                remedy="start it, or take it out of consumerconfig.conf (scale: 0 while it rests)",
                warning=True,
            ),
            SILENT_S,
        )
