"""The six sample files of the C++ PhxQueue load as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from phxqueue.config import load_cluster
from phxqueue.config.cluster import Cluster

DIRECTORY = Path(__file__).parent / "original" / "etc"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return load_cluster(DIRECTORY / "globalconfig.conf")


def test_topic(cluster: Cluster) -> None:
    [topic] = cluster.topics
    assert (topic.topic_id, topic.topic_name, topic.handle_ids) == (1000, "test", (1, 2))
    assert topic.settings.store_paxos_batch_count == 80
    assert topic.settings.store_paxos_batch_delay_time_ms == 30
    assert [(info.queue_info_id, info.ranges, info.count, info.delay) for info in topic.queue_infos] == [
        (1, ((0, 0),), 1, 0.0)
    ]
    assert [(pub.pub_id, pub.queue_info_ids, pub.consumer_group_ids) for pub in topic.pubs] == [(1, (1,), (1,))]
    [group] = topic.consumer_groups
    assert (group.consumer_group_id, group.use_dynamic_scale, group.skip_lock) == (1, False, True)


def test_processes(cluster: Cluster) -> None:
    topic = cluster.topic(1000)
    [store] = topic.stores
    assert (store.store_id, store.scale, store.pub_ids) == (1, 100, (1, 2))
    assert [(node.node_id, node.address, node.paxos_address) for node in store.nodes] == [
        (0, "127.0.0.1:5100", "127.0.0.1:5101"),
        (1, "127.0.0.1:5200", "127.0.0.1:5201"),
        (2, "127.0.0.1:5300", "127.0.0.1:5301"),
    ]
    assert [(consumer.address, consumer.scale) for consumer in topic.consumers] == [
        ("127.0.0.1:8001", 1000),
        ("127.0.0.1:8002", 1000),
        ("127.0.0.1:8003", 1000),
    ]
    assert [node.address for node in topic.scheduler] == ["127.0.0.1:6100", "127.0.0.1:6200", "127.0.0.1:6300"]
    [lock] = topic.locks
    assert (lock.lock_id, [node.paxos_port for node in lock.nodes]) == (1, [7101, 7201, 7301])


def test_the_one_thing_to_remark(cluster: Cluster) -> None:
    [warning] = cluster.warnings
    assert (warning.file.name, warning.line, warning.field) == ("storeconfig.conf", 25, "stores[0].pub_ids[1]")
    assert "pub 2 is not in topicconfig.conf" in warning.found


def test_paths_in_them_start_one_directory_up(cluster: Cluster) -> None:
    assert {file.parent for file in cluster.files} == {DIRECTORY}
    assert len(cluster.files) == 6
