"""Writes the files of a small cluster on this machine: the six of the cluster, and one per node."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
TOPIC = "test"
TOPIC_ID = 1000
STORE_ID = 1
LOCK_ID = 1
#: The attempt chain's second link: where retried items wait.
RETRY_QUEUE_INFO = 2
FIRST_RETRY_QUEUE = 1000
#: Consumers have an address, by which they are told apart; nothing listens there.
FIRST_CONSUMER_PORT = 8001


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """What a cluster looks like; everything not said is as the configuration's defaults have it.

    Attributes:
        nodes: of its one store; 0: there is none, and no pub.
        learners: how many of them, the last ones, have no vote.
        locks: nodes of its one lock group.
        schedulers: scheduler processes; several need locks.
        queues: of its one pub, from 0.
        groups: consumer groups of the pub.
        consumers: consumer daemons.
        consumer_groups: groups they take part in; empty: all.
        hosts: addresses of machines, when they have networks of their own: store node N and lock node N are on the
            N-th; empty: all is on the loopback address. Everything else is on that in any case.
        handlers: "module:object" by handle_id.
        retries: attempts after the first; 0: none, a failed item goes to the dead letters.
        retry_delay_s: rest before each of them.
        topic, pub, group, store, store_node, consumer_node, lock, lock_node: further fields of the topic's settings,
            the pub, each consumer group, the store's entry, each store node's file, each consumer's, the lock group's
            entry and each lock node's file.
        further: more entries for the lists of the topic's file, by the list's name (queue_infos, pubs, ...).
        tls: mutual TLS, with certificates of its own.
    """

    nodes: int = 3
    learners: int = 0
    locks: int = 0
    schedulers: int = 0
    queues: int = 1
    groups: Sequence[int] = (1,)
    consumers: int = 0
    consumer_groups: Sequence[int] = ()
    hosts: Sequence[str] = ()
    handlers: Mapping[int, str] = field(default_factory=dict)
    retries: int = 3
    retry_delay_s: float = 0.1
    topic: Mapping[str, Any] = field(default_factory=dict)
    pub: Mapping[str, Any] = field(default_factory=dict)
    group: Mapping[str, Any] = field(default_factory=dict)
    store: Mapping[str, Any] = field(default_factory=dict)
    store_node: Mapping[str, Any] = field(default_factory=dict)
    consumer_node: Mapping[str, Any] = field(default_factory=dict)
    lock: Mapping[str, Any] = field(default_factory=dict)
    lock_node: Mapping[str, Any] = field(default_factory=dict)
    further: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    tls: bool = True

    @property
    def ports_needed(self) -> int:
        """Two for each store node and each lock node, for clients and for the other nodes; one for a scheduler."""
        return 2 * (self.nodes + self.locks) + self.schedulers

    def host(self, node: int) -> str:
        """The address of a store node or a lock node."""
        return self.hosts[node] if self.hosts else HOST


def write_files(directory: Path, spec: ClusterSpec, ports: Sequence[int]) -> Path:
    """Write all files into `directory`/etc; returns the path of globalconfig.conf."""
    etc = directory / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    for name, content in _cluster_files(spec, ports).items():
        _write(etc / name, content)
    for node in range(spec.nodes):
        _write(
            etc / f"store.{node}.conf",
            {"ip": spec.host(node), "port": ports[2 * node], "data_dir": f"data/store.{node}", **spec.store_node},
        )
    for node in range(spec.locks):
        port = ports[2 * (spec.nodes + node)]
        _write(
            etc / f"lock.{node}.conf",
            {"ip": spec.host(node), "port": port, "data_dir": f"data/lock.{node}", **spec.lock_node},
        )
    for number in range(spec.schedulers):
        port = ports[2 * (spec.nodes + spec.locks) + number]
        _write(etc / f"scheduler.{number}.conf", {"ip": HOST, "port": port})
    for number in range(spec.consumers):
        _write(
            etc / f"consumer.{number}.conf",
            {
                "ip": HOST,
                "port": FIRST_CONSUMER_PORT + number,
                "handlers": {str(handle_id): path for handle_id, path in spec.handlers.items()},
                **spec.consumer_node,
            },
        )
    return etc / "globalconfig.conf"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")  # JSON is YAML, too


def _cluster_files(spec: ClusterSpec, ports: Sequence[int]) -> dict[str, Mapping[str, Any]]:
    topic_info = {
        "topic_id": TOPIC_ID,
        "topic_name": TOPIC,
        "topic_config_path": "topicconfig.conf",
        "consumer_config_path": "consumerconfig.conf",
        "store_config_path": "storeconfig.conf",
    }
    tls: Mapping[str, Any] = {} if spec.tls else {"tls": "off"}
    others: dict[str, Mapping[str, Any]] = {}
    if spec.locks:
        topic_info["lock_config_path"] = "lockconfig.conf"
        others["lockconfig.conf"] = {"locks": [_lock_entry(spec, ports[2 * spec.nodes :])]}
    if spec.schedulers:
        topic_info["scheduler_config_path"] = "schedulerconfig.conf"
        own = ports[2 * (spec.nodes + spec.locks) :]
        addrs = [{"ip": HOST, "port": own[number]} for number in range(spec.schedulers)]
        others["schedulerconfig.conf"] = {"scheduler": {"addrs": addrs}}
    return {
        "globalconfig.conf": {"cluster_name": "local", "topic_infos": [topic_info], **tls},
        "topicconfig.conf": _topic_file(spec),
        "storeconfig.conf": {"stores": [_store_entry(spec, ports)] if spec.nodes else []},
        **others,
        "consumerconfig.conf": {
            "consumers": [
                {
                    "addr": {"ip": HOST, "port": FIRST_CONSUMER_PORT + number},
                    "consumer_group_ids": list(spec.consumer_groups),
                }
                for number in range(spec.consumers)
            ]
        },
    }


def _topic_file(spec: ClusterSpec) -> Mapping[str, Any]:
    queue_infos: list[Mapping[str, Any]] = [{"queue_info_id": 1, "ranges": [f"0-{spec.queues - 1}"], "count": 1}]
    if spec.retries:
        queue_infos.append(
            {
                "queue_info_id": RETRY_QUEUE_INFO,
                "ranges": [str(FIRST_RETRY_QUEUE)],
                "count": spec.retries,
                "delay": spec.retry_delay_s,
            }
        )
    content: dict[str, Any] = {
        "topic": {"topic_id": TOPIC_ID, "handle_ids": [1, 2], **spec.topic},
        "queue_infos": queue_infos,
        "pubs": [
            {
                "pub_id": 1,
                "queue_info_ids": [info["queue_info_id"] for info in queue_infos],
                "consumer_group_ids": list(spec.groups),
                **spec.pub,
            }
        ]
        if spec.nodes
        else [],
        "consumer_groups": [
            {"consumer_group_id": group, "use_dynamic_scale": 0, "skip_lock": 1, **spec.group} for group in spec.groups
        ],
    }
    for name, entries in spec.further.items():
        content[name] = [*content.get(name, ()), *entries]
    return content


def _store_entry(spec: ClusterSpec, ports: Sequence[int]) -> Mapping[str, Any]:
    addrs = _addrs(spec, spec.nodes, ports)
    for addr in addrs[spec.nodes - spec.learners :]:
        addr["kind"] = "learner"
    return {"store_id": STORE_ID, "addrs": addrs, **spec.store}


def _lock_entry(spec: ClusterSpec, ports: Sequence[int]) -> Mapping[str, Any]:
    return {"lock_id": LOCK_ID, "addrs": _addrs(spec, spec.locks, ports), **spec.lock}


def _addrs(spec: ClusterSpec, nodes: int, ports: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {"ip": spec.host(node), "port": ports[2 * node], "paxos_port": ports[2 * node + 1]} for node in range(nodes)
    ]
