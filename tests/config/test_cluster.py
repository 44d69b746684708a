"""The lookups of a snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.config import (
    DEAD_LETTER_BASE,
    Cluster,
    ConfigError,
    Consumer,
    ConsumerGroup,
    NodeAddress,
    Pub,
    QueueInfo,
    Store,
    Topic,
    UnknownIdError,
    certificate_paths,
    dead_letter_queue,
)


def node(node_id: int, **more: object) -> NodeAddress:
    return NodeAddress(node_id, "127.0.0.1", 5100 + node_id, 6100 + node_id, **more)  # type: ignore[arg-type]


def three() -> tuple[NodeAddress, ...]:
    return tuple(node(node_id) for node_id in range(3))


@pytest.fixture(scope="module")
def topic() -> Topic:
    return Topic(
        topic_id=7,
        topic_name="orders",
        queue_infos=(
            QueueInfo(queue_info_id=1, ranges=((0, 2), (8, 8)), count=2),
            QueueInfo(queue_info_id=2, ranges=((10, 10),), count=3, delay=1.0),
            QueueInfo(queue_info_id=3, ranges=((20, 21),), count=-1),
        ),
        pubs=(
            Pub(pub_id=1, queue_info_ids=(1, 2), consumer_group_ids=(1, 64)),
            Pub(pub_id=2, queue_info_ids=(3,), consumer_group_ids=(64,)),
        ),
        consumer_groups=(ConsumerGroup(consumer_group_id=1), ConsumerGroup(consumer_group_id=64)),
        stores=(Store(store_id=1, nodes=three()), Store(store_id=2, nodes=three(), pub_ids=(1,), scale=0)),
        consumers=(Consumer(ip="127.0.0.1", port=8001),),
    )


def test_queue_ids_of_a_queue_info(topic: Topic) -> None:
    assert topic.queue_info(1).queue_ids == (0, 1, 2, 8)
    assert topic.queue_info_of_queue(8).queue_info_id == 1
    assert topic.queue_info_of_queue(20).queue_info_id == 3


@pytest.mark.parametrize(
    ("pub_id", "count", "queue_info_id"),
    [(1, 0, 1), (1, 1, 1), (1, 2, 2), (1, 4, 2), (1, 5, None), (1, 6, None), (2, 0, 3), (2, 10**9, 3)],
)
def test_attempt_chain(topic: Topic, pub_id: int, count: int, queue_info_id: int | None) -> None:
    info = topic.attempt_queue_info(pub_id, count)
    assert (info.queue_info_id if info else None) == queue_info_id


def test_who_serves_a_pub(topic: Topic) -> None:
    assert [store.store_id for store in topic.stores_of_pub(1)] == [1, 2]
    assert [store.store_id for store in topic.stores_of_pub(2)] == [1]
    assert [pub.pub_id for pub in topic.pubs_of_store(1)] == [1, 2]
    assert [pub.pub_id for pub in topic.pubs_of_store(2)] == [1]


def test_queues_of_a_group_are_everywhere_it_may_find_items(topic: Topic) -> None:
    chain = [0, 1, 2, 8, 10]
    assert topic.queues_of_group(1) == tuple((store, queue) for store in (1, 2) for queue in chain)
    assert topic.queues_of_group(64) == (
        *((1, queue) for queue in [*chain, 20, 21]),
        *((2, queue) for queue in chain),
    )


def test_queues_of_a_store_include_dead_letters(topic: Topic) -> None:
    assert topic.queues_of_store(2) == (0, 1, 2, 8, 10, DEAD_LETTER_BASE + 1)
    assert dead_letter_queue(2) in topic.queues_of_store(1)


def test_group_mask(topic: Topic) -> None:
    assert topic.groups_mask(1) == 1 | 1 << 63
    assert topic.groups_mask(2) == 1 << 63


@pytest.mark.parametrize(
    "lookup",
    ["pub", "queue_info", "queue_info_of_queue", "store", "consumer_group", "groups_mask", "queues_of_group"],
)
def test_unknown_ids_name_the_known_ones(topic: Topic, lookup: str) -> None:
    with pytest.raises(UnknownIdError, match=r"^topic orders: .* 99 is not configured \(there is .*1") as caught:
        getattr(topic, lookup)(99)
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, KeyError)


def test_topics_by_name_and_number(topic: Topic) -> None:
    cluster = Cluster(topics=(topic,))
    assert cluster.topic("orders") is cluster.topic(7) is topic
    with pytest.raises(UnknownIdError, match="topic order is not configured"):
        cluster.topic("order")


def test_snapshots_do_not_change(topic: Topic) -> None:
    with pytest.raises(AttributeError):
        topic.topic_id = 8  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        topic.settings.batch_limit = 1  # type: ignore[misc]


class TestElectionOrder:
    def test_groups_spread_evenly(self) -> None:
        store = Store(store_id=1, nodes=three(), paxos_groups=4)
        orders = [store.election_order(group) for group in range(4)]
        assert orders == [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 1, 2)]

    def test_priority_goes_before_turn(self) -> None:
        nodes = (node(0), node(1, election_priority=5), node(2, election_priority=-1))
        assert Store(store_id=1, nodes=nodes).election_order(2) == (1, 0, 2)

    def test_region_goes_before_priority(self) -> None:
        nodes = (node(0, region="a", election_priority=9), node(1, region="b"), node(2, region="b"))
        store = Store(store_id=1, nodes=nodes, preferred_region="b")
        assert store.election_order(0) == (1, 2, 0)
        assert store.election_order(2) == (2, 1, 0)

    def test_only_voters_stand(self) -> None:
        nodes = (node(0, kind="witness"), node(1), node(2, kind="learner"), node(3))
        store = Store(store_id=1, nodes=nodes)
        assert store.election_order(0) == (1, 3)
        assert store.election_order(1) == (3, 1)
        assert [member.node_id for member in store.voters] == [0, 1, 3]


def test_a_queue_lives_in_one_paxos_group() -> None:
    store = Store(store_id=1, nodes=three(), paxos_groups=4)
    assert [store.group_of_queue(queue) for queue in (0, 1, 5, 8)] == [0, 1, 1, 0]


def test_addresses_of_ipv6_have_brackets() -> None:
    assert NodeAddress(0, "::1", 5100, 5101).address == "[::1]:5100"
    assert Consumer(ip="127.0.0.1", port=1).address == "127.0.0.1:1"


def test_certificate_names() -> None:
    directory = Path("certs")
    assert certificate_paths(directory, "store", "1/0").certificate == directory / "store-1-0.pem"
    assert certificate_paths(directory, "store", "1/0").key == directory / "store-1-0.key"
    assert certificate_paths(directory, "client", "default").certificate == directory / "client.pem"
    assert certificate_paths(directory, "client", "anna").key == directory / "client-anna.key"
    assert certificate_paths(directory, "consumer", "127.0.0.1-8001").ca == directory / "ca.pem"
