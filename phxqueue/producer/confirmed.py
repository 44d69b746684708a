"""What stores have confirmed to a producer and it has still to report: sums by minute, pub, groups and kind. Pure.

They are kept per lane (store and Paxos group), because a report goes to the ledger of the Paxos group that
confirmed it. A report is frozen under its number until it is known to be taken in: sent again, it counts once. It also
vouches: of the batches that it names by their sequences the producer knows what became of each, so whatever of them is
stored and in no report was not confirmed.
"""

from __future__ import annotations

from typing import NamedTuple

from phxqueue.proto.digest import MASK64
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.ledger_pb2 import ProducedReport, ProducedRow
from phxqueue.reconcile.kinds import kind_of

Key = tuple[int, int, int, int]
"""(minute, pub id, mask, kind)"""


class Known(NamedTuple):
    """What a lane knows of the batches it has sent, by their sequences.

    Attributes:
        after: nobody knows what became of this one; of none above.
        to: all up to this one are out of its hands: stored, refused, or unknown (at or below `after`).
        sent: the highest there is.
    """

    after: int = 0
    to: int = 0
    sent: int = 0


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
        self._vouched_to = 0
        self._after = 0  # nothing up to here can be vouched for: some of it was given up
        self._gaps = False  # something was given up since the last report

    def add(self, header: BatchHeader, stored_ms: int, *, duplicate: bool) -> None:
        """A batch is stored; `stored_ms`: the time of its entry, Unix milliseconds."""
        key = stored_ms // 60_000, header.pub_id, header.consumer_group_ids, kind_of(header.queue_id, header.origin)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= self._most_rows:
                self.given_up += self._rows.pop(next(iter(self._rows)))[0]
                self._gaps = True
            row = self._rows[key] = [0, 0, 0]
        row[0] += header.count
        row[1] += header.digest_sum
        if duplicate:
            row[2] += header.count

    def is_empty(self, known: Known) -> bool:
        """Whether nothing has to be reported, nor to be vouched for later."""
        return not self._rows and self._report is None and self._vouched_to >= known.sent

    def report(self, known: Known) -> ProducedReport | None:
        """What to report now; the same until it is `settled`. None: nothing."""
        if self._report is not None:
            return self._report
        if self._gaps:
            self._gaps, self._after = False, known.sent
        after = max(known.after, self._after)
        vouched = known.to if known.to > max(after, self._vouched_to) else 0
        self._vouched_to = max(self._vouched_to, known.to)
        if self._rows or vouched:
            rows, self._rows = self._rows, {}
            self._sequence += 1
            self._report = ProducedReport(
                producer_id=self._producer_id,
                sequence=self._sequence,
                vouched_after=after if vouched else 0,
                vouched_to=vouched,
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
            self._gaps = True
            self._report = None
