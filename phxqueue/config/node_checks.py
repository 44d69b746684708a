"""What must hold in a node's file, by itself and together with the cluster it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from phxqueue.config.certificates import TlsPaths
from phxqueue.config.cluster import Cluster, Consumer, LockGroup, NodeAddress, Store, Topic, host_port
from phxqueue.config.cluster_checks import FRAME_OVERHEAD, SPARE, check_net
from phxqueue.config.findings import check_at_least, check_at_most, check_known, is_loopback, is_unspecified, list_ids
from phxqueue.config.node_files import ConsumerNodeFile, LockNodeFile, NodeFile, ReplicaNodeFile, StoreNodeFile
from phxqueue.config.problems import shown_path
from phxqueue.config.settings import JournalSettings, NetSettings
from phxqueue.config.syntax import Document, FieldPath, show

_SHOWN_ADDRESSES = 9
_LISTED = 64  # bytes of a key's entry in a list, beside key and client_id
_FITS = f"an answer has to fit into a frame (net.max_frame_bytes), {SPARE}"


def check_replica_file(document: Document, content: ReplicaNodeFile) -> None:
    """Everything that does not need the cluster."""
    _check_journal(document, content.journal)
    replica = content.replica
    check_at_least(
        document,
        ("replica", "peer_reconnect_max_ms"),
        replica.peer_reconnect_max_ms,
        replica.peer_reconnect_min_ms,
        "not below peer_reconnect_min_ms",
    )


def _check_journal(document: Document, journal: JournalSettings) -> None:
    path: FieldPath = ("journal",)
    if journal.sync == "interval" and not journal.i_accept_loss:
        document.error(
            (*path, "sync"),
            'found "interval"',
            "always",
            "it loses acknowledged items when a majority of machines "
            "fails at once; who accepts that says so with i_accept_loss: true",
        )
    check_at_most(
        document,
        (*path, "log_buffer_bytes"),
        journal.log_buffer_bytes,
        journal.log_file_bytes // 4,
        "at most a quarter of log_file_bytes",
    )
    if journal.page_bytes & (journal.page_bytes - 1):
        document.error((*path, "page_bytes"), f"found {journal.page_bytes}", "a power of two from 512 to 65536")
    check_at_least(
        document, (*path, "max_locks"), journal.max_locks, 2 * journal.commit_writes, "two for each of commit_writes"
    )


def check_consumer_file(document: Document, content: ConsumerNodeFile) -> None:
    """Everything that does not need the cluster."""
    check_at_most(document, ("fetch_bytes",), content.fetch_bytes, content.prefetch_bytes, "at most prefetch_bytes")
    check_at_least(
        document,
        ("retry", "backoff_max_ms"),
        content.retry.backoff_max_ms,
        content.retry.backoff_min_ms,
        "not below backoff_min_ms",
    )


# ---- together with the cluster -----------------------------------------------------------------------------------


def topics_meant(document: Document, content: NodeFile, cluster: Cluster) -> list[Topic]:
    """The topic that the file names; when it names none, all of them."""
    if not content.topic:
        return list(cluster.topics)
    found = [topic for topic in cluster.topics if topic.topic_name == content.topic]
    if not found:
        names = ", ".join(sorted(topic.topic_name for topic in cluster.topics)) or "none"
        document.error(("topic",), f"found {show(content.topic)}", f"a topic of {shown_path(cluster.path)}: {names}")
    return found


def find_store_node(
    document: Document, content: StoreNodeFile, topics: list[Topic]
) -> tuple[Topic, Store, NodeAddress] | None:
    """The store's node with the file's address."""
    nodes = [(topic, store, node) for topic in topics for store in topic.stores for node in store.nodes]
    place = _find_node(document, content, [node for _, _, node in nodes], topics, "storeconfig.conf")
    return None if place is None else nodes[place]


def find_lock_node(
    document: Document, content: LockNodeFile, topics: list[Topic]
) -> tuple[Topic, LockGroup, NodeAddress] | None:
    """The lock group's node with the file's address."""
    nodes = [(topic, lock, node) for topic in topics for lock in topic.locks for node in lock.nodes]
    place = _find_node(document, content, [node for _, _, node in nodes], topics, "lockconfig.conf")
    return None if place is None else nodes[place]


def find_scheduler(document: Document, content: NodeFile, topics: list[Topic]) -> tuple[Topic, NodeAddress] | None:
    """The scheduler with the file's address."""
    nodes = [(topic, node) for topic in topics for node in topic.scheduler]
    for topic, node in nodes:
        if (node.ip, node.port) == (content.ip, content.port):
            if len(topic.scheduler) > 1 and not topic.locks:
                document.error(
                    ("port",),
                    f"found one of {len(topic.scheduler)} schedulers",
                    "a single scheduler, or a lock service (lock_config_path of the topic)",
                    "several schedulers elect their master through the lock service, and this topic has none",
                )
            return topic, node
    if topics:
        _address_unknown(document, content, "schedulerconfig.conf", (node.address for _, node in nodes))
    return None


