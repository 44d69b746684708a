"""`phxqueue reconcile`: gathering ledgers page by page, the table, where something is wrong, the verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from phxqueue.admin.ledger_view import as_document, as_text, minute_text
from phxqueue.admin.ledgers import Wanted, ask_ledgers
from phxqueue.admin.verifying import Verified, verdict_of
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.ledger_pb2 import (
    GetLedgerRequest,
    GetLedgerResponse,
    LedgerAccount,
    LedgerDispute,
    LedgerPlace,
    LedgerRow,
)
from phxqueue.reconcile.rows import Picture
from phxqueue.testing import small_topic

TOPIC = small_topic([1])
MINUTE = 28_333_333


class Answers:
    """Ledgers that give their answers in order."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[GetLedgerRequest] = []
        self._answers = list(answers)

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
        copy = GetLedgerRequest()
        copy.CopyFrom(request)
        self.asked.append(copy)
        answer = self._answers.pop(0)
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


def row(minute: int = MINUTE, **columns: int) -> LedgerRow:
    return LedgerRow(minute=minute, pub_id=1, consumer_group_id=1, **columns)


def told(*rows: LedgerRow, **fields: Any) -> GetLedgerResponse:
    return GetLedgerResponse(opened=True, rows=rows, **fields)


@pytest_twisted.ensureDeferred
async def test_pages_are_put_together() -> None:
    stores = Answers(
        told(row(0, stored=1), row(stored=2), next_minute=MINUTE + 1, disputes=[LedgerDispute(queue_id=1)]),
        told(row(MINUTE + 1, stored=4), disputes=[LedgerDispute(queue_id=1)]),
    )
    picture = await ask_ledgers(stores, TOPIC, Wanted(), 1.0)
    assert [(one.minute, one.stored) for one in picture.sorted_rows()] == [(0, 1), (MINUTE, 2), (MINUTE + 1, 4)]
    assert len(picture.disputes) == 1
    assert [request.since_minute for request in stores.asked] == [0, MINUTE + 1]


@pytest_twisted.ensureDeferred
async def test_since_leaves_out_what_is_older() -> None:
    stores = Answers(told(row(0, stored=1, lost=1), row(stored=2)))
    picture = await ask_ledgers(stores, TOPIC, Wanted(since_minute=MINUTE, pub_id=1, consumer_group_id=1), 1.0)
    assert (picture.difference, list(picture.rows)) == (0, [(MINUTE, 1, 1)])
    assert (stores.asked[0].pub_id, stores.asked[0].consumer_group_id) == (1, 1)


@pytest_twisted.ensureDeferred
async def test_disputes_and_accounts_that_were_not_asked_for_are_left_out() -> None:
    def accounts() -> list[LedgerAccount]:
        return [
            LedgerAccount(minute=minute, pub_id=pub, consumer_group_ids=mask)
            for minute, pub, mask in ((MINUTE, 1, 0b01), (MINUTE, 1, 0b10), (MINUTE, 2, 0b01), (MINUTE - 1, 1, 0b01))
        ]

    disputes = [
        LedgerDispute(minute=minute, pub_id=pub, consumer_group_id=group)
        for minute, pub, group in ((MINUTE, 1, 1), (MINUTE, 1, 2), (MINUTE, 2, 1), (MINUTE - 1, 1, 1))
    ]
    answer = told(disputes=disputes, unstored=accounts(), unconfirmed=accounts())
    everything = await ask_ledgers(Answers(answer), TOPIC, Wanted(), 1.0)
    assert [len(told) for told in (everything.disputes, everything.unstored, everything.unconfirmed)] == [4, 4, 4]
    some = await ask_ledgers(Answers(answer), TOPIC, Wanted(since_minute=MINUTE, pub_id=1, consumer_group_id=1), 1.0)
    assert [told for _, _, told in some.disputes] == disputes[:1]
    assert [told for _, _, told in some.unstored] == [told for _, _, told in some.unconfirmed] == accounts()[:1]


@pytest_twisted.ensureDeferred
async def test_what_does_not_answer_is_missing() -> None:
    silent = await ask_ledgers(Answers(RpcError(Status.NO_MASTER, "no majority")), TOPIC, Wanted(), 1.0)
    assert as_text(silent, minutes=False) == ["cannot tell: store 1, Paxos group 0: no majority"]
    closed = await ask_ledgers(Answers(GetLedgerResponse()), TOPIC, Wanted(), 1.0)
    assert "its ledger is not open" in closed.missing[0]


def pictured(*rows: LedgerRow, **fields: Any) -> Picture:
    picture = Picture()
    picture.take(1, 0, told(*rows, **fields))
    return picture


