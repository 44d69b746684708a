"""What ``phxqueue status`` makes of the nodes' answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.admin import node_status
from phxqueue.admin import status as status_module
from phxqueue.admin.node_status import (
    NodeReport,
    ask_until_told,
    ask_whether_up,
    backlogs,
    master_of,
    untold,
    without_master,
)
from phxqueue.admin.status import as_document, as_text
from phxqueue.admin.sums import sums
from phxqueue.config import DEAD_LETTER_BASE, Topic, load_cluster
from phxqueue.net.pool import ConnectionPool
from phxqueue.proto.status_pb2 import (
    AlarmStatus,
    AuditStatus,
    GroupStatus,
    NodeStatusResponse,
    QueueGroupStatus,
    QueueStatus,
)
from tests.admin.conftest import Invoke


@pytest.fixture
def topic(cluster_directory: Path) -> Topic:
    return load_cluster(cluster_directory / "etc/globalconfig.conf").topics[0]


def answer(
    node_id: int, *, master: bool, applied: int, ballot: int = 65537, queues: tuple[QueueStatus, ...] = ()
) -> NodeStatusResponse:
    group = GroupStatus(group_id=0, is_master=master, ballot=ballot, chosen=applied, applied=applied, first=3)
    group.lease_remaining_s = 0.3 * master
    return NodeStatusResponse(
        store_id=1,
        node_id=node_id,
        version="1.0",
        uptime_s=185,
        groups=[group],
        queues=queues,
        accepting=True,
        incarnation=2**63 + 1,
        disk_free_bytes=10 << 30,
        resident_bytes=50 << 20,
    )


def queue(queue_id: int, first: int, end: int, acked: int) -> QueueStatus:
    groups = [QueueGroupStatus(consumer_group_id=1, acked=acked, delivered=end)]
    return QueueStatus(queue_id=queue_id, first_cursor=first, end_cursor=end, groups=groups)


def reports_of(topic: Topic, *answers: NodeStatusResponse | None) -> list[NodeReport]:
    store = topic.stores[0]
    return [
        NodeReport(store, node, said, "" if said else "connection refused")
        for node, said in zip(store.nodes, answers, strict=True)
    ]


def test_a_healthy_cluster(topic: Topic) -> None:
    queues = (queue(0, 0, 10, 10), queue(1, 5, 20, 12), queue(DEAD_LETTER_BASE + 1, 0, 2, 0))
    reports = reports_of(
        topic,
        answer(0, master=False, applied=90),
        answer(1, master=True, applied=100, queues=queues),
        answer(2, master=False, applied=101),
    )
    text = "\n".join(as_text(topic, reports))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["topic", "test:", "3", "of", "3", "nodes", "up"]
    assert ["store", "1", "group", "0", "1", "master", "100", "100", "0", "3"] in lines
    assert ["store", "1", "group", "0", "0", "follower", "90", "90", "10", "3"] in lines
    assert ["store", "1", "group", "0", "2", "follower", "101", "101", "0", "3"] in lines
    assert ["store", "1", "queue", "1", "1", "5", "20", "12", "8"] in lines
    assert ["store", "1", "dead", "letters", "of", "pub", "1", "1", "0", "2", "0", "2"] in lines
    assert "queue 0" not in text
    assert "queue 0" in "\n".join(as_text(topic, reports, all_queues=True))


def test_the_sums_of_a_consumer_group_add_up(topic: Topic) -> None:
    (_, one), *_, (_, other) = topic.queues_of_group(1)
    delayed = queue(other, 0, 7, 4)
    delayed.delayed, delayed.prepared, delayed.rolled_back, delayed.half_expired = 5, 6, 7, 8
    queues = (queue(one, 2, 10, 10), delayed, queue(DEAD_LETTER_BASE + 1, 0, 3, 1))
    old = queue(one, 2, 9, 3)  # of a master that has not noticed yet that it is none
    master = answer(1, master=True, applied=9, queues=queues)
    master.passed_on.add(consumer_group_id=1, retried=4, dead=2, expired=2, requeued=1, dropped=2)
    reports = reports_of(topic, answer(0, master=True, applied=9, queues=(old,)), master, None)
    found = sums(topic, reports)[0]
    assert (found.waiting, found.delayed, found.dead, found.expired, found.dropped, found.unread) == (3, 5, 1, 2, 2, 2)
    assert found.finished == 14 - 5 - 1 - 2 - 2
    assert (found.prepared, found.rolled_back) == (6, 15)
    assert found.enqueued == found.finished + 3 + 5 + 1 + 2 + 2 + 6 + 15
    shown = ["1", "38", "0", "4", "3", "5", "1", "2", "2", "0", "6", "15", "2"]
    assert shown in [line.split() for line in as_text(topic, reports)]
    assert as_document(topic, reports)["sums"][0]["enqueued"] == 38


def test_sums_that_leave_something_out_say_so(topic: Topic) -> None:
    (_, one), *_ = topic.queues_of_group(1)
    master = answer(1, master=True, applied=9, queues=(queue(one, 0, 10, 10),))
    reports = reports_of(topic, None, master, None)
    assert untold(topic, reports) == []
    assert as_document(topic, reports)["sums_complete"]
    master.groups[0].lease_remaining_s = 0.0
    assert [(store.store_id, group) for store, group in untold(topic, reports)] == [(1, 0)]
    assert not as_document(topic, reports)["sums_complete"]
    assert "sums leave out store 1 group 0" in "\n".join(as_text(topic, reports))
    master.told_groups.append(0)
    assert untold(topic, reports) == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("lapses", "asked"), [(0, 1), (2, 3), (9, 5)])
async def test_a_master_without_a_lease_is_asked_again(
    topic: Topic, monkeypatch: pytest.MonkeyPatch, lapses: int, asked: int
) -> None:
    calls = 0

    async def ask_all(*_: Any) -> list[NodeReport]:
        nonlocal calls
        calls += 1
        master = answer(1, master=True, applied=9)
        master.groups[0].lease_remaining_s = 0.3 * (calls > lapses)
        return reports_of(topic, None, master, None)

    monkeypatch.setattr(node_status, "ask_all", ask_all)
    clock, pool = Clock(), cast("ConnectionPool", None)
    found = Deferred.fromCoroutine(ask_until_told(clock, pool, topic, 1.0))
    clock.pump([0.2] * 10)
    assert calls == asked
    assert bool(untold(topic, await found)) == (lapses > asked)


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_late_with_its_answer_runs(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not be taken for one that is stopped by who is going to give its store another life."""
    first, second = answer(0, master=False, applied=5), answer(2, master=True, applied=5)
    answers = [reports_of(topic, None, None, second), reports_of(topic, first, None, None)]
    answers += [reports_of(topic, None, None, None)] * 2

    async def ask_all(*_: Any) -> list[NodeReport]:
        return answers.pop(0)

    monkeypatch.setattr(node_status, "ask_all", ask_all)
    found = await ask_whether_up(cast("ConnectionPool", None), topic, 1.0)
    assert [report.answer for report in found] == [first, None, second]
    assert answers == []
    answers = [reports_of(topic, first, second, second)]
    assert all(report.up for report in await ask_whether_up(cast("ConnectionPool", None), topic, 1.0))


