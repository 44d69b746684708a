"""What must hold between the files of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from phxqueue.config.cluster import MAX_CONSUMER_GROUP_ID, consumer_name, host_port
from phxqueue.config.drafts import ClusterDraft, TopicDraft
from phxqueue.config.fields import is_name
from phxqueue.config.files import ConsumersFile, ReplicaSetEntry, StoreFile, TopicFile
from phxqueue.config.findings import (
    Unique,
    check_at_least,
    check_known,
    check_unique,
    is_loopback,
    is_unspecified,
    list_ids,
)
from phxqueue.config.replica_checks import check_replica_sets
from phxqueue.config.settings import NetSettings, TopicSettings
from phxqueue.config.syntax import Document, FieldPath, show
from phxqueue.config.topic_checks import check_topic_file

#: Room in a frame beside the items: envelope, headers, cursors.
FRAME_OVERHEAD = 64 << 10
SPARE = "with 64 KiB to spare"


def check_cluster(draft: ClusterDraft) -> None:
    """All checks within and between the files; the findings go to their documents."""
    _check_topic_infos(draft)
    for topic in draft.topics:
        if topic.topic is not None and topic.topic.content is not None:
            check_topic_file(topic.topic.document, topic.topic.content, topic.info)
        for document, section, entries in _replica_sets(topic):
            check_replica_sets(document, section, entries)
        _check_topic(draft, topic)
    _check_addresses(draft)
    _check_identities(draft)
    _check_tls_off(draft)


def _check_topic_infos(draft: ClusterDraft) -> None:
    document, content = draft.world.document, draft.world.content
    if content is None:
        return
    if not content.topic_infos:
        document.error(("topic_infos",), "no topic", "at least one")
    for name in ("topic_id", "topic_name"):
        seen = Unique("every topic has its own")
        for index, info in enumerate(content.topic_infos):
            seen.add(document, ("topic_infos", index, name), getattr(info, name))
    check_net(document, content.net)


def check_net(document: Document, net: NetSettings) -> None:
    """`net:` of globalconfig.conf or of a node's file."""
    check_at_least(
        document, ("net", "backoff_max_s"), net.backoff_max_s, net.backoff_first_s, "not below backoff_first_s"
    )
    check_at_least(
        document,
        ("net", "max_unsent_bytes"),
        net.max_unsent_bytes,
        net.write_high_water_bytes,
        "not below write_high_water_bytes",
    )


def _replica_sets(topic: TopicDraft) -> Iterator[tuple[Document, str, Sequence[ReplicaSetEntry]]]:
    if topic.stores is not None and topic.stores.content is not None:
        yield topic.stores.document, "stores", topic.stores.content.stores
    if topic.locks is not None and topic.locks.content is not None:
        yield topic.locks.document, "locks", topic.locks.content.locks


# ---- one topic: its files fit each other -------------------------------------------------------------------------


def _check_topic(draft: ClusterDraft, topic: TopicDraft) -> None:
    if topic.topic is None or topic.topic.content is None:
        return
    content = topic.topic.content
    if topic.stores is not None and topic.stores.content is not None:
        _check_stores(topic.stores.document, topic.stores.content, content)
        _check_pubs_have_stores(topic.topic.document, content, topic.stores.content)
    if topic.consumers is not None and topic.consumers.content is not None:
        _check_consumers(topic.consumers.document, topic.consumers.content, content)
        _check_groups_have_consumers(topic.topic.document, content, topic.consumers.content)
    if draft.world.content is not None:
        check_at_least(
            draft.world.document,
            ("net", "max_frame_bytes"),
            draft.world.content.net.max_frame_bytes,
            content.topic.items_byte_size_limit + FRAME_OVERHEAD,
            f"the largest batch (items_byte_size_limit of topic {topic.info.topic_name}) has to fit, {SPARE}",
        )


def _check_stores(document: Document, stores: StoreFile, topic: TopicFile) -> None:
    pubs = {pub.pub_id for pub in topic.pubs}
    largest = max(topic.topic.items_byte_size_limit, topic.topic.store_paxos_batch_bytes)
    for index, store in enumerate(stores.stores):
        path: FieldPath = ("stores", index)
        check_unique(document, (*path, "pub_ids"), store.pub_ids)
        for place, pub in enumerate(store.pub_ids):
            if pub not in pubs:  # the original's own sample names one that does not exist
                document.warn(
                    (*path, "pub_ids", place),
                    f"pub {pub} is not in topicconfig.conf: no effect",
                    f"pubs: {list_ids(pubs)}",
                )
        check_at_least(
            document,
            (*path, "window_bytes"),
            store.window_bytes,
            largest,
            "the largest entry (items_byte_size_limit, store_paxos_batch_bytes) has to fit",
        )
        _check_patience(document, path, store.master_lease_ms / 1000, topic.topic)


def _check_patience(document: Document, path: FieldPath, lease_s: float, topic: TopicSettings) -> None:
    """Who gives up before a master can have been replaced gives up at every failover."""
    waits = {
        "producer_no_master_patience_s": topic.producer_no_master_patience_s,
        "store_paxos_propose_timeout_ms": topic.store_paxos_propose_timeout_ms / 1000,
    }
    for name, seconds in waits.items():
        if seconds <= lease_s:
            document.warn(
                (*path, "master_lease_ms"),
                f"a lost master is not replaced before {lease_s:g} s, and {name} of the topic is {seconds:g} s",
                f"a {name} of some leases",
                "producers see every failover as an error",
            )


