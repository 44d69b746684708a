"""A small correct cluster on disk, to be spoilt by one edit and looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phxqueue.config import ConsumerNode, Report, StoreNode, inspect_cluster, inspect_consumer_node, inspect_store_node
from phxqueue.config.cluster import Cluster


def addrs(*firsts: int) -> list[dict[str, Any]]:
    return [{"ip": "127.0.0.1", "port": first, "paxos_port": first + 1} for first in firsts]


class Files:
    """The files of a cluster as values; `write()` puts them on disk, one line per value."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.globalconfig: dict[str, Any] = {
            "topic_infos": [
                {
                    "topic_id": 1000,
                    "topic_name": "test",
                    "topic_config_path": "topicconfig.conf",
                    "store_config_path": "storeconfig.conf",
                    "consumer_config_path": "consumerconfig.conf",
                    "scheduler_config_path": "schedulerconfig.conf",
                    "lock_config_path": "lockconfig.conf",
                }
            ]
        }
        self.topicconfig: dict[str, Any] = {
            "topic": {"topic_id": 1000, "handle_ids": [1, 2]},
            "queue_infos": [
                {"queue_info_id": 1, "ranges": ["0-3", "8"], "count": 2},
                {"queue_info_id": 2, "ranges": ["10"], "count": 3, "delay": 1},
            ],
            "pubs": [{"pub_id": 1, "queue_info_ids": [1, 2], "consumer_group_ids": [1, 3]}],
            "consumer_groups": [{"consumer_group_id": 1}, {"consumer_group_id": 3}],
        }
        self.storeconfig: dict[str, Any] = {"stores": [{"store_id": 1, "addrs": addrs(5100, 5200, 5300)}]}
        self.consumerconfig: dict[str, Any] = {"consumers": [{"addr": {"ip": "127.0.0.1", "port": 8001}}]}
        self.schedulerconfig: dict[str, Any] = {"scheduler": {"addrs": [{"ip": "127.0.0.1", "port": 6100}]}}
        self.lockconfig: dict[str, Any] = {"locks": [{"lock_id": 1, "addrs": addrs(7100, 7200, 7300)}]}
        self.store: dict[str, Any] = {"ip": "127.0.0.1", "port": 5200, "data_dir": "data/store.1"}
        self.consumer: dict[str, Any] = {"ip": "127.0.0.1", "port": 8001, "handlers": {"1": "a:B", "2": "a.b:C.d"}}

    def write(self) -> Path:
        for name, content in vars(self).items():
            if name != "directory":
                (self.directory / f"{name}.conf").write_text(json.dumps(content, indent=1))
        return self.directory / "globalconfig.conf"

    def edit(self, file: str, path: str, value: Any) -> None:
        """Set one field: ``edit("storeconfig", "stores.0.addrs.1.port", 5100)``."""
        target: Any = getattr(self, file)
        *parts, last = path.split(".")
        for part in parts:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if isinstance(target, list):
            target[int(last) :] = [value]
        else:
            target[last] = value

    def cluster(self) -> tuple[Cluster | None, Report]:
        return inspect_cluster(self.write())

    def store_node(self) -> tuple[StoreNode | None, Report]:
        self.write()
        return inspect_store_node(self.directory / "store.conf")

    def consumer_node(self) -> tuple[ConsumerNode | None, Report]:
        self.write()
        return inspect_consumer_node(self.directory / "consumer.conf")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def line_of() -> Callable[[Path, str], int]:
    """The line of a file on which a text first stands, from 1."""

    def find(path: Path, text: str) -> int:
        return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)

    return find