def test_no_backlog(topic: Topic) -> None:
    reports = reports_of(topic, answer(0, master=True, applied=1, queues=(queue(0, 0, 3, 3),)), None, None)
    assert "no backlog: everything in the 1 queues in use has been acknowledged" in "\n".join(as_text(topic, reports))


def test_too_few_nodes(topic: Topic) -> None:
    reports = reports_of(topic, answer(0, master=False, applied=5), None, None)
    text = "\n".join(as_text(topic, reports))
    assert "topic test: 1 of 3 nodes up" in text
    assert "connection refused" in text
    assert "1 of 3 nodes are up and 2 are needed; start one of 127.0.0.1:5200, 127.0.0.1:5300" in text


def test_a_first_start_that_waits_for_somebody_is_no_election(topic: Topic) -> None:
    up = answer(1, master=False, applied=-1)
    up.notices.append("first start: waiting for node 0")
    lines = as_text(topic, reports_of(topic, None, up, answer(2, master=False, applied=-1)))
    assert "store 1: first start: waiting for node 0 (says node 1)" in lines
    assert lines[-1] == "store 1 group 0 has no master yet: see above what its first start waits for"


def test_an_election(topic: Topic) -> None:
    reports = reports_of(topic, answer(0, master=False, applied=5), answer(1, master=False, applied=5), None)
    assert [(store.store_id, group) for store, group in without_master(topic, reports)] == [(1, 0)]
    assert "an election is running" in "\n".join(as_text(topic, reports))


