"""The replicated books of one Paxos group. Pure: what is applied, in order, is all it knows.

The work per entry is a few additions for each (producer, pub, mask, kind) in it; per acknowledgement, for each run of
items it passes. Items are not looked at. What the columns mean: :mod:`phxqueue.reconcile`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

from phxqueue.config import DEAD_LETTER_BASE
from phxqueue.proto.ledger_pb2 import LedgerBounds, ProducedReport
from phxqueue.proto.store_pb2 import AckDispute, CursorMove
from phxqueue.reconcile.accounts import STEP_ENTRIES, Accounts, Key
from phxqueue.reconcile.columns import (
    ACKNOWLEDGED,
    ADDED,
    ALTERED,
    CANCELLED,
    DELAYED,
    DROPPED,
    DUPLICATES,
    MASK64,
    PASSED,
    PASSED_KINDS,
    PRODUCED,
    PRODUCED_DIGEST,
    REPLAYED,
    SKIPPED,
    TAKEN,
    TAKEN_DIGEST,
    UNCONFIRMED,
    UNNUMBERED,
    UNPROVEN,
    UNREPORTED,
    UNSTORED,
    add_row,
    new_row,
    pack,
    unpack,
)
from phxqueue.reconcile.disputes import Dispute, Disputes
from phxqueue.reconcile.kinds import KINDS, Kind, groups_of, kind_of
from phxqueue.reconcile.runs import Runs
from phxqueue.reconcile.tally import Tally

#: Producers whose last report is remembered: a constant of the command version.
MOST_REPORTERS = 1 << 16
#: For so long, however short rows are kept apart: a report whose answer was lost may come again after a long outage.
REPORTER_MINUTES = 7 * 24 * 60
#: The minute under which everything older than the retention is added up.
EARLIER = 0

_NONE_PASSED = (0,) * (PASSED_KINDS + 1)

Place = tuple[int, int]
"""(pub id, consumer group id)"""


class Ledger:
    """Sums by minute, pub and consumer group, and what they are made from.

    Attributes:
        bounds: (minutes kept apart, rows kept apart); (0, 0) until the books are opened: until then nothing is counted.
        opened_ms: when they were, by entry timestamps.
        whole: whether groups that were created at run time, and half messages, are counted as well: later than the rest
            where members knew of neither when the books were opened.
        minute: of the last entry, in minutes since 1970.
        floor: minutes below are added up as EARLIER.
        minutes: minute -> (pub, group) -> row.
        reports: producer id -> (sequence of the last report, minute it came in), the oldest first.
        passed: (queue, group) -> what became of acknowledged items, as the last cursor move told, in all.
    """

    def __init__(self) -> None:
        self.bounds = (0, 0)
        self.opened_ms = 0
        self.whole = False
        self.minute = 0
        self.floor = 1
        self.minutes: dict[int, dict[Place, array[int]]] = {}
        self.runs: dict[int, Runs] = {}
        self.accounts = Accounts(self._close_account, self._write_off)
        self.reports: dict[int, tuple[int, int]] = {}
        self.disputes = Disputes()
        self.passed: dict[tuple[int, int], tuple[int, ...]] = {}
        self._rows = 0
        self._timers: list[tuple[int, int]] = []  # (first timer number, minute) of delayed batches, rising

    @property
    def opened(self) -> bool:
        """Whether anything is counted."""
        return self.bounds[0] > 0

    def __len__(self) -> int:
        """Rows."""
        return self._rows

    # ---- opening, time -----------------------------------------------------------------------------

    def open(self, bounds: LedgerBounds, now_ms: int) -> None:
        """Open the books, or change their bounds."""
        if not self.opened:
            self.opened_ms = now_ms
        self.bounds = max(bounds.retention_minutes, 1), max(bounds.most_rows, 1)
        self.begin(now_ms)
        self._fold(self._floor_of_rows())

    def begin(self, now_ms: int) -> None:
        """An entry of this time follows; times never fall."""
        minute = now_ms // 60_000
        if minute > self.minute:
            self.minute = minute
            self._fold(minute - self.bounds[0] + 1)

    def _fold(self, floor: int) -> None:
        """Add up what is older than this as EARLIER."""
        if floor <= self.floor:
            return
        self.accounts.close_before(floor)
        for minute in sorted(minute for minute in self.minutes if EARLIER < minute < floor):
            for place, row in self.minutes.pop(minute).items():
                self._rows -= 1
                add_row(self._row(EARLIER, *place), row)
        self.floor = floor
        old = [timer for timer in self._timers if timer[1] < floor]
        self._timers[: len(old)] = old[:1]
        for runs in self.runs.values():
            runs.compact(floor)
        silent = self.minute - REPORTER_MINUTES
        for producer_id in [one for one, (_, heard) in self.reports.items() if heard < silent]:
            self._forget_reporter(producer_id)

    def _floor_of_rows(self) -> int:
        """The floor that leaves no more rows apart than the bounds say."""
        rows, floor = 0, self.minute
        for minute in sorted(self.minutes, reverse=True):
            rows += len(self.minutes[minute])
            if rows > self.bounds[1] or minute == EARLIER:
                break
            floor = minute
        return floor

    def _row(self, minute: int, pub_id: int, group: int) -> array[int]:
        places = self.minutes.get(minute)
        if places is None:
            places = self.minutes[minute] = {}
        row = places.get((pub_id, group))
        if row is None:
            row = places[pub_id, group] = new_row()
            self._rows += 1
        return row

    def _at(self, minute: int, pub_id: int, group: int) -> array[int]:
        return self._row(minute if minute >= self.floor else EARLIER, pub_id, group)

    # ---- what is stored ----------------------------------------------------------------------------

    def place(self, queue_id: int, cursor: int, pub_id: int, mask: int) -> None:
        """A batch of this kind gets its cursors, from this one on."""
        if queue_id >= DEAD_LETTER_BASE:
            return  # they are where they end
        runs = self.runs.get(queue_id)
        if runs is None:
            runs = self.runs[queue_id] = Runs()
        runs.open(cursor, self.minute, pub_id, mask)

    def store(self, tallies: dict[Tally, list[int]]) -> None:
        """Count what an entry has stored: by kind of batch [items, digest sum, lowest, highest sequence]."""
        for (producer_id, queue_id, pub_id, mask, origin, added), (count, digest_sum, *stretch) in tallies.items():
            kind = kind_of(queue_id, origin)
            for group in groups_of(mask):
                row = self._row(self.minute, pub_id, group)
                row[TAKEN + kind] += count
                row[TAKEN_DIGEST + kind] = (row[TAKEN_DIGEST + kind] + digest_sum) & MASK64
                if not producer_id:
                    row[UNNUMBERED] += count
            if producer_id:
                key = producer_id, self.minute, pub_id, mask, kind
                self.accounts.store(key, count, digest_sum, (stretch[0], stretch[1]) if stretch else None)
            if added:
                self._add(self.minute, pub_id, added, count, digest_sum, kind)
        self._bound()

    def _add(self, minute: int, pub_id: int, added: int, count: int, digest_sum: int, kind: int = Kind.NEW) -> None:
        """Items for groups that were created at run time."""
        for group in groups_of(added):
            row = self._at(minute, pub_id, group)
            row[TAKEN + kind] += count
            row[TAKEN_DIGEST + kind] = (row[TAKEN_DIGEST + kind] + digest_sum) & MASK64
            row[ADDED] += count

    def _bound(self) -> None:
        if self._rows > self.bounds[1]:
            self._fold(self._floor_of_rows())

    def count_half(self, column: int, minute: int, pub_id: int, mask: int, count: int) -> None:
        """A half message that was prepared in that minute was prepared or decided, as the column says."""
        for group in groups_of(mask):
            self._at(minute, pub_id, group)[column] += count
        self._bound()

    def set_aside(self, number: int, pub_id: int, mask: int, count: int) -> None:
        """A batch is stored, and waits for its time under this timer number."""
        if not self._timers or self._timers[-1][1] != self.minute:
            self._timers.append((number, self.minute))
        for group in groups_of(mask):
            self._row(self.minute, pub_id, group)[DELAYED] += count

    def come_due(
        self, number: int, queue_id: int, cursor: int, pub_id: int, mask: int, sums: tuple[int, int], added: int
    ) -> None:
        """It gets its cursors. `sums`: items, digest sum; `added`: groups created at run time, for which it is, too."""
        count, digest_sum = sums
        minute = self._minute_of_timer(number)
        runs = self.runs.setdefault(queue_id, Runs())
        if minute is None:
            runs.open(cursor, self.minute, pub_id, 0)
            return
        runs.open(cursor, minute, pub_id, mask | added)
        for group in groups_of(mask):
            self._at(minute, pub_id, group)[DELAYED] -= count
        self._add(minute, pub_id, added, count, digest_sum)

    def cancel(self, number: int, pub_id: int, mask: int, count: int) -> None:
        """It is taken back before its time."""
        minute = self._minute_of_timer(number)
        if minute is not None:
            for group in groups_of(mask):
                row = self._at(minute, pub_id, group)
                row[DELAYED] -= count
                row[CANCELLED] += count

    def _minute_of_timer(self, number: int) -> int | None:
        """When a delayed batch was stored; None: before the books were opened."""
        found = bisect_right(self._timers, (number, MASK64)) - 1
        return None if found < 0 else self._timers[found][1]

    def forget(self, queue_id: int, first_cursor: int) -> None:
        """Items below this cursor are trimmed."""
        runs = self.runs.get(queue_id)
        if runs is not None:
            runs.forget(first_cursor)

    # ---- what is reported --------------------------------------------------------------------------

    def report(self, report: ProducedReport, *, vouched: bool = True, kept: bool = True) -> None:
        """A producer says what was confirmed to it; a report that was taken in before changes nothing. It depends on
        its command whether it may have `vouched` for sequences, and whether its word is `kept`.
        """
        producer_id = report.producer_id
        last, _ = self.reports.pop(producer_id, (0, 0))
        if report.sequence > last:
            for row in report.rows:
                key = producer_id, row.minute, row.pub_id, row.consumer_group_ids, row.kind
                if row.kind < KINDS:
                    self._report(key, row.count, row.digest_sum, row.duplicates)
            if vouched and report.vouched_to:
                self.accounts.vouch(producer_id, report.vouched_after, report.vouched_to, keep=kept)
        self.reports[producer_id] = max(report.sequence, last), self.minute
        if len(self.reports) > MOST_REPORTERS:
            self._forget_reporter(next(iter(self.reports)))

    def _forget_reporter(self, producer_id: int) -> None:
        del self.reports[producer_id]
        self.accounts.forget(producer_id)

    def _report(self, key: Key, count: int, digest_sum: int, duplicates: int) -> None:
        _, minute, pub_id, mask, kind = key
        rows = [self._at(minute, pub_id, group) for group in groups_of(mask)]
        for row in rows:
            row[PRODUCED + kind] += count
            row[PRODUCED_DIGEST + kind] = (row[PRODUCED_DIGEST + kind] + digest_sum) & MASK64
            row[DUPLICATES] += duplicates
        late = 0
        if key not in self.accounts.open:  # perhaps it was closed: then this is what it lacked
            late = min(count, *(row[UNREPORTED] for row in rows)) if rows else count
            for row in rows:
                row[UNREPORTED] -= late
        if late < count:
            self.accounts.report(key, count - late, digest_sum)

    def _close_account(self, key: Key, count: int, digest_sum: int) -> None:
        """An account is given up: what it lacks stays in its row. `rest`: see :mod:`phxqueue.reconcile.given_up`."""
        _, minute, pub_id, mask, _ = key
        for group in groups_of(mask):
            row = self._at(minute, pub_id, group)
            rest = row[UNREPORTED] if self.accounts.vouched_for is not None else 0
            if count > 0:
                row[UNREPORTED] += count
            elif count < 0:
                rest = min(rest, -count)
                row[UNREPORTED] -= rest
                row[UNSTORED] += -count - rest
            elif not rest:
                row[ALTERED] += 1

    def _write_off(self, key: Key, count: int) -> None:
        """What its producer vouches not to have been confirmed stays in its row."""
        _, minute, pub_id, mask, _ = key
        for group in groups_of(mask):
            self._at(minute, pub_id, group)[UNCONFIRMED] += count

    # ---- what is acknowledged ----------------------------------------------------------------------

    def acknowledge(self, move: CursorMove, first: int, last: int) -> None:
        """A group is done with [first, last) of a queue.

        What became of the items, the move tells added up since the books were opened, but for dropped ones, which it
        tells by their cursors: so whatever is told twice counts once.
        """
        queue_id, group = move.queue_id, move.consumer_group_id
        left = self._newly_passed((queue_id, group), (move.retried, move.dead, move.expired, move.unproven))
        runs = self.runs.get(queue_id)
        if runs is None:
            return
        bit = 1 << (group - 1)
        for minute, pub_id, mask, count in runs.pieces(first, last):
            if mask & bit:
                self._acknowledge(self._at(minute, pub_id, group), count, left)
        for one in move.dropped:
            low, high = max(one.first, first), min(one.first + one.count, last)
            for minute, pub_id, mask, count in runs.pieces(low, high):
                if mask & bit:
                    self._at(minute, pub_id, group)[DROPPED] += count
            first = max(first, high)  # rising: what two of them have in common counts once
        if self.disputes.any_open:
            self.disputes.settle(queue_id, group, last)

    def passed_by(self, queue_id: int, group: int) -> tuple[int, int, int, int]:
        """What moves have told last: items retried, dead, expired, unproven."""
        retried, dead, expired, unproven = self.passed.get((queue_id, group), _NONE_PASSED)
        return retried, dead, expired, unproven

    def _newly_passed(self, key: tuple[int, int], told: tuple[int, ...]) -> list[int]:
        before = self.passed.get(key, _NONE_PASSED)
        after = tuple(map(max, before, told))
        if after != before:
            self.passed[key] = after
        return [now - earlier for now, earlier in zip(after, before, strict=True)]

    def _acknowledge(self, row: array[int], count: int, left: list[int]) -> None:
        row[ACKNOWLEDGED] += count
        unproven = min(left[PASSED_KINDS], count)
        row[UNPROVEN] += unproven
        left[PASSED_KINDS] -= unproven
        for kind in range(PASSED_KINDS):
            taken = min(left[kind], count)
            row[PASSED + kind] += taken
            left[kind] -= taken
            count -= taken

    def replay(self, queue_id: int, group: int, acked: int, target: int) -> None:
        """A group was moved, by a replay, or because it was created or deleted: back, so that items are outstanding
        again, or on, passing over some.
        """
        column = REPLAYED if target < acked else SKIPPED
        bit = 1 << (group - 1)
        runs = self.runs.get(queue_id)
        for minute, pub_id, mask, count in runs.pieces(min(acked, target), max(acked, target)) if runs else ():
            if mask & bit:
                self._at(minute, pub_id, group)[column] += count
        if self.disputes.any_open:
            self.disputes.settle(queue_id, group, target)

    def dispute(self, told: AckDispute, now_ms: int) -> None:
        """An acknowledgement was contradicted."""
        minute, pub_id = self._whereabouts(told)
        dispute = Dispute(
            told.queue_id, told.consumer_group_id, told.start, told.stop, told.stored_count, told.stored_digest,
            told.claimed_count, told.claimed_digest, minute, pub_id, now_ms, told.generation, refused=told.refused,
        )  # fmt: skip
        if self.disputes.add(dispute) and not dispute.refused:
            column, items = dispute.counted_in
            self._at(minute, pub_id, told.consumer_group_id)[column] += items

    def _whereabouts(self, told: AckDispute) -> tuple[int, int]:
        """Minute and pub of the first item of the group in the range."""
        runs = self.runs.get(told.queue_id)
        bit = 1 << (told.consumer_group_id - 1)
        first = self.minute, told.pub_id
        for place, (minute, pub_id, mask, _) in enumerate(runs.pieces(told.start, told.stop) if runs else ()):
            if not place:
                first = minute, pub_id or told.pub_id
            if mask & bit:
                return minute, pub_id or told.pub_id
        return first

    # ---- checkpoints -------------------------------------------------------------------------------

    def dump(self) -> list[int]:
        """All of it, as numbers: for checkpoints, and for the state's hash."""
        numbers = [*self.bounds, self.opened_ms, self.minute, self.floor, len(self._timers)]
        for timer in self._timers:
            numbers += timer
        numbers.append(self._rows)
        for minute, places in self.minutes.items():
            for place, row in places.items():
                numbers += minute, *place, *pack(row)
        numbers.append(len(self.runs))
        for queue_id, runs in self.runs.items():
            numbers += queue_id, *runs.dump()
        numbers += self.accounts.dump()
        numbers.append(len(self.reports))
        for producer_id, (sequence, heard) in self.reports.items():
            numbers += producer_id, sequence, heard
        numbers.append(len(self.passed))
        for key, passed in self.passed.items():
            numbers += *key, *passed
        numbers += self.disputes.dump()
        vouched = self.accounts.dump_vouched()
        if self.whole or vouched:  # else as ever, so that older programs can read it
            numbers.append(int(self.whole))
        return numbers + vouched

    def loading(self, numbers: Iterator[int]) -> Iterator[None]:
        """Become what `dump` gave, step by step; this must be a new one."""
        self.bounds = next(numbers), next(numbers)
        self.opened_ms, self.minute, self.floor = next(numbers), next(numbers), next(numbers)
        self._timers = [(next(numbers), next(numbers)) for _ in range(next(numbers))]
        for number in range(next(numbers)):
            if not number % STEP_ENTRIES:
                yield
            minute, pub_id, group = next(numbers), next(numbers), next(numbers)
            self.minutes.setdefault(minute, {})[pub_id, group] = unpack(numbers)
            self._rows += 1
        for _ in range(next(numbers)):
            queue_id = next(numbers)
            self.runs[queue_id] = Runs.load(numbers)
            yield
        yield from self.accounts.loading(numbers)
        for number in range(next(numbers)):
            if not number % STEP_ENTRIES:
                yield
            producer_id = next(numbers)
            self.reports[producer_id] = next(numbers), next(numbers)
        for _ in range(next(numbers)):
            key = next(numbers), next(numbers)
            self.passed[key] = tuple(next(numbers) for _ in range(PASSED_KINDS + 1))
        self.disputes.load(numbers)
        self.whole = bool(next(numbers, 0))
        yield from self.accounts.loading_vouched(numbers)
