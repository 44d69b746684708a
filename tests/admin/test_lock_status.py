"""What ``phxqueue status`` tells of lock groups."""

from __future__ import annotations

from phxqueue.admin.lock_status import LockReport, lock_documents, lock_groups_without_master, lock_lines
from phxqueue.config import LockGroup, NodeAddress, Topic
from phxqueue.proto.status_pb2 import GroupStatus, LockTableStatus, NodeStatusResponse

LOCK = LockGroup(lock_id=7, nodes=tuple(NodeAddress(n, "127.0.0.1", 7000 + n, 7100 + n) for n in range(3)))
TOPIC = Topic(topic_id=1000, topic_name="test", locks=(LOCK,))


def report(node_id: int, *, master: bool = False, ballot: int = 1, up: bool = True) -> LockReport:
    tables = [LockTableStatus(group_id=0, locks=5, strings=4, waiters=3, watches=2, bytes=99)] if master else []
    group = GroupStatus(group_id=0, is_master=master, ballot=ballot, chosen=9, applied=9)
    answer = NodeStatusResponse(lock_id=7, node_id=node_id, accepting=True, groups=[group], lock_tables=tables)
    return LockReport(LOCK, LOCK.nodes[node_id], answer if up else None, "" if up else "connection refused")


def test_tables_of_a_healthy_group() -> None:
    reports = [report(0), report(1, master=True), report(2, up=False)]
    text = "\n".join(lock_lines(TOPIC, reports))
    assert "lock 7 node 2  127.0.0.1:7002  DOWN" in text
    [row] = [line for line in text.splitlines() if "master" in line]
    assert row.split()[-4:] == ["5", "4", "3", "2"]
    assert lock_groups_without_master(TOPIC, reports) == []


def test_of_two_who_say_they_are_master_the_newer_one_is() -> None:
    text = "\n".join(lock_lines(TOPIC, [report(0, master=True), report(1, master=True, ballot=2), report(2)]))
    [row] = [line for line in text.splitlines() if "master" in line]
    assert row.split()[4] == "1"


def test_a_group_without_master_says_what_is_missing() -> None:
    reports = [report(0), report(1, up=False), report(2, up=False)]
    assert lock_groups_without_master(TOPIC, reports) == [(LOCK, 0)]
    assert "has no master: 1 of 3 nodes are up, 2 are needed" in lock_lines(TOPIC, reports)[-1]
    assert "an election is running" in lock_lines(TOPIC, [report(0), report(1), report(2)])[-1]


def test_a_group_that_nobody_runs_is_no_failure() -> None:
    reports = [report(node, up=False) for node in range(3)]
    assert lock_groups_without_master(TOPIC, reports) == []
    assert lock_lines(TOPIC, reports) == ["", "lock group 7: not running (none of its 3 nodes answers)"]
    assert lock_lines(Topic(topic_id=1, topic_name="none"), []) == []


def test_documents_hold_the_same() -> None:
    first, second = lock_documents([report(0, master=True), report(1, up=False)])
    assert first["groups"][0]["waiters"] == 3
    assert second == {
        "lock_id": 7, "node_id": 1, "address": "127.0.0.1:7001", "up": False, "reason": "connection refused"
    }  # fmt: skip
