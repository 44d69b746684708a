"""What stores have confirmed to a producer and it has still to report: sums by minute, pub, groups and kind. Pure.

They are kept per lane (store and Paxos group), because a report goes to the ledger of the Paxos group that
confirmed it. A report is frozen under its number until it is known to be taken in: sent again, it counts once.
"""

from __future__ import annotations

from phxqueue.proto.digest import MASK64
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.ledger_pb2 import ProducedReport, ProducedRow
from phxqueue.reconcile.kinds import kind_of

Key = tuple[int, int, int, int]
"""(minute, pub id, mask, kind)"""


class Confirmed:
    """The sums of one lane.

    Args:
        most_rows: most rows held; of more the oldest are given up.

    Attributes:
        given_up: items that will never be reported.
    """

    def __init__(self, producer_id: int, most_rows: int) -> None:
        self.given_up = 0
        self._producer_id = producer_id
        self._most_rows = most_rows
        self._rows: dict[Key, list[int]] = {}  # [items, digest sum, items of duplicates]
        self._sequence = 0
        self._report: ProducedReport | None = None

    def add(self, header: BatchHeader, stored_ms: int, *, duplicate: bool) -> None:
        """A batch is stored; `stored_ms`: the time of its entry, Unix milliseconds."""
        key = stored_ms // 60_000, header.pub_id, header.consumer_group_ids, kind_of(header.queue_id, header.origin)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= self._most_rows:
                self.given_up += self._rows.pop(next(iter(self._rows)))[0]
            row = self._rows[key] = [0, 0, 0]
        row[0] += header.count
        row[1] += header.digest_sum
        if duplicate:
            row[2] += header.count

    @property
    def empty(self) -> bool:
        """Nothing has to be reported."""
        return not self._rows and self._report is None

    def report(self) -> ProducedReport | None:
        """What to report now; the same until it is `settled`. None: nothing."""
        if self._report is None and self._rows:
            rows, self._rows = self._rows, {}
            self._sequence += 1
            self._report = ProducedReport(
                producer_id=self._producer_id,
                sequence=self._sequence,
                rows=[
                    ProducedRow(
                        minute=minute, pub_id=pub_id, consumer_group_ids=mask, kind=kind, count=count,
                        digest_sum=digest_sum & MASK64, duplicates=duplicates,
                    )
                    for (minute, pub_id, mask, kind), (count, digest_sum, duplicates) in rows.items()
                ],
            )  # fmt: skip
        return self._report

    def settled(self) -> None:
        """The report was taken in."""
        self._report = None

    def give_up(self) -> None:
        """The report will never be taken in."""
        if self._report is not None:
            self.given_up += sum(row.count for row in self._report.rows)
            self._report = None
