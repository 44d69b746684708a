"""From paths to snapshots, or to an exception that lists everything that is wrong.

The `inspect_…` functions give the report and, when it has no errors, the snapshot; the `load_…` functions raise
:class:`~phxqueue.config.problems.ConfigError` instead. Nothing is ever written.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from phxqueue.config.building import build_cluster, certificate_directory, tls_paths
from phxqueue.config.certificates import TlsPaths
from phxqueue.config.cluster import Cluster, Consumer, NodeAddress, Topic
from phxqueue.config.cluster_checks import check_cluster
from phxqueue.config.drafts import Part, read_cluster, read_part, report_of
from phxqueue.config.node_checks import (
    check_admin,
    check_consumer_file,
    check_consumer_sizes,
    check_handlers,
    check_lock_sizes,
    check_node_tls,
    check_replica_file,
    check_store_sizes,
    check_tls_files,
    find_consumer,
    find_lock_node,
    find_scheduler,
    find_store_node,
    topics_meant,
)
from phxqueue.config.node_files import (
    ConsumerNodeFile,
    LockNodeFile,
    NodeFile,
    ReplicaNodeFile,
    SchedulerNodeFile,
    StoreNodeFile,
)
from phxqueue.config.nodes import ConsumerNode, LockNode, SchedulerNode, StoreNode
from phxqueue.config.places import candidates, find
from phxqueue.config.problems import ConfigError, Report, shown_path
from phxqueue.config.settings import NetSettings
from phxqueue.config.syntax import Document, show

SnapshotT = TypeVar("SnapshotT", Cluster, StoreNode, LockNode, SchedulerNode, ConsumerNode)


def load_cluster(path: Path | str) -> Cluster:
    """Read globalconfig.conf and every file it names.

    Raises ConfigError: something is wrong; its text and `report` list all of it.
    """
    return _wanted(*inspect_cluster(path))


def load_store_node(path: Path | str) -> StoreNode:
    """Read a store's node file and its cluster. Raises ConfigError."""
    return _wanted(*inspect_store_node(path))


def load_lock_node(path: Path | str) -> LockNode:
    """Read a lock node's file and its cluster. Raises ConfigError."""
    return _wanted(*inspect_lock_node(path))


def load_scheduler_node(path: Path | str) -> SchedulerNode:
    """Read a scheduler's file and its cluster. Raises ConfigError."""
    return _wanted(*inspect_scheduler_node(path))


def load_consumer_node(path: Path | str) -> ConsumerNode:
    """Read a consumer's node file and its cluster. Raises ConfigError."""
    return _wanted(*inspect_consumer_node(path))


def _wanted(snapshot: SnapshotT | None, report: Report) -> SnapshotT:
    if snapshot is None:
        raise ConfigError("\n".join(str(problem) for problem in report.errors), report)
    return snapshot


def inspect_cluster(path: Path | str, *, check_files: bool = False) -> tuple[Cluster | None, Report]:
    """`check_files`: also see whether the certificate files that are named exist."""
    cluster, documents = _examine_cluster(path)
    if cluster is not None and check_files:
        check_tls_files(documents[0], cluster.tls)
    return _outcome(cluster, documents)


def _examine_cluster(path: Path | str) -> tuple[Cluster | None, list[Document]]:
    """The cluster with all its checks made; it may be there in spite of errors, to check more against it."""
    draft = read_cluster(path)
    check_cluster(draft)
    return build_cluster(draft), draft.documents()


def _outcome(snapshot: SnapshotT | None, documents: list[Document]) -> tuple[SnapshotT | None, Report]:
    report = report_of(documents)
    if snapshot is None or not report.ok:
        return None, report
    return replace(snapshot, warnings=report.warnings), report


def inspect_store_node(path: Path | str, *, check_files: bool = False) -> tuple[StoreNode | None, Report]:
    """The store process that a node file describes, with its cluster."""
    part, cluster, documents = _read_node(path, StoreNodeFile)
    content, document = part.content, part.document
    if content is None:
        return None, report_of(documents)
    check_replica_file(document, content)
    found = find_store_node(document, content, topics_meant(document, content, cluster)) if cluster else None
    if cluster is None or found is None:
        return None, report_of(documents)
    topic, store, node = found
    common = _replica_process(content, document, cluster, "store", store.store_id, node, check_files)
    check_store_sizes(document, content, common["net"], topic, store)
    return _outcome(StoreNode(topic=topic, store=store, limits=content.limits, **common), documents)


def inspect_lock_node(path: Path | str, *, check_files: bool = False) -> tuple[LockNode | None, Report]:
    """The lock process that a node file describes, with its cluster."""
    part, cluster, documents = _read_node(path, LockNodeFile)
    content, document = part.content, part.document
    if content is None:
        return None, report_of(documents)
    check_replica_file(document, content)
    found = find_lock_node(document, content, topics_meant(document, content, cluster)) if cluster else None
    if cluster is None or found is None:
        return None, report_of(documents)
    topic, lock, node = found
    common = _replica_process(content, document, cluster, "lock", lock.lock_id, node, check_files)
    check_lock_sizes(document, content, common["net"], lock)
    return _outcome(LockNode(topic=topic, lock=lock, limits=content.limits, **common), documents)


