"""What `phxqueue status` says of schedulers and consumers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from phxqueue.admin.scheduler_status import SchedulerReport, scheduler_documents, scheduler_lines, scheduler_master
from phxqueue.config import Consumer, ConsumerGroup, NodeAddress, Topic, TopicSettings
from phxqueue.proto.scheduler_pb2 import ConsumerStatus, SchedulerStatusResponse

NODES = tuple(NodeAddress(number, "10.0.0.1", 6100 + number) for number in range(3))


@pytest.fixture
def topic() -> Topic:
    return Topic(
        topic_id=1000, topic_name="test", settings=TopicSettings(), queue_infos=(), pubs=(), consumer_groups=(),
        stores=(), consumers=(), scheduler=NODES,
    )  # fmt: skip


def master(node: int = 0, term: int = 7, **fields: Any) -> SchedulerReport:
    consumers = [
        ConsumerStatus(
            consumer="10.0.0.9:8001", scale=1000, weight=900, alive=True, load=41.6, slots=25, queues=12, backlog=345,
            silent_s=0.4,
        ),
        ConsumerStatus(consumer="10.0.0.9:8002", scale=1000, weight=0, queues=3, silent_s=75),
        ConsumerStatus(consumer="10.0.0.9:8003", scale=500, weight=0),
    ]  # fmt: skip
    fields = {"version": 3, "consumers": consumers, **fields}
    answer = SchedulerStatusResponse(is_master=True, term=term, master_s=50, uptime_s=100, limits=2, **fields)
    return SchedulerReport(NODES[node], answer)


STANDS_BY = SchedulerReport(NODES[1], SchedulerStatusResponse(uptime_s=100))
DOWN = SchedulerReport(NODES[2], None, "10.0.0.1:6102: connection refused (is the node running?)")


def test_the_master_and_its_consumers(topic: Topic) -> None:
    lines = scheduler_lines(topic, [master(), STANDS_BY, DOWN])
    down = lines.pop(4)
    assert lines == [
        "",
        "  NODE                     ROLE           UPTIME  MASTER FOR",
        "  scheduler 10.0.0.1:6100  master     1 min 40 s        50 s",
        "  scheduler 10.0.0.1:6101  stands by  1 min 40 s",
        "",
        "  CONSUMER       STATE                  SCALE  WEIGHT  LOAD  SLOTS  QUEUES  BEHIND",
        "  10.0.0.9:8001  alive                   1000     900  42 %   25 %      12     345",
        "  10.0.0.9:8002  silent for 1 min 15 s   1000       0",
        "  10.0.0.9:8003  not heard                500       0",
    ]
    assert down.split() == ["scheduler", "10.0.0.1:6102", "DOWN", *DOWN.reason.split()]


def test_consumers_that_have_no_weights_of_a_scheduler_are_not_called_silent(topic: Topic) -> None:
    """A cluster with `use_dynamic_scale: 0` in all or some of its groups."""
    mixed = replace(
        topic,
        consumer_groups=(
            ConsumerGroup(consumer_group_id=1),
            ConsumerGroup(consumer_group_id=2, use_dynamic_scale=False),
        ),
        consumers=tuple(
            Consumer(ip="10.0.0.9", port=port, consumer_group_ids=(group,))
            for port, group in ((8001, 1), (8002, 1), (8003, 2))
        ),
    )
    lines = scheduler_lines(mixed, [master()])
    assert lines[-5:] == [
        "  10.0.0.9:8001  alive                   1000     900  42 %   25 %      12     345",
        "  10.0.0.9:8002  silent for 1 min 15 s   1000       0",
        "  10.0.0.9:8003  static                   500",
        "",
        "  static: its groups have use_dynamic_scale: 0; it has queues by its SCALE, and reports to no scheduler",
    ]
    assert "weights follow" in "\n".join(scheduler_lines(mixed, [master(version=0)]))
    nobody = replace(
        mixed, consumer_groups=tuple(replace(group, use_dynamic_scale=False) for group in mixed.consumer_groups)
    )
    assert "weights follow" not in "\n".join(scheduler_lines(nobody, [master(version=0)]))


def test_without_a_master(topic: Topic) -> None:
    assert "no scheduler is the master yet" in scheduler_lines(topic, [STANDS_BY, DOWN])[-1]
    assert "none of 1 answers" in scheduler_lines(topic, [DOWN])[-1]
    assert scheduler_lines(topic, []) == []


def test_of_two_masters_the_newer_one_counts(topic: Topic) -> None:
    newer = master(1, term=8)
    assert scheduler_master([newer, master(0)]) is newer


def test_a_master_that_has_not_heard_everybody_says_so(topic: Topic) -> None:
    assert "weights follow" in "\n".join(scheduler_lines(topic, [master(version=0)]))


def test_the_document_is_json() -> None:
    first, second, third = json.loads(json.dumps(scheduler_documents([master(), STANDS_BY, DOWN])))
    assert first["consumers"][0]["queues"] == 12
    assert first["consumers"][2]["load"] is None
    assert second == {"address": "10.0.0.1:6101", "up": True, "is_master": False, "uptime_s": 100.0}
    assert third["up"] is False