def test_of_two_that_say_to_be_master_the_newer_one_is(topic: Topic) -> None:
    reports = reports_of(
        topic,
        answer(0, master=True, applied=5, ballot=3 << 16, queues=(queue(0, 0, 5, 0),)),
        answer(1, master=True, applied=6, ballot=4 << 16 | 1, queues=(queue(0, 0, 6, 0),)),
        None,
    )
    master = master_of(reports, 1, 0)
    assert master is not None
    assert master.node.node_id == 1
    assert [row.end for row in backlogs(reports)] == [6]


def test_trimmed_items_are_no_backlog(topic: Topic) -> None:
    reports = reports_of(topic, answer(0, master=True, applied=5, queues=(queue(0, 7, 10, 0),)), None, None)
    assert [row.items for row in backlogs(reports)] == [3]


def test_a_full_disk_is_told(topic: Topic) -> None:
    full = answer(0, master=True, applied=5)
    full.accepting = False
    assert "refuses enqueues" in "\n".join(as_text(topic, reports_of(topic, full, None, None)))


def test_the_document_is_complete_and_json(topic: Topic) -> None:
    reports = reports_of(topic, answer(0, master=True, applied=5, queues=(queue(0, 0, 9, 4),)), None, None)
    document = json.loads(json.dumps(as_document(topic, reports)))
    assert document["topic"] == {"id": 1000, "name": "test"}
    assert [node["up"] for node in document["nodes"]] == [True, False, False]
    assert document["nodes"][0]["groups"][0]["chosen"] == 5
    assert document["nodes"][0]["incarnation"] == str(2**63 + 1)
    assert document["nodes"][1]["reason"] == "connection refused"
    assert document["groups"] == [{"store_id": 1, "group_id": 0, "master_node_id": 0}]
    assert document["queues"][0]["backlog"] == 5


@pytest.mark.parametrize(("master", "exit_code"), [(True, 0), (False, 1)])
def test_the_exit_status_says_whether_it_serves(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, topic: Topic, master: bool, exit_code: int
) -> None:
    class Pool:
        async def close(self) -> None: ...

    async def ask_all(*_: Any) -> list[NodeReport]:
        return reports_of(topic, *(answer(node, master=master and node == 1, applied=5) for node in range(3)))

    monkeypatch.setattr(status_module, "open_pool", lambda *_: Pool())
    monkeypatch.setattr(node_status, "ask_all", ask_all)
    assert invoke("status").exit_code == exit_code
    result = invoke("status", "--json")
    assert result.exit_code == exit_code
    assert json.loads(result.stdout)["groups"][0]["master_node_id"] == (1 if master else None)


def test_a_node_that_still_fetches_what_belongs_to_its_checkpoint(topic: Topic) -> None:
    behind = answer(1, master=False, applied=5)
    behind.groups[0].incomplete = True
    text = "\n".join(as_text(topic, reports_of(topic, answer(0, master=True, applied=5), behind, None)))
    assert "3 (older entries are being fetched)" in text


def test_reconciliation_and_alarms_of_all_nodes(topic: Topic) -> None:
    master, former, other = (answer(node, master=node == 0, applied=90) for node in range(3))
    master.audits.append(AuditStatus(queue_id=3, consumer_group_id=1, pub_ids=[1], agreed=7, disputed=1, refused=1))
    master.audits.append(AuditStatus(queue_id=4, consumer_group_id=1, pub_ids=[1], agreed=2))
    former.audits.append(AuditStatus(queue_id=3, consumer_group_id=1, pub_ids=[1], agreed=5, unclaimed=2))
    alarm = AlarmStatus(
        name="mismatch store 1 queue 3 group 1",
        cause="one was lost",
        remedy="look",
        count=3,
        last=0,
        facts={"pub": "1"},
    )
    former.alarms.append(alarm)
    lines = as_text(topic, reports_of(topic, master, former, other))
    [row] = [line for line in lines if line.split()[:2] == ["1", "1"] and len(line.split()) == 7]
    assert row.split() == ["1", "1", "14", "1", "1", "2", "0"]
    [place] = [number for number, line in enumerate(lines) if line.startswith("ALARM")]
    assert lines[place].startswith("ALARM of store 1 node 1: mismatch store 1 queue 3 group 1 (pub 1), 3 times, last ")
    assert lines[place + 1 : place + 3] == ["  one was lost.", "  look."]


def test_nothing_reconciled_yet(topic: Topic) -> None:
    lines = as_text(topic, reports_of(topic, *(answer(node, master=node == 0, applied=90) for node in range(3))))
    assert "  reconciliation: no acknowledgement was checked yet by the nodes that are up" in lines
