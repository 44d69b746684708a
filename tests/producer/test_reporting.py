"""What was confirmed is reported to the ledger of the Paxos group that did, once, whatever happens on the way."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from phxqueue.net.address import Address
from phxqueue.net.routing import Route
from phxqueue.net.status import RpcError, Status
from phxqueue.producer.confirmed import Confirmed, Known
from phxqueue.producer.reporting import CLOSING_S, Reporter
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.ledger_pb2 import ProducedRow, ReportProducedRequest, ReportProducedResponse
from phxqueue.proto.origin import Origin
from phxqueue.proto.store_pb2 import AddResult

AT_MS = 1_700_000_000_000
MINUTE = AT_MS // 60_000


def header(count: int = 1, digest: int = 0, **fields: Any) -> BatchHeader:
    return BatchHeader(pub_id=1, consumer_group_ids=3, count=count, digest_sum=digest, **fields)


class Stores:
    """Takes reports, when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[ReportProducedRequest, Deferred[Any], float]] = []

    def call(self, route: Route, method: Any, request: Any, deadline_s: float, **more: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self.calls.append((request, answer, deadline_s))
        return answer

    @property
    def last(self) -> ReportProducedRequest:
        return self.calls[-1][0]

    def take(self) -> None:
        self.calls[-1][1].callback(ReportProducedResponse())

    def fail(self, status: Status) -> None:
        self.calls[-1][1].errback(RpcError(status, "no"))


class Reporting:
    def __init__(self, interval_s: float = 60.0, most_rows: int = 100) -> None:
        self.clock = Clock()
        self.stores = Stores()
        self.known = Known()
        self.reporter = Reporter(
            self.stores, self.clock, self._route, topic_id=1000, producer_id=7, interval_s=interval_s,
            most_rows=most_rows, known=lambda lane: self.known,
        )  # fmt: skip

    def _route(self, store_id: int, group: int) -> Route:
        if store_id == 9:
            raise KeyError(store_id)
        return Route(key=f"{store_id}:{group}", candidates=(Address("127.0.0.1", 1),), what=f"store {store_id}")

    def confirm(self, count: int = 1, *, lane: tuple[int, int] = (1, 0), at_ms: int = AT_MS, **fields: Any) -> None:
        duplicate = fields.pop("duplicate", False)
        self.reporter.confirmed(lane, header(count, **fields), AddResult(timestamp_ms=at_ms, duplicate=duplicate))


def rows(request: ReportProducedRequest) -> list[tuple[int, int, int, int]]:
    return [(row.minute - MINUTE, row.kind, row.count, row.duplicates) for row in request.report.rows]


def test_once_a_minute_and_only_when_there_is_something() -> None:
    one = Reporting()
    one.clock.advance(600)
    assert not one.stores.calls
    one.confirm(2)
    one.confirm(3, at_ms=AT_MS + 60_000)
    one.clock.advance(59)
    assert not one.stores.calls
    one.clock.advance(1)
    assert rows(one.stores.last) == [(0, 0, 2, 0), (1, 0, 3, 0)]
    one.stores.take()
    one.clock.advance(60)
    assert len(one.stores.calls) == 1
    assert not one.clock.getDelayedCalls(), "an idle producer has no timer"


def test_what_is_alike_is_one_row() -> None:
    sums = Confirmed(7, 10)
    sums.add(header(2, digest=(1 << 64) - 1), AT_MS, duplicate=False)
    sums.add(header(3, digest=5), AT_MS, duplicate=True)
    sums.add(header(1, origin=Origin.RETRIED), AT_MS, duplicate=False)
    report = sums.report(Known())
    assert report is not None
    assert list(report.rows) == [
        ProducedRow(minute=MINUTE, pub_id=1, consumer_group_ids=3, kind=0, count=5, digest_sum=4, duplicates=3),
        ProducedRow(minute=MINUTE, pub_id=1, consumer_group_ids=3, kind=1, count=1),
    ]


def test_each_paxos_group_gets_its_own() -> None:
    one = Reporting()
    one.confirm(1, lane=(1, 0))
    one.confirm(2, lane=(1, 3))
    one.clock.advance(60)
    assert [(call[0].store_id, call[0].group_id) for call in one.stores.calls] == [(1, 0), (1, 3)]


def test_one_without_answer_is_sent_again_under_its_number() -> None:
    one = Reporting()
    one.confirm(2)
    one.clock.advance(60)
    first = one.stores.last
    one.confirm(5)
    one.stores.fail(Status.UNAVAILABLE)
    one.clock.advance(60)
    assert one.stores.last == first
    one.stores.take()
    one.clock.advance(60)
    assert (one.stores.last.report.sequence, rows(one.stores.last)) == (2, [(0, 0, 5, 0)])


def test_one_that_is_under_way_is_not_sent_twice() -> None:
    one = Reporting()
    one.confirm(2)
    one.clock.advance(60)
    one.confirm(1)
    one.clock.advance(60)
    assert len(one.stores.calls) == 1


def test_a_refusal_for_good_ends_it_and_is_counted() -> None:

    one = Reporting()
    one.confirm(2)
    one.clock.advance(60)
    with capturedLogs() as logs:
        one.stores.fail(Status.PERMISSION_DENIED)
    assert [event["log_level"].name for event in logs] == ["error"]
    assert one.reporter.given_up == 2


def test_rows_are_bounded() -> None:
    one = Reporting(most_rows=2)
    for minute in range(4):
        one.confirm(1 + minute, at_ms=AT_MS + minute * 60_000)
    assert one.reporter.given_up == 3
    one.clock.advance(60)
    assert [row[0] for row in rows(one.stores.last)] == [2, 3]


def test_a_store_that_is_gone_gets_no_report() -> None:
    one = Reporting()
    one.confirm(2, lane=(9, 0))
    one.clock.advance(60)
    assert not one.stores.calls
    assert one.reporter.given_up == 2


def test_batches_in_no_ledger_and_producers_that_never_report() -> None:
    one = Reporting()
    one.confirm(at_ms=0)
    never = Reporting(interval_s=0.0)
    never.confirm()
    assert not one.clock.getDelayedCalls()
    assert not never.clock.getDelayedCalls()


def test_close_reports_what_is_left() -> None:
    one = Reporting()
    one.confirm(2)
    closed: list[None] = []
    one.reporter.close().addCallback(closed.append)
    assert not closed
    assert one.stores.calls[-1][2] == CLOSING_S
    one.stores.take()
    assert closed == [None]


def test_close_does_not_fail() -> None:
    one = Reporting()
    one.confirm(2)
    closed: list[None] = []
    one.reporter.close().addCallback(closed.append)
    one.stores.fail(Status.DEADLINE_EXCEEDED)
    assert closed == [None]


# ---- vouching ---------------------------------------------------------------------------------------


def vouched(request: ReportProducedRequest) -> tuple[int, int]:
    return request.report.vouched_after, request.report.vouched_to


def test_what_has_an_outcome_is_vouched_for_though_nothing_was_confirmed() -> None:
    one = Reporting()
    one.reporter.sent((1, 0))
    assert not one.clock.getDelayedCalls(), "nobody knows whether it has a ledger"
    one.confirm()
    one.clock.advance(60)
    one.stores.take()
    one.stores.calls.clear()
    one.reporter.sent((1, 0))
    one.known = Known(0, 0, 2)
    one.clock.advance(60)
    assert not one.stores.calls, "it is under way"
    one.known = Known(0, 2, 2)
    one.clock.advance(60)
    assert (rows(one.stores.last), vouched(one.stores.last)) == ([], (0, 2))
    one.stores.take()
    one.clock.advance(60)
    assert len(one.stores.calls) == 1
    assert not one.clock.getDelayedCalls(), "an idle producer has no timer"


def test_only_what_lies_above_an_unknown_outcome_is_vouched_for() -> None:
    one = Reporting()
    for known, expected in ((Known(3, 3, 3), (0, 0)), (Known(3, 5, 7), (3, 5)), (Known(3, 7, 7), (3, 7))):
        one.known = known
        one.confirm()
        one.clock.advance(60)
        assert vouched(one.stores.last) == expected
        one.stores.take()


def test_nothing_is_vouched_for_of_which_a_part_was_given_up() -> None:
    one = Reporting(most_rows=1)
    one.known = Known(0, 4, 6)
    for minute in range(2):
        one.confirm(at_ms=AT_MS + minute * 60_000)
    one.clock.advance(60)
    assert vouched(one.stores.last) == (0, 0)
    with capturedLogs():
        one.stores.fail(Status.PERMISSION_DENIED)
    one.known = Known(0, 8, 8)
    one.confirm()
    one.clock.advance(60)
    assert vouched(one.stores.last) == (0, 0), "the report that was refused may have had any of them"
    one.stores.take()
    one.known = Known(0, 9, 9)
    one.confirm()
    one.clock.advance(60)
    assert vouched(one.stores.last) == (8, 9)
