"""The stores' ledgers against books of our own: at the end they say the same, and every sum comes out.

Ours are kept from the chosen entries and from what producers were told, item by item, and share no code with the
ledger's: only what its columns mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from phxqueue.config import DEAD_LETTER_BASE
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.reconcile.columns import COLUMNS
from phxqueue.reconcile.ledger import Ledger
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.reference import Reference

DEAD_LETTERS_FROM = DEAD_LETTER_BASE
WHOLE_SINCE = 12
_RETRIED, _EXPIRED, _REQUEUED = 1, 3, 4

Sums = Counter[tuple[int, str]]
"""(consumer group, column) -> items, of one Paxos group"""


class BookKeeping:
    """What every ledger must say."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()
        self._sums: dict[int, Sums] = {}  # of the Paxos groups whose books are open
        self._marks: dict[int, dict[int, int]] = {}  # where the queues ended then
        # Delayed batches waited then, or an older program gave a group up: they are in no books.
        self._vague: set[int] = set()
        self._whole: set[int] = set()  # Paxos groups whose books count what a group is given up for
        self._confirmed: dict[int, Sums] = {}
        self._producers: dict[int, Counter[int]] = {}  # by Paxos group: items confirmed to whom
        self._created: set[int] = set()  # at run time

    def chosen(self, group_id: int, payload: bytes, reference: Reference) -> None:
        """The next entry of a Paxos group; `reference` has it already."""
        command = StoreCommand.FromString(payload)
        if command.HasField("ledger") and group_id not in self._sums:
            self._sums[group_id] = Counter()
            self._marks[group_id] = {queue_id: len(items) for queue_id, items in reference.queues.items()}
            if reference.delayed_in(group_id):
                self._vague.add(group_id)
        if command.HasField("ledger") and command.version >= WHOLE_SINCE:
            self._whole.add(group_id)
        if any(change.delete.left for change in command.groups) and group_id not in self._whole:
            self._vague.add(group_id)
        sums = self._sums.get(group_id)
        self._created.update(change.consumer_group_id for change in command.groups if change.HasField("create"))
        for batch in command.batches:
            header = batch.header
            name = header.producer_id, header.sequence
            if not header.count or (header.sequence and name in self._seen):
                continue
            self._seen.add(name)
            if sums is not None:
                for group in _groups(header.consumer_group_ids):
                    sums[group, _column(header)] += header.count

    def confirmed(self, producer_id: int, group_id: int, header: BatchHeader, *, duplicate: bool) -> None:
        """A producer that reports was told that a batch is stored."""
        sums = self._confirmed.setdefault(group_id, Counter())
        self._producers.setdefault(group_id, Counter())[producer_id] += header.count
        for group in _groups(header.consumer_group_ids):
            sums[group, "produced"] += header.count
            sums[group, "duplicates"] += header.count * duplicate

    # ---- at the end ------------------------------------------------------------------------------

    def check(
        self,
        group_id: int,
        ledger: Ledger,
        reference: Reference,
        *,
        plain: bool,
        reporting: bool,
        died: set[int],
        unheard: Mapping[int, int],
        undecided: Mapping[tuple[int, int, int], int],
    ) -> None:
        """Everything has been reported, but for what was told to those who `died`.

        Args:
            undecided: what the table of half messages has: (minute, pub, mask) -> items.
            unheard: by producer that died: items under way then.
            plain: whether a batch is stored if it is sent for the first time: there were no keys and no halves.
        """
        sums = self._sums.get(group_id)
        if sums is None:
            if ledger.opened:
                raise Violation(f"the ledger of group {group_id} is open, and no entry has opened it")
            return
        where = f"the ledger of group {group_id}"
        found = self._found(where, ledger)
        groups = {group for group, _ in (*sums, *found)}
        for group in groups & self._created:  # producers name none of them, and nor do our own books
            _same(f"{where}, consumer group {group}, stored", found[group, "stored"], found[group, "added"])
        groups -= self._created
        if ledger.whole:
            self._check_halves(where, found, undecided)
        for group in groups if plain else ():
            for column in ("stored", "retried", "dead", "expired", "requeued"):
                _same(f"{where}, consumer group {group}, {column}", found[group, column], sums[group, column])
        if group_id not in self._vague:
            self._check_outstanding(where, group_id, groups, found, reference)
        if reporting:
            self._check_reports(where, group_id, ledger, found, died, unheard)

    def _found(self, where: str, ledger: Ledger) -> Sums:
        found: Sums = Counter()
        for minute, rows in ledger.minutes.items():
            for (pub_id, group), row in rows.items():
                told = dict(zip(COLUMNS, row, strict=True))
                for column, items in told.items():
                    found[group, column] += items
                arrived = told["stored"] + told["retried"] + told["requeued"] + told["replayed"]
                left = arrived - told["delayed"] - told["cancelled"] - told["acknowledged"] - told["skipped"]
                passed = told["passed_retried"] + told["passed_dead"] + told["passed_expired"] + told["dropped"]
                found[group, "outstanding"] += left
                if left < 0 or passed > told["acknowledged"]:
                    raise Violation(f"{where}, minute {minute}, pub {pub_id}, consumer group {group}: {told}")
                for column in ("lost", "invented", "altered", "unstored", "unconfirmed"):
                    _same(f"{where}, minute {minute}, consumer group {group}, {column}", told[column], 0)
        for key, (count, _) in ledger.accounts.open.items():
            if count <= 0:
                raise Violation(f"{where}: {-count} items were confirmed and are not stored: {key}")
        if ledger.accounts.unconfirmed:
            raise Violation(f"{where}: everything was confirmed, and {ledger.accounts.unconfirmed} seems not to be")
        if ledger.disputes.known:
            raise Violation(f"{where} has disputes, and every claim was right: {ledger.disputes.known}")
        return found

    def _check_halves(self, where: str, found: Sums, undecided: Mapping[tuple[int, int, int], int]) -> None:
        for group in {group for group, _ in found}:
            left = sum(items for (_, _, mask), items in undecided.items() if mask >> (group - 1) & 1)
            decided = sum(found[group, column] for column in ("committed", "rolled_back", "timed_out"))
            _same(f"{where}, consumer group {group}, prepared", found[group, "prepared"], decided + left)

    def _check_outstanding(
        self, where: str, group_id: int, groups: set[int], found: Sums, reference: Reference
    ) -> None:
        marks = self._marks[group_id]
        for group in groups:
            arrived = waiting = 0
            for queue_id, items in reference.queues.items():
                if queue_id in reference.queues_of(group_id) and queue_id < DEAD_LETTERS_FROM:
                    mark, acked = marks.get(queue_id, 0), reference.acked.get((queue_id, group), 0)
                    arrived += sum(item.mask >> (group - 1) & 1 for item in items[mark:])
                    waiting += sum(item.mask >> (group - 1) & 1 for item in items[max(acked, mark) :])
            told = {name: found[group, name] for name in ("stored", "retried", "requeued", "delayed", "cancelled")}
            counted = told["stored"] + told["retried"] + told["requeued"] - told["delayed"] - told["cancelled"]
            _same(f"{where}, consumer group {group}, what is in queues ({told})", counted, arrived)
            _same(f"{where}, consumer group {group}, outstanding", found[group, "outstanding"], waiting)

    def _check_reports(
        self, where: str, group_id: int, ledger: Ledger, found: Sums, died: set[int], unheard: Mapping[int, int]
    ) -> None:
        confirmed: Mapping[tuple[int, str], int] = self._confirmed.get(group_id, Counter())
        if not died:
            for (group, column), items in confirmed.items():
                _same(f"{where}, consumer group {group}, {column}", found[group, column], items)
        known = self._producers.get(group_id, Counter())
        left: Counter[int] = Counter()
        for (producer_id, *_), (count, _) in ledger.accounts.open.items():
            left[producer_id] += count
        for producer_id, count in left.items():
            # A process may die after it has reported all that it was told, and before it is told of what is under way:
            # that is stored, and stays unreported. It is no more than was under way, and nobody else's.
            if producer_id in known and producer_id not in died and count > unheard.get(producer_id, 0):
                raise Violation(f"{where}: producer {producer_id} has reported all, and {count} items are unreported")


def _column(header: BatchHeader) -> str:
    if header.queue_id >= DEAD_LETTERS_FROM:
        return "expired" if header.origin == _EXPIRED else "dead"
    return {_RETRIED: "retried", _REQUEUED: "requeued"}.get(header.origin, "stored")


def _groups(mask: int) -> list[int]:
    return [group for group in range(1, 65) if mask >> (group - 1) & 1]


def _same(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise Violation(f"{what}: {found} instead of {wanted}")
