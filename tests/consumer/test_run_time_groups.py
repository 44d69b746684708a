"""Consumers that take part in groups created at run time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.config import Cluster, Consumer, ConsumerNode, TopicSettings
from phxqueue.consumer.run_time_groups import RunTimeGroups, with_groups, with_run_time_groups
from phxqueue.consumer.service import my_queues, takes_part, weights_of_group
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import GroupState, ListGroupsResponse
from phxqueue.testing import small_topic

ME = Consumer(ip="127.0.0.1", port=1, run_time_group_ids=(5,))
OTHER = Consumer(ip="127.0.0.1", port=2)
TOPIC = replace(small_topic([1], consumer_group_ids=(1,)), consumers=(ME, OTHER))
NODE = ConsumerNode(cluster=Cluster(topics=(TOPIC,)), topic=TOPIC, consumer=ME, consumer_group_ids=(1,), handlers={})


def test_a_topic_with_such_groups_is_as_if_the_files_named_them() -> None:
    topic = with_groups(TOPIC, {5: {1}, 7: {9}})
    assert topic.pub(1).consumer_group_ids == (1, 5)
    assert topic.queues_of_group(5) == topic.queues_of_group(1)
    assert topic.queues_of_group(7) == ()
    assert [(group.consumer_group_id, group.run_time) for group in topic.consumer_groups] == [
        (1, False), (5, True), (7, True),
    ]  # fmt: skip


def test_what_the_files_say_of_a_group_counts() -> None:
    assert with_groups(TOPIC, {1: {1, 2}}) is TOPIC


def test_only_who_names_them_takes_part() -> None:
    node = with_run_time_groups(NODE, {5: {1}, 7: {1}})
    assert node.consumer_group_ids == (1, 5)
    assert takes_part(node.topic, ME, 5)
    assert not takes_part(node.topic, OTHER, 5)
    assert weights_of_group(node.topic, 5) == {ME.address: 1000}
    assert set(weights_of_group(node.topic, 1)) == {ME.address, OTHER.address}
    mine = my_queues(node)
    assert len([key for key in mine if key[0] == 5]) == len(node.topic.queues_of_group(5))


def test_groups_to_be_ignored_are() -> None:
    settings = TopicSettings(consumer_ignore_consumer_group_ids=(5,))
    node = replace(NODE, topic=replace(TOPIC, settings=settings))
    assert with_run_time_groups(node, {5: {1}}).consumer_group_ids == (1,)


class Store:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Any]] = []

    def call(self, route: Any, method: Any, request: Any, deadline_s: float, **timing: Any) -> Deferred[Any]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, *groups: int) -> None:
        states = [GroupState(consumer_group_id=one, pub_ids=[1], created_ms=7) for one in groups]
        states.append(GroupState(consumer_group_id=1, in_files=True))
        self.asked[-1].callback(ListGroupsResponse(groups=states))


@pytest.fixture
def taken() -> list[ConsumerNode]:
    return []


def test_it_follows_the_stores(taken: list[ConsumerNode]) -> None:
    clock, store = Clock(), Store()
    watch = RunTimeGroups(NODE, store, clock, taken.append, 2.0)
    watch.start()
    store.answer()
    assert taken == []
    clock.advance(2)
    store.answer(5, 7)
    assert [node.consumer_group_ids for node in taken] == [(1, 5)]
    clock.advance(2)
    store.answer(5, 7)
    clock.advance(2)
    store.asked[-1].errback(RpcError(Status.NO_MASTER, "an election"))
    assert len(taken) == 1, "what is known stays"
    watch.reconfigure(replace(NODE, consumer_group_ids=()))
    assert watch.node.consumer_group_ids == (5,)
    clock.advance(2)
    store.answer(7)
    assert taken[-1].consumer_group_ids == ()
    clock.advance(2)
    watch.stop()
    assert clock.getDelayedCalls() == []


def test_who_names_none_asks_nobody(taken: list[ConsumerNode]) -> None:
    clock, store = Clock(), Store()
    plain = replace(NODE, consumer=OTHER)
    watch = RunTimeGroups(plain, store, clock, taken.append, 2.0)
    watch.start()
    clock.advance(2)
    assert (store.asked, taken) == ([], [])
    watch.reconfigure(NODE)
    clock.advance(2)
    assert len(store.asked) == 1
    watch.stop()
