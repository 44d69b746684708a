"""Rows of ledgers as they are shown: what stores tell, added up over Paxos groups and stores. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from phxqueue.proto import ledger_pb2
from phxqueue.reconcile.columns import DIGESTS, MASK64


@dataclass(slots=True, kw_only=True)
class LedgerRow:
    """Items of one minute, pub and consumer group; in a total, 0 stands for all of them.

    The attributes are those of the message LedgerRow; what they mean: :mod:`phxqueue.reconcile`.
    """

    minute: int = 0
    pub_id: int = 0
    consumer_group_id: int = 0
    stored: int = 0
    retried: int = 0
    dead: int = 0
    expired: int = 0
    requeued: int = 0
    stored_digest: int = 0
    retried_digest: int = 0
    dead_digest: int = 0
    expired_digest: int = 0
    requeued_digest: int = 0
    produced: int = 0
    produced_retried: int = 0
    produced_dead: int = 0
    produced_expired: int = 0
    produced_requeued: int = 0
    produced_digest: int = 0
    produced_retried_digest: int = 0
    produced_dead_digest: int = 0
    produced_expired_digest: int = 0
    produced_requeued_digest: int = 0
    duplicates: int = 0
    delayed: int = 0
    cancelled: int = 0
    acknowledged: int = 0
    passed_retried: int = 0
    passed_dead: int = 0
    passed_expired: int = 0
    dropped: int = 0
    unproven: int = 0
    replayed: int = 0
    skipped: int = 0
    lost: int = 0
    invented: int = 0
    altered: int = 0
    unreported: int = 0
    unstored: int = 0
    unnumbered: int = 0
    unconfirmed: int = 0
    in_hand: int = 0
    added: int = 0
    prepared: int = 0
    committed: int = 0
    rolled_back: int = 0
    timed_out: int = 0
    undecided: int = 0

    @classmethod
    def of(cls, message: ledger_pb2.LedgerRow) -> LedgerRow:
        """What a store tells."""
        return cls(**{name: getattr(message, name) for name in _NAMES})

    @property
    def passed_on(self) -> int:
        """Acknowledged items that were stored again: as later attempts, or as dead letters."""
        return self.passed_retried + self.passed_dead + self.passed_expired

    @property
    def finished(self) -> int:
        """Acknowledged items that are done with for good."""
        return self.acknowledged - self.passed_on - self.dropped

    @property
    def outstanding(self) -> int:
        """Items in queues that are not acknowledged."""
        arrived = self.stored + self.retried + self.requeued + self.replayed
        return arrived - self.delayed - self.cancelled - self.acknowledged - self.skipped

    @property
    def delivered(self) -> int:
        """Items handed out: acknowledged, or in the hands of a consumer."""
        return self.acknowledged + self.in_hand

    @property
    def produced_in_all(self) -> int:
        """What producers report that was confirmed to them, of all kinds."""
        return (
            self.produced + self.produced_retried + self.produced_dead + self.produced_expired + self.produced_requeued
        )

    @property
    def stored_in_all(self) -> int:
        """What is stored, of all kinds."""
        return self.stored + self.retried + self.dead + self.expired + self.requeued

    @property
    def difference(self) -> int:
        """0: all is well. Else so many items were confirmed and are not stored, or the other way round, or lost,
        invented or altered later, or belong to half messages that are neither decided nor there.
        """
        return self.unstored + self.unconfirmed + self.lost + self.invented + self.altered + abs(self.adrift)

    @property
    def adrift(self) -> int:
        """Half messages: those prepared, less those decided and those that the store has undecided. 0: all is well."""
        return self.prepared - self.committed - self.rolled_back - self.timed_out - self.undecided

    @property
    def balance(self) -> int:
        """0 always, as long as the books themselves are right: both sides of what was confirmed and what is stored."""
        known = self.produced_in_all + self.unreported + self.unconfirmed + self.unnumbered + self.added
        return known - self.unstored - self.stored_in_all

    def add(self, other: LedgerRow) -> None:
        """Add the numbers of another row."""
        for name in _NUMBERS:
            value = getattr(self, name) + getattr(other, name)
            setattr(self, name, value & MASK64 if name in DIGESTS else value)

    def as_document(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON; digests in hexadecimal."""
        document: dict[str, Any] = {
            name: f"{getattr(self, name):016x}" if name in DIGESTS else getattr(self, name) for name in _NAMES
        }
        for name in ("finished", "outstanding", "delivered", "passed_on", "adrift", "difference"):
            document[name] = getattr(self, name)
        return document


_NAMES = tuple(field.name for field in fields(LedgerRow))
_NUMBERS = tuple(name for name in _NAMES if name not in ("minute", "pub_id", "consumer_group_id"))


@dataclass(slots=True, kw_only=True)
class Picture:
    """What all ledgers of a topic say together.

    Attributes:
        rows: by (minute, pub, group), in that order; minute 0: everything older than what stores keep apart.
        disputes: (store id, Paxos group, dispute), the oldest first.
        unstored: (store id, Paxos group, account): what was confirmed to whom and is not stored.
        unconfirmed: the same of what is stored and was not confirmed.
        missing: why a part of it is missing, a sentence each: then nothing can be said about the whole.
    """

    rows: dict[tuple[int, int, int], LedgerRow] = field(default_factory=dict)
    disputes: list[tuple[int, int, ledger_pb2.LedgerDispute]] = field(default_factory=list)
    unstored: list[tuple[int, int, ledger_pb2.LedgerAccount]] = field(default_factory=list)
    unconfirmed: list[tuple[int, int, ledger_pb2.LedgerAccount]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def take(self, store_id: int, group_id: int, answer: ledger_pb2.GetLedgerResponse) -> None:
        """Add what one Paxos group tells; of several pages of one answer `take_rows` the later ones."""
        self.take_rows(answer)
        self.disputes += [(store_id, group_id, one) for one in answer.disputes]
        self.unstored += [(store_id, group_id, one) for one in answer.unstored]
        self.unconfirmed += [(store_id, group_id, one) for one in answer.unconfirmed]

    def take_rows(self, answer: ledger_pb2.GetLedgerResponse) -> None:
        """Add rows only."""
        for message in answer.rows:
            key = message.minute, message.pub_id, message.consumer_group_id
            row = LedgerRow.of(message)
            if key in self.rows:
                self.rows[key].add(row)
            else:
                self.rows[key] = row

    def sorted_rows(self) -> list[LedgerRow]:
        """The rows, in order."""
        return [self.rows[key] for key in sorted(self.rows)]

    def by_pub_and_group(self) -> list[LedgerRow]:
        """Totals of all minutes."""
        return list(totals(self.sorted_rows(), lambda row: (0, row.pub_id, row.consumer_group_id)).values())

    @property
    def difference(self) -> int:
        """Of all rows; 0: all is well, as far as nothing is `missing`."""
        return sum(row.difference for row in self.rows.values())


def totals(
    rows: Iterable[LedgerRow], key: Callable[[LedgerRow], tuple[int, int, int]]
) -> dict[tuple[int, int, int], LedgerRow]:
    """Rows added up under other keys of (minute, pub id, group id), in the order of the keys."""
    found: dict[tuple[int, int, int], LedgerRow] = {}
    for row in rows:
        place = key(row)
        total = found.get(place)
        if total is None:
            total = found[place] = LedgerRow(minute=place[0], pub_id=place[1], consumer_group_id=place[2])
        total.add(row)
    return dict(sorted(found.items()))