def _find_node(
    document: Document, content: ReplicaNodeFile, nodes: list[NodeAddress], topics: list[Topic], where: str
) -> int | None:
    """The place of the node with the file's address."""
    for place, node in enumerate(nodes):
        if (node.ip, node.port) == (content.ip, content.port):
            if content.paxos_port not in (0, node.paxos_port):
                document.error(("paxos_port",), f"found {content.paxos_port}", f"{node.paxos_port}, as in {where}")
            return place
    if topics:
        _address_unknown(document, content, where, (node.address for node in nodes))
    return None


def find_consumer(document: Document, content: ConsumerNodeFile, topics: list[Topic]) -> tuple[Topic, Consumer] | None:
    """The consumer with the file's address."""
    consumers = [(topic, consumer) for topic in topics for consumer in topic.consumers]
    for topic, consumer in consumers:
        if (consumer.ip, consumer.port) == (content.ip, content.port):
            return topic, consumer
    if topics:
        _address_unknown(document, content, "consumerconfig.conf", (consumer.address for _, consumer in consumers))
    return None


def _address_unknown(document: Document, content: NodeFile, where: str, known: Iterable[str]) -> None:
    addresses = list(known)
    shown = ", ".join(addresses[:_SHOWN_ADDRESSES]) + (", ..." if len(addresses) > _SHOWN_ADDRESSES else "")
    document.error(
        ("port",),
        f"found {host_port(content.ip, content.port)}, which is not in {where}",
        shown or "none is there",
        "give the address of one of them, or add this one",
    )


def check_handlers(document: Document, content: ConsumerNodeFile, topic: Topic) -> None:
    for handle_id in content.handlers:
        if handle_id not in topic.handle_ids:
            document.error(
                ("handlers", str(handle_id)),
                f"found {handle_id}",
                f"handle_ids of topic {topic.topic_name}: {list_ids(topic.handle_ids)}",
            )
    for place, handle_id in enumerate(content.pool.handle_ids):
        check_known(
            document, ("pool", "handle_ids", place), handle_id, topic.handle_ids, "one of the topic's handle_ids"
        )
    missing = set(topic.handle_ids) - set(content.handlers)
    if missing:
        document.warn(
            ("handlers",), f"no handler for handle_id {list_ids(missing)}: a Twisted plugin has to provide it"
        )


def check_node_tls(document: Document, hosts: Iterable[str], tls: TlsPaths | None, cluster: Cluster) -> None:
    """`hosts`: whatever the node listens on or connects to."""
    remote = next((host for host in hosts if not is_loopback(host)), None) if tls is None else None
    if remote is not None:
        document.error(
            ("tls",),
            f"off, but {remote} is not a loopback address",
            remedy="turn TLS on: plain connections may not leave the machine",
        )
    elif (tls is None) != (cluster.tls is None):
        here, there = ("off", "on") if tls is None else ("on", "off")
        document.warn(("tls",), f"{here}, but {there} in globalconfig.conf: clients and nodes will not understand it")


