"""phxqueue lag: what two looks at the stores say."""

from __future__ import annotations

import pytest

from phxqueue.admin.lag import Lag, as_document, as_text, lags, left_out, total, with_pauses
from phxqueue.admin.node_status import Backlog, NodeReport
from phxqueue.config import DEAD_LETTER_BASE, Topic
from phxqueue.proto.status_pb2 import GroupStatus, NodeStatusResponse
from tests.producer.fake_store import make_topic


def backlog(queue_id: int, group_id: int, end: int, acked: int, oldest_s: float | None = None) -> Backlog:
    return Backlog(1, queue_id, group_id, 0, end, acked, acked, oldest_s)


FIRST = [backlog(0, 1, 100, 50), backlog(0, 2, 100, 100), backlog(1, 1, 10, 10)]
SECOND = [
    backlog(0, 1, 120, 110, 3.5), backlog(0, 2, 120, 100, 1.0), backlog(1, 1, 10, 10), backlog(2, 1, 5, 0, 70.0),
    backlog(DEAD_LETTER_BASE + 1, 1, 5, 0, 1000.0),
]  # fmt: skip


def reports(topic: Topic, lease_s: float, *, told: bool = False) -> list[NodeReport]:
    """Of three nodes, of which the first is master."""
    state = GroupStatus(group_id=0, is_master=True, lease_remaining_s=lease_s)
    master = NodeStatusResponse(groups=[state], told_groups=[0] if told else [])
    [store] = topic.stores
    return [NodeReport(store, node, master if node.node_id == 0 else None) for node in store.nodes]


@pytest.mark.parametrize(("lease_s", "told"), [(0.3, False), (0.0, True)])
def test_nothing_is_left_out_that_a_master_has_told(lease_s: float, told: bool) -> None:
    topic = make_topic()
    assert left_out(topic, reports(topic, lease_s, told=told)) == []


def test_a_master_without_a_lease_is_not_one_without_queues() -> None:
    topic = make_topic()
    [line] = left_out(topic, reports(topic, 0.0))
    assert line == "store 1 group 0 has a master without a lease, look again: its queues are missing here"
    [line] = left_out(topic, reports(topic, 0.3)[1:])
    assert line == "store 1 group 0 has no master: its queues are missing here"


def test_rates_come_from_two_looks() -> None:
    found = lags(FIRST, SECOND, 2.0)
    assert found == [
        Lag(1, 1, 0, 10, 3.5, 10.0, 30.0),
        Lag(1, 1, 1, 0, None, 0.0, 0.0),
        Lag(1, 1, 2, 5, 70.0, 0.0, 0.0),
        Lag(2, 1, 0, 20, 1.0, 10.0, 0.0),
    ]
    assert [each.drain_s for each in found] == [0.5, 0.0, None, None]
    whole = total(found[:3], 1)
    assert (whole.backlog, whole.oldest_s, whole.rate_in, whole.rate_out) == (15, 70.0, 10.0, 30.0)
    assert whole.drain_s == pytest.approx(0.75)


def test_the_table_shows_groups_and_their_busy_queues() -> None:
    found = lags(FIRST, SECOND, 2.0)
    lines = as_text(found)
    assert [line.split()[:4] for line in lines[1:]] == [
        ["group", "1", "15", "1"],
        ["store", "1", "queue", "0"],
        ["store", "1", "queue", "2"],
        ["group", "2", "20", "1.0"],
        ["store", "1", "queue", "0"],
    ]
    assert lines[3].endswith("never")
    assert lines[2].endswith("0.5 s")
    assert len(as_text(found, everything=True)) == len(lines) + 1
    assert as_text([]) == ["  nothing has been enqueued yet"]


def test_the_document_has_groups_with_their_queues() -> None:
    document = as_document(make_topic(), lags(FIRST, SECOND, 2.0))
    first, second = document["groups"]
    assert (first["consumer_group_id"], first["backlog"], len(first["queues"])) == (1, 15, 3)
    assert first["queues"][2]["drain_s"] is None
    assert second["queues"] == [
        {
            "consumer_group_id": 2, "store_id": 1, "queue_id": 0, "backlog": 20, "oldest_s": 1.0, "rate_in": 10.0,
            "rate_out": 0.0, "paused": False, "partly": False, "drain_s": None,
        }
    ]  # fmt: skip


def test_what_is_paused_is_told_so_instead_of_never() -> None:
    """Queue 0 belongs to pubs 1 and 2, queue 10 to pub 1; group 2 reads pub 1 only, group 60 came at run time."""
    queues = [(1, 0), (1, 10), (2, 0), (60, 0)]
    found = [Lag(group, 1, queue, 5, 1.0, 1.0, 0.0) for group, queue in queues]
    noted = with_pauses(make_topic(), found, frozenset({(1, 1), (2, 1), (60, 2)}))
    assert [(one.paused, one.partly) for one in noted] == [(False, True), (True, False), (True, False), (False, True)]
    ends = [" ".join(line.split()[-2:]) for line in as_text(noted)[1:]]
    assert ends == [
        "partly paused",
        "partly paused",
        "0.0 paused",
        "0.0 paused",
        "0.0 paused",
        "partly paused",
        "partly paused",
    ]
    assert [line.split()[-1] for line in as_text(with_pauses(make_topic(), found, frozenset()))[1:]] == ["never"] * 7


def test_a_pause_that_consumers_have_not_heard_of_yet() -> None:
    [one] = with_pauses(make_topic(), [Lag(2, 1, 0, 5, 1.0, 1.0, 9.0)], frozenset({(2, 1)}))
    assert as_text([one])[2].endswith("0.6 s")