def test_a_balanced_table() -> None:
    picture = pictured(
        row(stored=8, produced=8, retried=2, produced_retried=2, acknowledged=9, passed_retried=2, in_hand=1),
        row(MINUTE + 1, stored=1, unreported=1, acknowledged=1),
    )
    assert as_text(picture, minutes=False) == [
        "  PUB  GROUP  PRODUCED  STORED  RETRIED  DELIVERED  FINISHED  PASSED ON  OUTSTANDING  UNREPORTED  DIFFERENCE",
        "    1      1        10       9        2         11         8          2            1           1           0",
        "",
        "the ledgers balance",
    ]
    by_minute = as_text(picture, minutes=True)
    assert by_minute[1].startswith(f"  {minute_text(MINUTE)}")
    assert len(by_minute) == 5
    assert minute_text(0) == "earlier"


def test_a_difference_is_shown_where_it_is() -> None:
    picture = pictured(
        row(stored=5, produced=7, unstored=2, acknowledged=5, altered=1),
        row(MINUTE + 1, stored=5, produced=5),
        disputes=[
            LedgerDispute(
                queue_id=3, consumer_group_id=1, start=10, stop=15, stored_count=5, claimed_count=5,
                stored_digest=0xAB, claimed_digest=0xCD, minute=MINUTE, pub_id=1, times=1,
            ),
            LedgerDispute(queue_id=3, consumer_group_id=1, start=15, stop=20, stored_count=5, refused=True, times=4),
        ],
        unstored=[LedgerAccount(producer_id=0xBEEF, minute=MINUTE, pub_id=1, consumer_group_ids=0b101, count=2)],
        unconfirmed=[
            LedgerAccount(
                producer_id=0xCAFE, minute=MINUTE, pub_id=1, consumer_group_ids=1, count=3,
                places=[LedgerPlace(queue_id=4, start=7, stop=12), LedgerPlace(queue_id=5, start=0, stop=1)],
            )
        ],
    )  # fmt: skip
    text = "\n".join(as_text(picture, minutes=False))
    assert "the ledgers DO NOT BALANCE: a difference of 3 items" in text
    assert "minutes with a difference:\n  MINUTE" in text
    assert text.count(minute_text(MINUTE)) == 4
    assert "store 1 queue 3 group 1 cursors 10 to 14: altered; stored 5 items, digests 00000000000000ab" in text
    assert "cursors 15 to 19: 5 lost" in text
    assert "(refused, open, 4 times" in text
    assert "producer beef: 2 items (new) of pub 1 for groups 1, 3" in text
    assert "that minute is in no queue any more" in text
    assert "producer cafe: 3 items (new) of pub 1 for groups 1, " in text
    assert "that minute is in queue 4 cursors 7 to 11, queue 5 cursors 0 to 0" in text
    document = as_document(picture)
    assert [one["producer_id"] for one in document["unstored"] + document["unconfirmed"]] == ["beef", "cafe"]
    assert document["unconfirmed"][0]["places"][0] == {"queue_id": 4, "start": 7, "stop": 12}


def test_the_document_is_json() -> None:
    document = json.loads(json.dumps(as_document(pictured(row(stored=5, stored_digest=255, lost=1)))))
    assert (document["difference"], document["complete"]) == (1, True)
    assert document["rows"][0]["stored_digest"] == "00000000000000ff"
    assert document["totals"][0]["outstanding"] == 5


def test_replicas_that_agree() -> None:
    reports = [Verified(node, stop=5, items=5, digest_sum=9, sums={(0, 5): (5, 9)}) for node in range(3)]
    lines, status = verdict_of(reports)
    assert (status, lines[-1]) == (0, "all replicas agree with their index and with each other")


def test_replicas_that_do_not() -> None:
    right = Verified(0, stop=5, items=5, digest_sum=9, sums={(0, 5): (5, 9)})
    other = Verified(1, stop=5, items=5, digest_sum=8, sums={(0, 5): (5, 8)})
    silent = Verified(2, reason="connection refused")
    bad = Verified(3, stop=5, bad=True, bad_cursor=3, problem="the batch has 0 items, its header says 1")
    assert verdict_of([right, silent])[1] == 2
    lines, status = verdict_of([right, other, silent])
    assert status == 1
    assert lines[-1].startswith("WRONG: cursors 0 to 4 are not the same on nodes 0 and 1")
    assert "right" in lines[1], "each for itself"
    worse = Verified(4, stop=5, bad=True, bad_cursor=1, problem="its entry cannot be read")
    assert verdict_of([right, other, bad, worse])[0][-2:] == [
        "WRONG from cursor 3 on, on node 3: the batch has 0 items, its header says 1",
        "WRONG from cursor 1 on, on node 4: its entry cannot be read",
    ]