def check_admin(
    document: Document, content: NodeFile, tls: TlsPaths | None, taken: Mapping[str, tuple[int, ...]]
) -> None:
    """`taken`: the ports that the process itself listens on, by address."""
    admin, path = content.admin, ("admin",)
    if admin.port and tls is None and not is_loopback(admin.ip):
        document.error(
            (*path, "ip"),
            f"found {admin.ip}, and TLS is off",
            "a loopback address",
            "turn TLS on: what a node tells of itself may not leave the machine in the open",
        )
    if admin.port and any(
        admin.port in ports and (admin.ip == host or is_unspecified(admin.ip) or is_unspecified(host))
        for host, ports in taken.items()
    ):
        document.error((*path, "port"), f"found {admin.port}", "another port than those of the node itself")
    url = urlsplit(admin.webhook_url)
    known = url.scheme in ("http", "https") and url.hostname and admin.webhook_url.isascii()
    if admin.webhook_url and not known:
        document.error(
            (*path, "webhook_url"), f"found {show(admin.webhook_url)}", "http://HOST/... or https://HOST/..."
        )
    check_at_least(
        document,
        (*path, "webhook_backoff_max_s"),
        admin.webhook_backoff_max_s,
        admin.webhook_backoff_s,
        "not below webhook_backoff_s",
    )


def check_tls_files(document: Document, tls: TlsPaths | None) -> None:
    """The files are there; they are read when a process starts."""
    for name in ("ca", "certificate", "key") if tls is not None else ():
        path = getattr(tls, name)
        if not path.is_file():
            document.error(("tls", name), f"{shown_path(path)} is missing", remedy="make it with `phxqueue certs init`")


def check_store_sizes(document: Document, content: StoreNodeFile, net: NetSettings, topic: Topic, store: Store) -> None:
    """Frames and queues of a store are large enough for what the topic allows."""
    check_net(document, net)
    limits, settings = content.limits, topic.settings
    check_at_least(
        document,
        ("limits", "max_frame"),
        limits.max_frame,
        settings.items_byte_size_limit + FRAME_OVERHEAD,
        f"the largest batch (items_byte_size_limit of topic {topic.topic_name}) has to fit, {SPARE}",
    )
    check_at_least(
        document,
        ("limits", "add_queue_bytes"),
        limits.add_queue_bytes,
        settings.items_byte_size_limit,
        f"the largest batch (items_byte_size_limit of topic {topic.topic_name}) has to fit",
    )
    largest = max(settings.items_byte_size_limit, settings.store_paxos_batch_bytes, store.max_message_bytes)
    check_at_least(
        document,
        ("replica", "max_peer_frame"),
        content.replica.max_peer_frame,
        largest + FRAME_OVERHEAD,
        "the largest message (items_byte_size_limit, store_paxos_batch_bytes, max_message_bytes) has to fit",
    )
    check_at_most(document, ("limits", "limit_bytes"), limits.limit_bytes, net.max_frame_bytes - FRAME_OVERHEAD, _FITS)


def check_lock_sizes(document: Document, content: LockNodeFile, net: NetSettings, lock: LockGroup) -> None:
    """Frames and queues of a lock node are large enough for what its limits allow."""
    check_net(document, net)
    limits = content.limits
    largest = limits.key_bytes + limits.client_id_bytes + limits.value_bytes
    path: FieldPath = ("limits",)
    why = "the largest request (key_bytes, client_id_bytes, value_bytes) has to fit"
    check_at_least(document, (*path, "max_frame"), limits.max_frame, largest + FRAME_OVERHEAD, f"{why}, {SPARE}")
    check_at_least(document, (*path, "queue_bytes"), limits.queue_bytes, largest, why)
    check_at_least(document, (*path, "table_bytes"), limits.table_bytes, largest, why)
    check_at_most(document, (*path, "lease_min_ms"), limits.lease_min_ms, limits.lease_max_ms, "at most lease_max_ms")
    page = limits.list_keys * (limits.key_bytes + limits.client_id_bytes + _LISTED)
    check_at_most(document, (*path, "list_keys"), page, net.max_frame_bytes - FRAME_OVERHEAD, f"bytes: {_FITS}")
    check_at_least(
        document,
        ("replica", "max_peer_frame"),
        content.replica.max_peer_frame,
        max(limits.entry_bytes, largest, lock.max_message_bytes) + FRAME_OVERHEAD,
        "the largest message (entry_bytes, value_bytes, max_message_bytes) has to fit",
    )


def check_consumer_sizes(document: Document, content: ConsumerNodeFile, net: NetSettings) -> None:
    check_net(document, net)
    check_at_most(document, ("fetch_bytes",), content.fetch_bytes, net.max_frame_bytes - FRAME_OVERHEAD, _FITS)
