"""The master's side of a Paxos group's ledger: opens it, takes reports in, tells what it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import TopicSettings
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.status import RpcError, Status
from phxqueue.proto import methods
from phxqueue.proto.ledger_pb2 import (
    GetLedgerRequest,
    GetLedgerResponse,
    LedgerAccount,
    LedgerBounds,
    LedgerDispute,
    LedgerRow,
    ProducedReport,
    ReportProducedRequest,
    ReportProducedResponse,
    VerifyRangeRequest,
    VerifyRangeResponse,
)
from phxqueue.proto.store_pb2 import AddResponse, StoreCommand
from phxqueue.reconcile.columns import COLUMNS, MASK64
from phxqueue.reconcile.disputes import Dispute
from phxqueue.reconcile.findings import open_by_group
from phxqueue.reconcile.given_up import GivenUp
from phxqueue.reconcile.kinds import groups_of
from phxqueue.reconcile.ledger import EARLIER, Ledger
from phxqueue.reconcile.places import places_of
from phxqueue.replica.errors import ReplicaError
from phxqueue.store import verify
from phxqueue.store.batcher import frame_field
from phxqueue.store.group import StoreGroup
from phxqueue.store.half_table import HalfTable
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.queues import KEPT_VERSION, LEDGER_VERSION, VOUCH_VERSION, WHOLE_LEDGER_VERSION, StoreQueues
from phxqueue.store.understood import understood

#: Rows of one report: more than a producer can have in an hour.
MOST_REPORT_ROWS = 10_000
#: Accounts told in one answer.
_MOST_ACCOUNTS = 100
_DISPUTE_FIELDS = tuple(LedgerDispute.DESCRIPTOR.fields_by_name)


def ledger_bounds(settings: TopicSettings) -> LedgerBounds:
    """What the configuration says."""
    return LedgerBounds(
        retention_minutes=max(math.ceil(settings.ledger_retention_h * 60), 1), most_rows=settings.ledger_max_rows
    )


class LedgerService:
    """Of one Paxos group.

    Args:
        settings: of the topic, as configured now.
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        proposals: Proposals,
        positions: Positions,
        settings: TopicSettings,
        timestamp_ms: Callable[[], int],
    ) -> None:
        self._group = group
        self._machine = machine
        self._proposals = proposals
        self._positions = positions
        self.settings = settings
        self._timestamp_ms = timestamp_ms
        self._opening: Deferred[Any] | None = None
        self._log = Logger(namespace="phxqueue.store.ledger")

    def look(self) -> None:
        """Open the books as soon as every member knows them; have their bounds follow the configuration."""
        group, machine = self._group, self._machine
        if self._opening is not None or not group.proposing() or not group.window_free:
            return
        if not understood(group, machine, LEDGER_VERSION):
            return
        bounds = ledger_bounds(self.settings)
        version = LEDGER_VERSION
        for later in (WHOLE_LEDGER_VERSION, VOUCH_VERSION):
            if understood(group, machine, later):
                version = later
        complete = machine.ledger.whole or version < WHOLE_LEDGER_VERSION
        if complete and machine.ledger.bounds == (bounds.retention_minutes, bounds.most_rows):
            return
        # Later than all that is stored by now, so that times tell what is in the books: what is stored from then on.
        command = StoreCommand(version=version, timestamp_ms=self._timestamp_ms() + 1, ledger=bounds)
        self._opening = proposed = group.propose(command.SerializeToString())
        proposed.addBoth(self._settled)

    def applied(self) -> None:
        """An entry was applied: open the books as early as can be."""
        if not self._machine.ledger.opened:
            self.look()

    def _settled(self, result: Any) -> None:
        self._opening = None
        if isinstance(result, Failure) and result.check(ReplicaError) is None:
            self._log.failure("group {group}: opening the ledger failed", result, group=self._group.group_id)

    def report(self, request: ReportProducedRequest) -> Deferred[ReportProducedResponse]:
        """Have a producer's report chosen; it travels with the next entry, like an Add.

        Raises:
            RpcError: INVALID_ARGUMENT; UNAVAILABLE, the books are not open; RESOURCE_EXHAUSTED.
        """
        report = request.report
        _check(report)
        if not self._machine.ledger.opened:
            raise RpcError(
                Status.UNAVAILABLE, "the ledger is not open yet: a node does not know it", maybe_executed=False
            )
        version = LEDGER_VERSION
        if report.vouched_to:
            for later in (VOUCH_VERSION, KEPT_VERSION):
                if understood(self._group, self._machine, later):
                    version = later
            if version == LEDGER_VERSION:
                report.vouched_after = report.vouched_to = 0
        frame = frame_field(StoreCommand.REPORTS_FIELD_NUMBER, report.SerializeToString())
        return self._proposals.add(frame, (), version).addCallback(_reported)

    def get(self, request: GetLedgerRequest) -> GetLedgerResponse:
        """Tell rows and disputes; `next_minute` where to go on when there are more than one answer holds."""
        ledger = self._machine.ledger
        response = GetLedgerResponse(
            opened=ledger.opened,
            opened_ms=ledger.opened_ms,
            floor_minute=ledger.floor,
            now_ms=self._timestamp_ms(),
        )
        if not ledger.opened:
            return response
        rows: dict[tuple[int, int, int], LedgerRow] = {}
        most = self.settings.ledger_answer_rows
        for minute in sorted(ledger.minutes):
            if minute < request.since_minute:  # on later pages, too: what is older is told once
                continue
            if minute != EARLIER and request.until_minute and minute >= request.until_minute:
                break
            if len(rows) >= most:
                response.next_minute = minute
                break
            for (pub_id, group), row in ledger.minutes[minute].items():
                if request.pub_id in (0, pub_id) and request.consumer_group_id in (0, group):
                    rows[minute, pub_id, group] = _row(minute, pub_id, group, row)
        _add_open_accounts(rows, ledger)
        _add_open_disputes(rows, ledger)
        if ledger.whole:
            _add_undecided(rows, ledger, self._machine.halves)
        self._add_in_hand(rows, ledger)
        response.rows.extend(rows[key] for key in sorted(rows))
        response.disputes.extend(_dispute(one) for one in ledger.disputes.known)
        response.unstored.extend(_unstored(ledger))
        response.unconfirmed.extend(_unconfirmed(ledger))
        self._add_places([*response.unstored, *response.unconfirmed])
        return response

    def _add_places(self, accounts: Sequence[LedgerAccount]) -> None:
        keys = [(one.producer_id, one.minute, one.pub_id, one.consumer_group_ids, one.kind) for one in accounts]
        found = places_of(self._machine.ledger, keys, self._machine.end_cursor)
        for one, key in zip(accounts, keys, strict=True):
            for queue_id, start, stop in found[key]:
                one.places.add(queue_id=queue_id, start=start, stop=stop)

    def _add_in_hand(self, rows: dict[tuple[int, int, int], LedgerRow], ledger: Ledger) -> None:
        for queue_id, group in sorted(self._positions.keys()):
            runs, delivered = ledger.runs.get(queue_id), self._positions.delivered((queue_id, group))
            acked, end = self._machine.acked_cursor(queue_id, group), self._machine.end_cursor(queue_id)
            for minute, pub_id, mask, count in runs.pieces(acked, min(delivered or 0, end)) if runs else ():
                row = rows.get((minute if minute >= ledger.floor else EARLIER, pub_id, group))
                if row is not None and mask >> (group - 1) & 1:
                    row.in_hand += count


