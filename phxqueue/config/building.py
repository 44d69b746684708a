"""From checked files to the snapshot of a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from phxqueue.config.certificates import DEFAULT_CLIENT, TlsPaths, certificate_paths
from phxqueue.config.cluster import (
    Cluster,
    Consumer,
    ConsumerGroup,
    FreqInfo,
    LockGroup,
    NodeAddress,
    Pub,
    QueueInfo,
    ReplayInfo,
    ReplicaSet,
    SkipInfo,
    Store,
    Topic,
    consumer_name,
)
from phxqueue.config.drafts import ClusterDraft, TopicDraft
from phxqueue.config.files import (
    ConsumerEntry,
    QueueInfoEntry,
    ReplayInfoEntry,
    ReplicaSetEntry,
    SchedulerFile,
    TlsBlock,
    TopicFile,
)
from phxqueue.config.places import find_or_expect
from phxqueue.config.replica_checks import node_ids
from phxqueue.config.schema import Block
from phxqueue.config.settings import TopicSettings
from phxqueue.config.topic_checks import parse_range

_REPLICA_FIELDS = {name for name in ReplicaSet.__dataclass_fields__ if name != "nodes"}


def build_cluster(draft: ClusterDraft) -> Cluster | None:
    """The snapshot, when every file gave content. With errors in the draft it only serves further checks."""
    world = draft.world.content
    if world is None:
        return None
    topics = [_topic(topic) for topic in draft.topics]
    directory = certificate_directory(world.tls, draft.path)
    return (
        Cluster(
            name=world.cluster_name,
            topics=tuple(topic for topic in topics if topic is not None),
            path=draft.path,
            files=tuple(dict.fromkeys(document.file for document in draft.documents())),
            certificates=directory if world.tls.enabled else None,
            tls=tls_paths(world.tls, draft.path, directory, "client", DEFAULT_CLIENT),
            net=world.net,
        )
        if None not in topics
        else None
    )


def certificate_directory(tls: TlsBlock, named_in: Path) -> Path:
    """Where the certificates of a cluster or node are: `certs` beside the file unless it says otherwise."""
    if "directory" in tls.model_fields_set:
        return find_or_expect(tls.directory, named_in)
    return named_in.parent / tls.directory


def tls_paths(tls: TlsBlock, named_in: Path, directory: Path, role: str, name: str) -> TlsPaths | None:
    """The three files of one identity; None when TLS is off."""
    if not tls.enabled:
        return None
    usual = certificate_paths(directory, role, name)
    given = {
        part: find_or_expect(getattr(tls, part), named_in)
        for part in ("ca", "certificate", "key")
        if getattr(tls, part)
    }
    return TlsPaths(
        ca=given.get("ca", usual.ca),
        certificate=given.get("certificate", usual.certificate),
        key=given.get("key", usual.key),
    )


def _topic(draft: TopicDraft) -> Topic | None:
    if draft.topic is None or draft.stores is None or draft.consumers is None:
        return None
    content, stores, consumers = draft.topic.content, draft.stores.content, draft.consumers.content
    if content is None or stores is None or consumers is None:
        return None
    return Topic(
        topic_id=content.topic.topic_id,
        topic_name=draft.info.topic_name,
        handle_ids=content.topic.handle_ids,
        settings=_settings(content),
        queue_infos=tuple(_queue_info(entry) for entry in content.queue_infos),
        pubs=tuple(Pub(**_fields(entry)) for entry in content.pubs),
        consumer_groups=tuple(ConsumerGroup(**_fields(entry)) for entry in content.consumer_groups),
        stores=tuple(
            Store(store_id=entry.store_id, pub_ids=entry.pub_ids, **_replica_set(entry)) for entry in stores.stores
        ),
        consumers=tuple(_consumer(entry) for entry in consumers.consumers),
        scheduler=_schedulers(draft.schedulers.content) if draft.schedulers else (),
        locks=tuple(
            LockGroup(lock_id=entry.lock_id, **_replica_set(entry))
            for entry in (draft.locks.content.locks if draft.locks and draft.locks.content else ())
        ),
        skip_infos=tuple(SkipInfo(**_fields(entry)) for entry in content.skip_infos),
        freq_infos=tuple(FreqInfo(**_fields(entry)) for entry in content.freq_infos),
        replay_infos=tuple(_replay(entry) for entry in content.replay_infos),
    )


def _fields(entry: Block) -> dict[str, Any]:
    """The fields of an entry whose snapshot has the same ones."""
    return {name: getattr(entry, name) for name in type(entry).model_fields}


def _settings(content: TopicFile) -> TopicSettings:
    return TopicSettings(**{name: getattr(content.topic, name) for name in TopicSettings.model_fields})


def _queue_info(entry: QueueInfoEntry) -> QueueInfo:
    return QueueInfo(**{**_fields(entry), "ranges": tuple(sorted(parse_range(text) for text in entry.ranges))})


def _replica_set(entry: ReplicaSetEntry) -> dict[str, Any]:
    nodes = tuple(
        NodeAddress(**{**_fields(addr), "node_id": node_id})
        for node_id, addr in zip(node_ids(entry), entry.addrs, strict=True)
    )
    return {"nodes": nodes, **{name: getattr(entry, name) for name in _REPLICA_FIELDS}}


def _consumer(entry: ConsumerEntry) -> Consumer:
    ip, port = entry.addr.ip, entry.addr.port
    return Consumer(
        ip=ip,
        port=port,
        scale=entry.scale,
        consumer_group_ids=entry.consumer_group_ids,
        run_time_group_ids=entry.run_time_group_ids,
        name=entry.name or consumer_name(ip, port),
    )


def _schedulers(content: SchedulerFile | None) -> tuple[NodeAddress, ...]:
    addrs: Iterable[Any] = content.scheduler.addrs if content else ()
    return tuple(NodeAddress(node_id=place, ip=addr.ip, port=addr.port) for place, addr in enumerate(addrs))


def _replay(entry: ReplayInfoEntry) -> ReplayInfo:
    return ReplayInfo(
        consumer_group_ids=entry.consumer_group_ids,
        pub_ids=entry.pub_ids,
        cursor_id=None if entry.cursor_id < 0 else entry.cursor_id,
        timestamp=entry.timestamp,
    )
