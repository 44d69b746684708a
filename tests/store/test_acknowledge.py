"""Acknowledgements through the service: in place or not, true or not, by the pub's `reconcile`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.logger import LogLevel, capturedLogs

from phxqueue.config import Reconcile
from phxqueue.net.status import Status
from phxqueue.proto.digest import Claim
from phxqueue.proto.store_pb2 import AckClaim
from phxqueue.reconcile.findings import findings
from tests.store.fakes import Call, StoreUnderTest, batch


def store(reconcile: Reconcile = "alarm", **kwargs: Any) -> StoreUnderTest:
    """Queue 1 of pub 1 holds ten items: two batches of five, digest sums 50 and 500."""
    made = StoreUnderTest(**kwargs)
    topic = made.node.topic
    pubs = tuple(replace(pub, reconcile=reconcile) for pub in topic.pubs)
    made.service.reconfigure(replace(made.node, topic=replace(topic, pubs=pubs)))
    made.added(batch(1, 5, digest=50))
    made.added(batch(1, 5, digest=500))
    return made


def acknowledge(made: StoreUnderTest, *claims: Claim, limit: int = 0) -> Call:
    messages = [AckClaim(start=c.start, stop=c.stop, count=c.count, digest_sum=c.digest_sum) for c in claims]
    return made.get(limit=limit, prev_cursor=claims[-1].stop, claims=messages)


def audits(made: StoreUnderTest) -> tuple[int, int, int, int]:
    found = made.service._groups[0].reading.audits.total()
    return found.agreed, found.disputed, found.unclaimed, found.unchecked


FIRST = Claim(0, 5, 5, 50)
SECOND = Claim(5, 10, 5, 500)
WRONG = Claim(0, 5, 4, 40)


@pytest.mark.parametrize("reconcile", ["off", "alarm", "strict"])
def test_what_is_true_moves_the_cursor(reconcile: Reconcile) -> None:
    made = store(reconcile)
    answer = acknowledge(made, FIRST, SECOND).answer
    assert (answer.prev_cursor, answer.reset) == (10, False)
    assert audits(made) == ((0, 0, 0, 0) if reconcile == "off" else (1, 0, 0, 0))


def test_an_alarm_is_logged_and_the_cursor_moves() -> None:
    made = store()
    with capturedLogs() as logged:
        answer = acknowledge(made, WRONG).answer
    assert (answer.prev_cursor, answer.reset) == (5, False)
    [event] = [event for event in logged if event["log_level"] is LogLevel.error]
    assert event["cause"] == (
        "cursors 0 to 4: 5 items are stored and only 4 were finished: 1 were lost; the acknowledgement counts "
        "nevertheless (reconcile = alarm)"
    )
    place = {name: event[name] for name in ("store", "queue", "group", "pub", "first_cursor", "last_cursor")}
    assert place == {"store": 1, "queue": 1, "group": 1, "pub": "1", "first_cursor": 0, "last_cursor": 4}
    assert audits(made) == (0, 1, 0, 0)


def test_strict_moves_nothing_and_has_the_items_delivered_again() -> None:
    made = store("strict")
    with capturedLogs():
        answer = acknowledge(made, WRONG, limit=100).answer
    assert (answer.prev_cursor, answer.reset) == (0, True)
    assert [one.first_cursor for one in answer.batches] == [0, 5]
    assert audits(made) == (0, 1, 0, 0)
    assert acknowledge(made, FIRST, SECOND).answer.prev_cursor == 10


def reconfigured(made: StoreUnderTest, reconcile: Reconcile) -> None:
    topic = made.node.topic
    pubs = tuple(replace(pub, reconcile=reconcile) for pub in topic.pubs)
    made.service.reconfigure(replace(made.node, topic=replace(topic, pubs=pubs)))
    made.clock.advance(1)


@pytest.mark.parametrize("how", ["off", "unclaimed", "checked"])
def test_what_strict_has_refused_is_settled_by_nothing_that_is_not_checked(how: str) -> None:
    """An operator has set `reconcile` to something else: that lets the group go on, and makes nothing right."""
    made = store("strict")
    with capturedLogs():
        acknowledge(made, WRONG)
    reconfigured(made, "off" if how == "off" else "alarm")
    if how == "unclaimed":
        made.get(limit=0, prev_cursor=3)
        assert made.get(limit=0, prev_cursor=10).answer.prev_cursor == 10
    else:
        assert acknowledge(made, FIRST, SECOND).answer.prev_cursor == 10
    made.clock.advance(1)
    machine = made.group.state_machine
    assert machine.acked[1, 1] == 10
    found = {place: one.lost for place, one in findings(machine.ledger, 0).items()}
    assert found == ({} if how == "checked" else {(1, 1): 1})
    assert not machine.ledger.disputes.any_open
    refused, *accepted = machine.ledger.disputes.known
    assert (refused.refused, refused.settled) == (True, True)
    assert [(one.start, one.stop, one.refused, one.claimed_count) for one in accepted] == (
        [] if how == "checked" else [(0, 5, False, 4)]
    )


def test_strictness_asks_for_claims() -> None:
    made = store("strict")
    error = made.get(limit=0, prev_cursor=5).error
    assert error.status is Status.INVALID_ARGUMENT
    assert "has to carry claims" in error.message


def test_clients_that_do_not_count_are_counted() -> None:
    made = store()
    assert made.get(limit=0, prev_cursor=5).answer.prev_cursor == 5
    assert audits(made) == (0, 0, 1, 0)


def test_only_what_is_new_is_checked() -> None:
    """What was acknowledged before may be trimmed by now, and was checked then."""
    made = store()
    acknowledge(made, FIRST)
    answer = acknowledge(made, Claim(0, 5, 999, 999), SECOND).answer
    assert answer.prev_cursor == 10
    assert audits(made) == (2, 0, 0, 0)


def test_a_claim_that_leaves_something_out_moves_nothing() -> None:
    for reconcile in ("off", "alarm", "strict"):
        made = store(reconcile)  # type: ignore[arg-type]
        answer = acknowledge(made, SECOND, limit=100).answer
        assert (answer.prev_cursor, answer.reset) == (0, True)
        assert answer.batches[0].first_cursor == 0
        assert audits(made) == (0, 0, 0, 0)


def test_a_new_master_checks_what_the_old_one_has_not_replicated() -> None:
    made = store("strict")
    acknowledge(made, FIRST)
    made.group.lose(RuntimeError("deposed"))
    made.group.become_master()
    with capturedLogs():
        assert acknowledge(made, Claim(0, 5, 5, 51), SECOND).answer.prev_cursor == 0
    assert acknowledge(made, FIRST, SECOND).answer.prev_cursor == 10


def test_answers_say_what_is_durable() -> None:
    made = store()
    made.group.auto = False
    assert acknowledge(made, FIRST).answer.durable_cursor == 0
    made.clock.advance(1)
    made.group.choose()
    assert acknowledge(made, FIRST, SECOND).answer.durable_cursor == 5


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ((FIRST, Claim(6, 10, 4, 0)), "[6, 10) does not follow 5"),
        ((Claim(0, 0, 0, 0), FIRST), "[0, 0) does not follow 0"),
        ((Claim(7, 5, 0, 0),), "[7, 5) does not follow 7"),
        (tuple(Claim(n, n + 1, 1, 1) for n in range(257)), "257, more than 256"),
    ],
)
def test_claims_that_make_no_sense_are_refused(claims: tuple[Claim, ...], said: str) -> None:
    made = store()
    made.added(batch(1, 300))
    call = acknowledge(made, *claims)
    assert call.error.status is Status.INVALID_ARGUMENT
    assert said in call.error.message


def test_claims_have_to_end_where_the_acknowledgement_does() -> None:
    made = store()
    claim = AckClaim(start=0, stop=5, count=5, digest_sum=50)
    error = made.get(limit=0, prev_cursor=7, claims=[claim]).error
    assert (error.status, error.message) == (Status.INVALID_ARGUMENT, "claims: they end at 5 and prev_cursor is 7")


def test_a_claim_that_needs_the_disk_is_answered_when_it_is_read() -> None:
    made = store()
    made.added(batch(1, 2, mask=1, digest=3), batch(1, 2, mask=3, digest=4))
    made.group.uncached.add(2)
    call = acknowledge(made, FIRST, SECOND, Claim(10, 14, 4, 7))
    assert call.pending
    made.group.finish_read()
    assert call.answer.prev_cursor == 14
    assert audits(made) == (1, 0, 0, 0)


def test_mastership_that_ends_while_a_claim_is_checked_ends_the_call() -> None:
    made = store()
    made.added(batch(1, 2, mask=1, digest=3), batch(1, 2, mask=3, digest=4))
    made.group.uncached.add(2)
    call = acknowledge(made, FIRST, SECOND, Claim(10, 14, 4, 7))
    made.group.lose(RuntimeError("deposed"))
    made.group.finish_read()
    assert call.error.status in (Status.NO_MASTER, Status.NOT_MASTER)