class LedgerCalls:
    """The calls about ledgers.

    Args:
        find: the ledger of (topic, store, Paxos group); raises RpcError when it is not served here.
        hosted: the Paxos group of (topic, store, queue), which this node may follow only; raises RpcError.
    """

    def __init__(
        self, find: Callable[[int, int, int], LedgerService], hosted: Callable[[int, int, int], StoreGroup]
    ) -> None:
        self._find = find
        self._hosted = hosted

    def register(self, service: RpcService) -> None:
        """Answer them on this port."""
        service.register(methods.REPORT_PRODUCED, self.report)
        service.register(methods.GET_LEDGER, self.get)
        service.register(methods.VERIFY_RANGE, self.verify)

    def report(self, request: ReportProducedRequest, context: CallContext) -> Deferred[ReportProducedResponse]:
        """Take in what a producer says was confirmed to it."""
        return self._find(request.topic_id, request.store_id, request.group_id).report(request)

    def get(self, request: GetLedgerRequest, context: CallContext) -> GetLedgerResponse:
        """Tell the ledger of a Paxos group."""
        return self._find(request.topic_id, request.store_id, request.group_id).get(request)

    def verify(self, request: VerifyRangeRequest, context: CallContext) -> Deferred[VerifyRangeResponse]:
        """Recompute what this node has of a queue; see :mod:`phxqueue.store.verify`."""
        return verify.start(request, self._hosted(request.topic_id, request.store_id, request.queue_id))