def _replica_process(
    content: ReplicaNodeFile,
    document: Document,
    cluster: Cluster,
    role: str,
    set_id: int,
    node: NodeAddress,
    check_files: bool,
) -> dict[str, Any]:
    """The fields of :class:`~phxqueue.config.nodes.ReplicaProcess`, all but `topic`."""
    tls = _node_tls(content, document, cluster, role, f"{set_id}/{node.node_id}")
    check_node_tls(document, filter(None, (node.ip, content.bind_ip)), tls, cluster)
    check_admin(document, content, tls, {content.bind_ip or node.ip: (node.port, node.paxos_port)})
    if check_files:
        check_tls_files(document, tls)
    return {
        "cluster": cluster,
        "node": node,
        "data_dir": Path(os.path.abspath(content.data_dir)),
        "path": document.file,
        "bind_ip": content.bind_ip,
        "tls": tls,
        "journal": content.journal,
        "replica": content.replica,
        "net": merged_net(content, cluster),
        "log": content.log,
        "admin": content.admin,
    }


def inspect_scheduler_node(path: Path | str, *, check_files: bool = False) -> tuple[SchedulerNode | None, Report]:
    """The scheduler process that a node file describes, with its cluster."""
    part, cluster, documents = _read_node(path, SchedulerNodeFile)
    content, document = part.content, part.document
    if content is None:
        return None, report_of(documents)
    found = find_scheduler(document, content, topics_meant(document, content, cluster)) if cluster else None
    if cluster is None or found is None:
        return None, report_of(documents)
    topic, node = found
    tls = _node_tls(content, document, cluster, "scheduler", node.name)
    check_node_tls(document, filter(None, (node.ip, content.bind_ip)), tls, cluster)
    check_admin(document, content, tls, {content.bind_ip or node.ip: (node.port,)})
    if check_files:
        check_tls_files(document, tls)
    snapshot = SchedulerNode(
        cluster=cluster,
        topic=topic,
        node=node,
        path=document.file,
        bind_ip=content.bind_ip,
        max_connections=content.max_connections,
        tls=tls,
        net=merged_net(content, cluster),
        log=content.log,
        admin=content.admin,
    )
    return _outcome(snapshot, documents)


def inspect_consumer_node(path: Path | str, *, check_files: bool = False) -> tuple[ConsumerNode | None, Report]:
    """The consumer process that a node file describes, with its cluster."""
    part, cluster, documents = _read_node(path, ConsumerNodeFile)
    content, document = part.content, part.document
    if content is None:
        return None, report_of(documents)
    check_consumer_file(document, content)
    found = find_consumer(document, content, topics_meant(document, content, cluster)) if cluster else None
    if cluster is None or found is None:
        return None, report_of(documents)
    topic, consumer = found
    net = merged_net(content, cluster)
    check_consumer_sizes(document, content, net)
    check_handlers(document, content, topic)
    tls = _node_tls(content, document, cluster, "consumer", consumer.name)
    check_node_tls(document, (node.ip for store in topic.stores for node in store.nodes), tls, cluster)
    check_admin(document, content, tls, {})
    if check_files:
        check_tls_files(document, tls)
    snapshot = ConsumerNode(
        cluster=cluster,
        topic=topic,
        consumer=consumer,
        consumer_group_ids=groups_of_consumer(topic, consumer),
        handlers=MappingProxyType(dict(content.handlers)),
        path=document.file,
        middleware=content.middleware,
        nhandler=content.nhandler,
        handler_timeout_s=content.handler_timeout_s,
        fetch_items=content.fetch_items,
        fetch_bytes=content.fetch_bytes,
        window_items=content.window_items,
        prefetch_bytes=content.prefetch_bytes,
        get_wait_ms=content.get_wait_ms,
        settings_interval_s=content.settings_interval_s,
        ack_interval_ms=content.ack_interval_ms,
        stop_timeout_s=content.stop_timeout_s,
        pool=content.pool,
        retry=content.retry,
        tls=tls,
        net=net,
        log=content.log,
        admin=content.admin,
    )
    return _outcome(snapshot, documents)


NodeFileT = TypeVar("NodeFileT", bound=NodeFile)


def _read_node(path: Path | str, model: type[NodeFileT]) -> tuple[Part[NodeFileT], Cluster | None, list[Document]]:
    part = read_part(Path(os.path.abspath(path)), model)
    if part.content is None:
        return part, None, [part.document]
    value = part.content.cluster_config
    place = find(value, part.document.file)
    if place is None:
        tried = ", ".join(shown_path(candidate) for candidate in candidates(value, part.document.file))
        found = f"found {show(value)}, but there is no such file"
        part.document.error(("cluster_config",), found, remedy=f"tried {tried}")
        return part, None, [part.document]
    cluster, documents = _examine_cluster(place)
    return part, cluster, [part.document, *documents]


def groups_of_consumer(topic: Topic, consumer: Consumer) -> tuple[int, ...]:
    """The groups a consumer takes part in: its own list or all of the topic, without those to be ignored."""
    mine = consumer.consumer_group_ids or tuple(group.consumer_group_id for group in topic.consumer_groups)
    ignored = topic.settings.consumer_ignore_consumer_group_ids
    return tuple(sorted(group for group in mine if group not in ignored))


def merged_net(content: NodeFile, cluster: Cluster) -> NetSettings:
    """The cluster's `net:` with what the node's file says instead."""
    own = {name: getattr(content.net, name) for name in content.net.model_fields_set}
    return cluster.net.model_copy(update=own)


def _node_tls(content: NodeFile, document: Document, cluster: Cluster, role: str, name: str) -> TlsPaths | None:
    if "tls" not in content.model_fields_set:
        tls, directory = content.tls, cluster.certificates
        return tls_paths(tls, document.file, directory, role, name) if directory else None
    directory = cluster.certificates or cluster.path.parent / "certs"
    if "directory" in content.tls.model_fields_set:
        directory = certificate_directory(content.tls, document.file)
    return tls_paths(content.tls, document.file, directory, role, name)