def _check_pubs_have_stores(document: Document, topic: TopicFile, stores: StoreFile) -> None:
    for index, pub in enumerate(topic.pubs):
        serving = [store for store in stores.stores if not store.pub_ids or pub.pub_id in store.pub_ids]
        if not serving:
            document.error(
                ("pubs", index, "pub_id"),
                f"no store serves pub {pub.pub_id}",
                remedy="add it to pub_ids of a store in storeconfig.conf",
            )
        elif all(store.scale == 0 for store in serving):
            document.error(
                ("pubs", index, "pub_id"),
                f"all stores of pub {pub.pub_id} have scale 0",
                remedy="its items could go nowhere: give one a scale above 0 in storeconfig.conf",
            )


def _check_consumers(document: Document, consumers: ConsumersFile, topic: TopicFile) -> None:
    groups = {group.consumer_group_id for group in topic.consumer_groups}
    for index, consumer in enumerate(consumers.consumers):
        path: FieldPath = ("consumers", index, "consumer_group_ids")
        check_unique(document, path, consumer.consumer_group_ids)
        for place, group in enumerate(consumer.consumer_group_ids):
            check_known(document, (*path, place), group, groups, "one of consumer_groups in topicconfig.conf")
        path = ("consumers", index, "run_time_group_ids")
        check_unique(document, path, consumer.run_time_group_ids)
        for place, group in enumerate(consumer.run_time_group_ids):
            if not 1 <= group <= MAX_CONSUMER_GROUP_ID:
                document.error((*path, place), f"group {group} is not from 1 to {MAX_CONSUMER_GROUP_ID}")
            elif group in groups:
                document.warn(
                    (*path, place),
                    f"group {group} is one of consumer_groups in topicconfig.conf: what that says of it counts",
                )


def _check_groups_have_consumers(document: Document, topic: TopicFile, consumers: ConsumersFile) -> None:
    for index, group in enumerate(topic.consumer_groups):
        number = group.consumer_group_id
        weight = sum(
            consumer.scale
            for consumer in consumers.consumers
            if not consumer.consumer_group_ids or number in consumer.consumer_group_ids
        )
        if weight == 0 and number not in topic.topic.consumer_ignore_consumer_group_ids:
            document.warn(
                ("consumer_groups", index, "consumer_group_id"),
                f"no consumer with a scale above 0 takes part in group {number}: its items pile up",
            )


# ---- the whole cluster: addresses and names ----------------------------------------------------------------------


def _addresses(draft: ClusterDraft) -> Iterator[tuple[Document, FieldPath, str, int]]:
    """Everything that is listened on: document, path of the port, host, port."""
    for topic in draft.topics:
        for document, section, entries in _replica_sets(topic):
            for index, entry in enumerate(entries):
                for place, node in enumerate(entry.addrs):
                    path: FieldPath = (section, index, "addrs", place)
                    yield document, (*path, "port"), node.ip, node.port
                    yield document, (*path, "paxos_port"), node.ip, node.paxos_port
        if topic.schedulers is not None and topic.schedulers.content is not None:
            for place, addr in enumerate(topic.schedulers.content.scheduler.addrs):
                yield topic.schedulers.document, ("scheduler", "addrs", place, "port"), addr.ip, addr.port


def _check_addresses(draft: ClusterDraft) -> None:
    seen = Unique("two services cannot listen on one address")
    for document, path, host, port in _addresses(draft):
        seen.add(document, path, (host, port), host_port(host, port))
        if is_unspecified(host):
            document.error(
                (*path[:-1], "ip"),
                f'found "{host}"',
                "an address that others can connect to",
                "to listen on all networks give bind_ip in the node's file",
            )


def _check_identities(draft: ClusterDraft) -> None:
    """Names in certificates and data directories do not name the topic: they are unique in the cluster."""
    stores, locks = Unique("unique in the whole cluster"), Unique("unique in the whole cluster")
    addresses, names = Unique("every consumer process has its own"), Unique("every consumer process has its own")
    for topic in draft.topics:
        if topic.stores is not None and topic.stores.content is not None:
            for index, store in enumerate(topic.stores.content.stores):
                stores.add(topic.stores.document, ("stores", index, "store_id"), store.store_id)
        if topic.locks is not None and topic.locks.content is not None:
            for index, lock in enumerate(topic.locks.content.locks):
                locks.add(topic.locks.document, ("locks", index, "lock_id"), lock.lock_id)
        if topic.consumers is not None and topic.consumers.content is not None:
            document = topic.consumers.document
            for index, consumer in enumerate(topic.consumers.content.consumers):
                addr = consumer.addr
                place: FieldPath = ("consumers", index, "addr", "port")
                if addresses.add(document, place, (addr.ip, addr.port), host_port(addr.ip, addr.port)):
                    name = consumer.name or consumer_name(addr.ip, addr.port)
                    names.add(document, ("consumers", index, "name"), name)
                    if not is_name(name):
                        document.error(
                            ("consumers", index, "addr", "ip"),
                            f"found {show(addr.ip)}",
                            remedy="too long to make a certificate's name of: give the consumer a name",
                        )


def _check_tls_off(draft: ClusterDraft) -> None:
    if draft.world.content is None or draft.world.content.tls.enabled:
        return
    remote = next((host for _, _, host, _ in _addresses(draft) if not is_loopback(host)), None)
    if remote is not None:
        draft.world.document.error(
            ("tls",),
            f"off, but {remote} is not a loopback address",
            remedy="turn TLS on, or keep all nodes on 127.0.0.1: plain connections may not leave the machine",
        )
