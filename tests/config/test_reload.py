"""Live reload: a whole new snapshot or none, and what each change takes."""

from __future__ import annotations

from typing import Any

import pytest

from phxqueue.config import ConfigError, load_cluster, load_consumer_node, load_store_node, reload_snapshot


def test_nothing_changed(files: Any) -> None:
    old = load_cluster(files.write())
    result = reload_snapshot(old)
    assert result.snapshot == old
    assert result.changes == ()


def test_an_error_leaves_the_old_one_good(files: Any) -> None:
    old = load_cluster(files.write())
    files.edit("topicconfig", "queue_infos.0.ranges", ["0-4", "3"])
    files.write()
    with pytest.raises(ConfigError, match="overlaps"):
        reload_snapshot(old)
    assert old.topic("test").queue_info(1).queue_ids == (0, 1, 2, 3, 8)


@pytest.mark.parametrize(
    ("file", "path", "value", "change", "restart"),
    [
        ("topicconfig", "queue_infos.1.delay", 5, "topics[test].queue_infos[2].delay: 1.0 → 5.0", "live"),
        (
            "topicconfig",
            "queue_infos.1.ranges",
            ["10-11"],
            "topics[test].queue_infos[2].ranges: ((10, 10),) → ((10, 11),)",
            "live",
        ),
        ("topicconfig", "consumer_groups.2", {"consumer_group_id": 9}, "topics[test].consumer_groups[9] added", "live"),
        ("topicconfig", "topic.handle_ids", [1, 2, 3], "topics[test].handle_ids: (1, 2) → (1, 2, 3)", "live"),
        ("topicconfig", "topic.batch_limit", 5, "topics[test].settings.batch_limit: 1000 → 5", "restart"),
        ("topicconfig", "skip_infos", [{"uin": 4}], "topics[test].skip_infos", "live"),
        ("storeconfig", "stores.0.scale", 7, "topics[test].stores[1].scale: 100 → 7", "live"),
        ("storeconfig", "stores.0.window", 7, "topics[test].stores[1].window: 64 → 7", "restart"),
        ("storeconfig", "stores.0.addrs.1.port", 5299, "topics[test].stores[1].nodes[1].port: 5200 → 5299", "restart"),
        (
            "storeconfig",
            "stores.1",
            {"store_id": 2, "addrs": [{"ip": "127.0.0.1", "port": 1, "paxos_port": 2}]},
            "topics[test].stores[2] added",
            "restart",
        ),
        (
            "consumerconfig",
            "consumers.1",
            {"addr": {"ip": "127.0.0.1", "port": 8002}},
            "topics[test].consumers[127.0.0.1:8002] added",
            "live",
        ),
        ("globalconfig", "net", {"max_redirects": 9}, "net.max_redirects: 4 → 9", "restart"),
        ("globalconfig", "tls", {"directory": "/x"}, "tls.ca", "restart"),
        ("globalconfig", "tls", "off", "tls removed", "restart"),
    ],
)
def test_change(files: Any, file: str, path: str, value: Any, change: str, restart: str) -> None:
    old = load_cluster(files.write())
    files.edit(file, path, value)
    files.write()
    result = reload_snapshot(old)
    assert result.snapshot == load_cluster(old.path)
    first = result.changes[0]
    assert str(first).startswith(change)
    assert first.restart.value == restart
    assert bool(result.waiting) == (restart == "restart")


@pytest.mark.parametrize(
    ("file", "path", "value", "field"),
    [
        ("storeconfig", "stores.0.paxos_groups", 4, "topics[test].stores[1].paxos_groups"),
        ("globalconfig", "cluster_name", "other", "name"),
    ],
)
def test_what_data_depends_on_never_changes(files: Any, file: str, path: str, value: Any, field: str) -> None:
    old = load_cluster(files.write())
    files.edit(file, path, value)
    files.write()
    with pytest.raises(ConfigError, match="change it back") as caught:
        reload_snapshot(old)
    assert [problem.field for problem in caught.value.report.errors] == [field]


def test_store_node(files: Any) -> None:
    files.write()
    old = load_store_node(files.directory / "store.conf")
    files.store.update(log={"level": "debug"}, limits={"max_connections": 5}, data_dir="/elsewhere")
    files.edit("topicconfig", "queue_infos.1.count", 9)
    files.write()
    result = reload_snapshot(old)
    assert result.snapshot.log.level == "debug"
    assert {change.field: change.restart.value for change in result.changes} == {
        "cluster.topics[test].queue_infos[2].count": "live",
        "data_dir": "restart",
        "limits.max_connections": "restart",
        "log.level": "live",
    }


def test_consumer_node(files: Any) -> None:
    files.write()
    old = load_consumer_node(files.directory / "consumer.conf")
    files.consumer["handlers"]["1"] = "c:D"
    files.write()
    result = reload_snapshot(old)
    assert [(change.field, change.restart.value) for change in result.changes] == [("handlers", "restart")]