def _check(report: ProducedReport) -> None:
    if not report.producer_id or not report.sequence:
        raise RpcError(Status.INVALID_ARGUMENT, "report: it needs a producer_id and a sequence, from 1")
    if len(report.rows) > MOST_REPORT_ROWS:
        raise RpcError(
            Status.INVALID_ARGUMENT, f"report: {len(report.rows)} rows, more than {MOST_REPORT_ROWS}: send several"
        )


def _reported(_: AddResponse) -> ReportProducedResponse:
    return ReportProducedResponse()


def _row(minute: int, pub_id: int, group: int, numbers: Any) -> LedgerRow:
    row = LedgerRow(minute=minute, pub_id=pub_id, consumer_group_id=group)
    for name, value in zip(COLUMNS, numbers, strict=True):
        if value:
            setattr(row, name, value)
    return row


def _add_open_accounts(rows: dict[tuple[int, int, int], LedgerRow], ledger: Ledger) -> None:
    for (_, minute, pub_id, mask, _), count in ledger.accounts.unconfirmed.items():
        for group in groups_of(mask):
            row = rows.get((minute if minute >= ledger.floor else EARLIER, pub_id, group))
            if row is not None:
                row.unconfirmed += count
    given_up = GivenUp(ledger)
    for (minute, pub_id, group), (count, digest_sum) in open_by_group(ledger):
        row = rows.get((minute if minute >= ledger.floor else EARLIER, pub_id, group))
        if row is None:
            continue
        if count > 0:
            row.unreported += count
        elif count < 0:
            missing = given_up.missing((minute, pub_id, group), -count)
            row.unstored += missing
            row.unreported -= -count - missing
        elif digest_sum & MASK64:
            row.altered += given_up.altered((minute, pub_id, group))


def _add_open_disputes(rows: dict[tuple[int, int, int], LedgerRow], ledger: Ledger) -> None:
    for one in ledger.disputes.known:
        minute = one.minute if one.minute >= ledger.floor else EARLIER
        row = rows.get((minute, one.pub_id, one.consumer_group_id))
        if one.is_open and row is not None:
            column, items = one.counted_in
            setattr(row, COLUMNS[column], getattr(row, COLUMNS[column]) + items)


def _add_undecided(rows: dict[tuple[int, int, int], LedgerRow], ledger: Ledger, halves: HalfTable) -> None:
    """What the table of half messages has: books that are right say the same."""
    for (minute, pub_id, mask), items in halves.undecided.items():
        for group in groups_of(mask):
            row = rows.get((minute if minute >= ledger.floor else EARLIER, pub_id, group))
            if row is not None:
                row.undecided += items


def _dispute(one: Dispute) -> LedgerDispute:
    return LedgerDispute(**{name: getattr(one, name) for name in _DISPUTE_FIELDS})


def _unconfirmed(ledger: Ledger) -> Iterator[LedgerAccount]:
    for (producer_id, minute, pub_id, mask, kind), count in islice(ledger.accounts.unconfirmed.items(), _MOST_ACCOUNTS):
        yield LedgerAccount(
            producer_id=producer_id, minute=minute, pub_id=pub_id, consumer_group_ids=mask, kind=kind, count=count
        )


def _unstored(ledger: Ledger) -> Iterator[LedgerAccount]:
    left = _MOST_ACCOUNTS
    for (producer_id, minute, pub_id, mask, kind), (count, _) in ledger.accounts.open.items():
        if count <= 0 and left:
            left -= 1
            yield LedgerAccount(
                producer_id=producer_id, minute=minute, pub_id=pub_id, consumer_group_ids=mask, kind=kind, count=-count
            )
