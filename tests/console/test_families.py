"""What nodes know, as metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from phxqueue.console.alarms import Alarm, Alarms
from phxqueue.console.consumer_families import QueueProgress, consumer_families
from phxqueue.console.process_families import process_families
from phxqueue.console.replica_families import replica_families
from phxqueue.console.scheduler_families import scheduler_families
from phxqueue.proto.status_pb2 import (
    AuditStatus,
    GroupStatus,
    JournalStatus,
    LockTableStatus,
    NodeStatusResponse,
    PassedOn,
    PeerStatus,
    QueueGroupStatus,
    QueueStatus,
)


def values(families: Iterable[Metric]) -> dict[str, float]:
    """By name and labels as Prometheus writes them, without those of the node."""
    found = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items() if name not in ("node",))
            found[f"{sample.name.removeprefix('phxqueue_')}{{{labels}}}"] = sample.value
    return found


def test_a_store() -> None:
    status = NodeStatusResponse(
        store_id=1,
        node_id=2,
        accepting=True,
        disk_free_bytes=1000,
        groups=[
            GroupStatus(
                group_id=0, is_master=True, master_node_id=2, chosen=10, applied=9, lease_remaining_s=0.3,
                peers=[PeerStatus(node_id=0, chosen=7, heard_ago_s=0.1, fit=True)],
            ),
            GroupStatus(group_id=1, chosen=4, applied=4),
        ],
        queues=[
            QueueStatus(
                queue_id=3, first_cursor=5, end_cursor=20, delayed=2,
                groups=[
                    QueueGroupStatus(consumer_group_id=1, acked=12, delivered=15, oldest_age_s=1.5),
                    QueueGroupStatus(consumer_group_id=2, acked=0, delivered=0),
                ],
            )
        ],
        passed_on=[PassedOn(consumer_group_id=1, retried=3, dead=1)],
        audits=[
            AuditStatus(queue_id=3, consumer_group_id=1, pub_ids=[1], agreed=7, disputed=1, refused=1),
            AuditStatus(queue_id=4, consumer_group_id=1, pub_ids=[1], agreed=2),
            AuditStatus(queue_id=5, consumer_group_id=1, pub_ids=[2, 1], unclaimed=4),
        ],
        journal=JournalStatus(
            commits=6, submissions=9, bytes=100, seconds=0.5, bounds_s=[0.001, 0.1], counts=[3, 2, 1], pending_bytes=8
        ),
    )  # fmt: skip
    found = values(replica_families(status, {3: (1,)}))
    expected = {
        "group_master{store=1,group=0}": 1,
        "group_master{store=1,group=1}": 0,
        "group_has_master{store=1,group=1}": 0,
        "replica_lag_entries{store=1,group=0,peer=0}": 3,
        "queue_enqueued_items_total{store=1,queue=3,pub=1}": 20,
        "queue_lag_items{store=1,queue=3,pub=1,group=1}": 8,
        "queue_lag_items{store=1,queue=3,pub=1,group=2}": 15,
        "queue_oldest_age_seconds{store=1,queue=3,pub=1,group=1}": 1.5,
        "queue_delayed_items{store=1,queue=3,pub=1}": 2,
        "queue_prepared_items{store=1,queue=3,pub=1}": 0,
        "queue_half_expired_items_total{store=1,queue=3,pub=1}": 0,
        "group_passed_on_items_total{store=1,group=1,what=retried}": 3,
        "reconcile_audits_total{store=1,pub=1,group=1,result=agreed}": 9,
        "reconcile_audits_total{store=1,pub=1,group=1,result=disputed}": 1,
        "reconcile_audits_total{store=1,pub=1,group=1,result=refused}": 1,
        "reconcile_audits_total{store=1,pub=1+2,group=1,result=unclaimed}": 4,
        "journal_commit_seconds_bucket{store=1,le=0.1}": 5,
        "journal_commit_seconds_count{store=1}": 6,
        "journal_commit_seconds_sum{store=1}": 0.5,
        "disk_free_bytes{store=1}": 1000,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_a_lock_node() -> None:
    tables = [LockTableStatus(group_id=0, locks=3, waiters=2, bytes=70)]
    status = NodeStatusResponse(lock_id=1, accepting=True, lock_tables=tables)
    found = values(replica_families(status, {}))
    assert (found["lock_held{lock=1,group=0}"], found["lock_waiters{lock=1,group=0}"]) == (3, 2)


def test_a_consumer() -> None:
    queue = QueueProgress(consumer_group_id=1, store_id=2, queue_id=3, items=40, oldest_s=0.5)
    counts = {"ok": 7, "raised": 1, "gets": 9, "acks": 2, "resets": 1}
    found = values(consumer_families(counts, [queue], slots=100, slots_used=4, held_bytes=123))
    assert found == {
        "consumer_items_total{did=ok}": 7,
        "consumer_items_total{did=raised}": 1,
        "consumer_calls_total{call=Get}": 9,
        "consumer_calls_total{call=Acknowledge}": 2,
        "consumer_resets_total{}": 1,
        "consumer_lag_items{group=1,store=2,queue=3}": 40,
        "consumer_oldest_age_seconds{group=1,store=2,queue=3}": 0.5,
        "consumer_queues{}": 1,
        "consumer_handler_slots{}": 100,
        "consumer_handler_slots_used{}": 4,
        "consumer_held_bytes{}": 123,
    }


def test_a_scheduler() -> None:
    found = values(scheduler_families(7, {"a": 100, "b": 50}, {"a": 40.0, "b": None}))
    assert found["scheduler_weight{consumer=b}"] == 50
    assert found["scheduler_load_ratio{consumer=a}"] == 0.4
    assert found["scheduler_consumers_alive{}"] == 2
    assert (found["scheduler_master{}"], found["scheduler_term{}"]) == (1, 7)


def test_alarms_that_are_alike_in_all_labels_are_counted() -> None:
    alarms = Alarms(most=10, repeat_s=0, hold_s=0)
    for paxos_group in (0, 1):
        subject = (("store", 1), ("paxos group", paxos_group), ("pub", 3), ("group", 2))
        one = Alarm(kind="difference", subject=subject, labels={"pub": "3"}, cause="one is missing", remedy="look")
        assert alarms.raise_alarm(one, 0, 0) is not None
    found = values(process_families("store 1 node 0", True, alarms, None))
    assert found["alarm{kind=difference,store=1,queue=,group=2,pub=3}"] == 2
    assert found["alarms_raised_total{kind=difference}"] == 2
