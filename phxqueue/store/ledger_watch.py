"""Looks at the books of the groups that this node is master of, and raises alarms about what is wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime, timezone

from phxqueue.console.alarms import Alarm
from phxqueue.console.desk import AlarmSink
from phxqueue.proto.status_pb2 import LedgerStatus
from phxqueue.reconcile.accounts import MOST_ACCOUNTS
from phxqueue.reconcile.findings import Finding, findings, unreported_in_all
from phxqueue.reconcile.ledger import Ledger
from phxqueue.replica.interfaces import Clock
from phxqueue.store.served import ServedQueues

DIFFERENCE = "difference"
UNREPORTED = "unreported"

#: Seconds between two looks: a minute's row is red well within the next one.
LOOK_S = 10.0

Place = tuple[int, int, int]
"""(Paxos group, pub id, consumer group id)"""


class LedgerWatch:
    """The alarms about the ledgers of one store.

    Args:
        ledgers: those of the groups served now, as (Paxos group, ledger).
        served: what the store serves, by its configuration.
        wall: Unix seconds.
    """

    def __init__(
        self,
        ledgers: Callable[[], Iterable[tuple[int, Ledger]]],
        alarms: AlarmSink,
        clock: Clock,
        served: Callable[[], ServedQueues],
        wall: Callable[[], float],
    ) -> None:
        self._ledgers = ledgers
        self._alarms = alarms
        self._clock = clock
        self._served = served
        self._wall = wall
        self._next = 0.0
        self._told: dict[tuple[str, Place], int] = {}  # kind and place -> items told of
        self._unreported_since: dict[Place, float] = {}

    def statuses(self) -> list[LedgerStatus]:
        """What the books say is wrong, for NODE_STATUS; nothing of what is well."""
        settled = self._settled()
        rows: list[LedgerStatus] = []
        for group_id, ledger in self._ledgers():
            found, late = findings(ledger, settled), unreported_in_all(ledger, settled)
            for pub_id, group in sorted({*found, *late}):
                difference = found[pub_id, group].difference if (pub_id, group) in found else 0
                rows.append(
                    LedgerStatus(
                        group_id=group_id,
                        pub_id=pub_id,
                        consumer_group_id=group,
                        difference=difference,
                        unreported=late.get((pub_id, group), 0),
                    )
                )
        return rows

    def look(self) -> None:
        """See whether something is wrong, or has become right."""
        if self._clock.seconds() < self._next:
            return
        self._next = self._clock.seconds() + LOOK_S
        settled = self._settled()
        standing: dict[tuple[str, Place], tuple[int, Finding]] = {}
        unreported: dict[Place, Finding] = {}
        for group_id, ledger in self._ledgers():
            for (pub_id, group), one in findings(ledger, settled).items():
                if one.difference:
                    standing[DIFFERENCE, (group_id, pub_id, group)] = one.difference, one
                if one.unreported or one.unchecked:
                    unreported[group_id, pub_id, group] = one
        for place in self._still_unreported(unreported):
            one = unreported[place]
            standing[UNREPORTED, place] = one.unreported + one.unchecked, one
        for key in [key for key in self._told if key not in standing]:
            del self._told[key]
            why = "the ledger balances, or keeps that minute apart no longer, or another node looks after it"
            self._alarms.clear(self._name(*key), why)
        for key, (items, one) in standing.items():
            if items > self._told.get(key, 0):  # what was told, and perhaps cleared by hand, is not told again
                self._alarms.raise_alarm(self._alarm(*key, one))
            self._told[key] = items

    def _still_unreported(self, found: Collection[Place]) -> Iterator[Place]:
        """Those that have been for so long that a next report would have come.

        After an outage of the store (or of its producer) the report from before it comes first, and the one about the
        rest of that minute after it.
        """
        now, since = self._clock.seconds(), self._unreported_since
        self._unreported_since = {place: since.get(place, now) for place in found}
        for place, began in self._unreported_since.items():
            if now - began >= self._served().ledger_settle_s:
                yield place

    def _settled(self) -> int:
        return int((self._wall() - self._served().ledger_settle_s) // 60) - 1

    def _subject(self, place: Place) -> tuple[tuple[str, str | int], ...]:
        return ("store", self._served().store_id), ("paxos group", place[0]), ("pub", place[1]), ("group", place[2])

    def _name(self, kind: str, place: Place) -> str:
        return Alarm(kind=kind, subject=self._subject(place), cause="", remedy="").name

    def _alarm(self, kind: str, place: Place, one: Finding) -> Alarm:
        minutes = f"minutes {_minute(one.first_minute)} to {_minute(one.last_minute)}"
        facts: dict[str, object] = {
            "first_minute": _minute(one.first_minute),
            "last_minute": _minute(one.last_minute),
            "unstored": one.unstored,
            "unconfirmed": one.unconfirmed,
            "lost": one.lost,
            "invented": one.invented,
            "altered": one.altered,
            "unreported": one.unreported,
            "unchecked": one.unchecked,
            "producers": [f"{producer:016x}" for producer in one.producers],
            "refused": [f"queue {queue} cursors {first} to {last}" for queue, first, last in one.places],
        }
        return Alarm(
            kind=kind,
            subject=self._subject(place),
            labels={"pub": str(place[1])},
            cause=f"{minutes}: {_cause(kind, one)}",
            remedy=f"`phxqueue reconcile --pub {place[1]} --group {place[2]}`; docs/operations/reconciliation.md",
            facts=facts,
            warning=kind == UNREPORTED,
        )


def _cause(kind: str, one: Finding) -> str:
    if kind == UNREPORTED:
        return "; ".join(_doubts(one))
    parts = {
        "confirmed to producers and not stored": one.unstored,
        "stored and not confirmed to their producers, or stored twice": one.unconfirmed,
        "stored and lost on the way to being finished": one.lost,
        "finished and never stored": one.invented,
        "altered": one.altered,
    }
    return "; ".join(f"{items} items {what}" for what, items in parts.items() if items)


def _doubts(one: Finding) -> Iterator[str]:
    if one.unreported:
        yield (
            f"{one.unreported} items are stored that their producers, which have reported since, do not know to be: "
            "their callers were told that the outcome is unknown, and may have enqueued them again"
        )
    if one.unchecked:
        yield (
            f"{one.unchecked} items are stored and were not checked: more than {MOST_ACCOUNTS} sums were waiting for "
            "the reports of producers"
        )


def _minute(minute: int) -> str:
    return datetime.fromtimestamp(60 * minute, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
