"""What stands in each of the six cluster files, which have the original's names and fields.

These models only hold one file's content; :mod:`phxqueue.config.building` makes the snapshot from them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from phxqueue.config.cluster import DEAD_LETTER_BASE, MAX_CONSUMER_GROUP_ID
from phxqueue.config.fields import (
    GIB,
    KIB,
    MIB,
    Decimal,
    Flag,
    Host,
    Id,
    Name,
    PathText,
    Port,
    Range,
    Restart,
    Text,
    Whole,
    setting,
)
from phxqueue.config.pub_entry import PubEntry
from phxqueue.config.schema import Block
from phxqueue.config.settings import NetSettings, TopicSettings

LIVE = Restart.LIVE
NEVER = Restart.NEVER
_MAX_ID = 2**31 - 1


class TlsBlock(Block):
    """`tls:`: mutual TLS 1.3, or `tls: off` for loopback addresses only.

    Every field has a default that suits `phxqueue certs init`: give `directory` when the certificates lie
    elsewhere, and the three files only when they have other names.
    """

    enabled: Flag = setting(True, "`tls: off` is short for `enabled: false`.")
    directory: PathText = setting(
        "certs", "Directory of the certificates.", default_text="`certs` beside globalconfig.conf"
    )
    ca: PathText = setting("", "The authority's certificate.", default_text="`ca.pem` in `directory`")
    certificate: PathText = setting("", "The own certificate.", default_text="from the role and name, in `directory`")
    key: PathText = setting("", "Its private key.", default_text="from the role and name, in `directory`")

    @model_validator(mode="before")
    @classmethod
    def _switch(cls, data: Any) -> Any:
        if isinstance(data, str) and data in ("off", "on"):
            return {"enabled": data == "on"}
        return data


# ---- globalconfig.conf -------------------------------------------------------------------------------------------


class TopicInfo(Block):
    """`topic_infos[]`: one topic and where its files are."""

    topic_id: Id = setting(meaning="Number of the topic.", restart=NEVER)
    topic_name: Name = setting(meaning="Name of the topic, as commands and producers give it.")
    topic_config_path: PathText = setting(meaning="topicconfig.conf of the topic.", restart=LIVE)
    consumer_config_path: PathText = setting(meaning="consumerconfig.conf of the topic.", restart=LIVE)
    store_config_path: PathText = setting(meaning="storeconfig.conf of the topic.", restart=LIVE)
    scheduler_config_path: PathText = setting(
        "", "schedulerconfig.conf of the topic.", restart=LIVE, default_text="no schedulers"
    )
    lock_config_path: PathText = setting("", "lockconfig.conf of the topic.", restart=LIVE, default_text="no locks")


class GlobalFile(Block):
    """globalconfig.conf: the cluster and its topics."""

    cluster_name: Name = setting(
        "phxqueue", "Name of the cluster. A data directory of another cluster is refused.", restart=NEVER
    )
    tls: TlsBlock = setting(TlsBlock(), "Where the certificates of the cluster are; clients use it as it stands.")
    net: NetSettings = setting(NetSettings(), "How processes talk to each other.")
    topic_infos: tuple[TopicInfo, ...] = setting(meaning="The topics.", restart=LIVE)


# ---- topicconfig.conf --------------------------------------------------------------------------------------------


class TopicNames(Block):
    """What `topic:` says beside its settings."""

    topic_id: Id = setting(meaning="As in globalconfig.conf.", restart=NEVER)
    handle_ids: tuple[Id, ...] = setting((), "The application's message types.", restart=LIVE)


class TopicSection(TopicSettings, TopicNames):
    """`topic:`: what all processes of the topic have to agree on, and the producers' knobs."""


class QueueInfoEntry(Block):
    """`queue_infos[]`: a set of queues with one behaviour."""

    queue_info_id: Id = setting(meaning="Number of the queue_info.", restart=LIVE)
    ranges: tuple[Range, ...] = setting(
        meaning=f'Its queue ids, all below {DEAD_LETTER_BASE}: one id or range per element, as in ["0-4", "7"].',
        restart=LIVE,
    )
    delay: Decimal = setting(
        0.0,
        "Rest before an item is delivered, from the enqueue of this attempt.",
        unit="s",
        ge=0.0,
        le=31_536_000.0,
        restart=LIVE,
    )
    count: Whole = setting(
        1,
        "Attempts it absorbs before an item moves on to the next queue_info of its pub; -1: no end.",
        unit="attempts",
        ge=-1,
        le=1_000_000,
        restart=LIVE,
    )
    drop_all: Flag = setting(False, "Producers drop what would come here, and say so in their log.", restart=LIVE)
    handle_by_random_uin: Flag = setting(
        False, "Spread items over the queues whatever their uin; gives up their order.", restart=LIVE
    )
    weight: Whole = setting(
        0,
        "Its share of a consumer process's handlers while others have items waiting, too, in proportion to weights. "
        "Those without one (0) count together as one of weight 100.",
        ge=0,
        le=1_000_000,
        restart=LIVE,
    )

    obsolete: ClassVar[dict[str, str]] = {
        "sleep_us_per_get": "consumers wait in a long poll",
        "sleep_us_on_get_fail": "see retry of the consumer's file",
        "sleep_us_on_get_no_item": "consumers wait in a long poll",
        "sleep_us_on_get_size_too_small": "consumers wait in a long poll",
        "get_size_too_small_threshold": "consumers wait in a long poll",
        "freq_limit": "never had an effect; see freq_infos",
        "freq_interval": "never had an effect; see freq_infos",
    }


class ConsumerGroupEntry(Block):
    """`consumer_groups[]`: who reads."""

    consumer_group_id: Whole = setting(
        meaning="Number of the group: one bit of an item's mask.", ge=1, le=MAX_CONSUMER_GROUP_ID, restart=LIVE
    )
    use_dynamic_scale: Flag = setting(
        True,
        "Weights of its consumers come from the scheduler; else, and while there is none, from `scale`.",
        restart=LIVE,
    )
    skip_lock: Flag = setting(
        False, "Its consumers own queues without a lock; so they do while there is no lock service.", restart=LIVE
    )
    ordered: Flag = setting(
        False,
        "Strict order: an item with a uin that fails is tried again in its place; later items of its uin wait for "
        "it, others go on.",
        restart=LIVE,
    )
    ordered_retries: Whole = setting(
        10,
        "Attempts in place after the first; -1: no end.",
        unit="attempts",
        ge=-1,
        le=1_000_000,
        restart=LIVE,
    )
    ordered_retry_ms: Whole = setting(
        1000,
        "Pause before the first of them; doubles from one to the next.",
        unit="ms",
        ge=1,
        le=3_600_000,
        restart=LIVE,
    )
    ordered_retry_max_ms: Whole = setting(30_000, "Longest such pause.", unit="ms", ge=1, le=3_600_000, restart=LIVE)
    ordered_then: Literal["dead", "attempts"] = setting(
        "dead",
        "What becomes of an item that has used them up. `dead`: a dead letter, and the next of its uin follows. "
        "`attempts`: it walks the attempt chain of its pub and loses its place in the order.",
        restart=LIVE,
    )


class SkipInfoEntry(Block):
    """`skip_infos[]`: items that match every given field are passed over, unhandled."""

    uin: Whole = setting(0, "Ordering key; 0: any.", ge=0, le=2**64 - 1, restart=LIVE)
    pub_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    consumer_group_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    queue_info_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    handle_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)


class FreqInfoEntry(Block):
    """`freq_infos[]`: speed limits. Each counts the items that it matches together, over all consumers of the topic.

    `phxqueue limits` changes them while everything runs.
    """

    pub_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    consumer_group_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    handle_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    queue_info_id: Whole = setting(-1, "-1: any.", ge=-1, le=_MAX_ID, restart=LIVE)
    limit_per_min: Whole = setting(meaning="Items per minute; 0: no limit.", ge=0, le=_MAX_ID, restart=LIVE)


class ReplayInfoEntry(Block):
    """`replay_infos[]`: the original's replay. Checked, but never carried out from a file."""

    consumer_group_ids: tuple[Id, ...] = setting((), "Empty: any.", restart=LIVE)
    pub_ids: tuple[Id, ...] = setting((), "Empty: any.", restart=LIVE)
    cursor_id: Whole = setting(-1, "Target cursor; -1: by time.", ge=-1, le=2**64 - 1, restart=LIVE)
    timestamp: Whole = setting(0, "Target time, Unix.", unit="s", ge=0, le=2**40, restart=LIVE)


class TopicFile(Block):
    """topicconfig.conf: queues, routes and groups of one topic."""

    topic: TopicSection = setting(meaning="Settings of the topic.")
    queue_infos: tuple[QueueInfoEntry, ...] = setting(meaning="Sets of queues.", restart=LIVE)
    pubs: tuple[PubEntry, ...] = setting(meaning="Publishing routes.", restart=LIVE)
    consumer_groups: tuple[ConsumerGroupEntry, ...] = setting(meaning="Readers.", restart=LIVE)
    skip_infos: tuple[SkipInfoEntry, ...] = setting((), "Items to pass over.", restart=LIVE)
    freq_infos: tuple[FreqInfoEntry, ...] = setting((), "Speed limits.", restart=LIVE)
    replay_infos: tuple[ReplayInfoEntry, ...] = setting(
        (),
        "The original's way to ask for a replay.",
        restart=LIVE,
        pending="replay from files: it is a command",
    )


# ---- storeconfig.conf and lockconfig.conf ------------------------------------------------------------------------


class ReplicaAddr(Block):
    """`addrs[]` of a store or lock group: one node."""

    node_id: Whole = setting(
        -1,
        "Number of the node, in its certificate and its data; never another node's. Say it when an entry before it is "
        "taken out.",
        ge=-1,
        le=65_535,
        restart=NEVER,
        default_text="its position, from 0",
    )
    ip: Host = setting(meaning="Address or host name that clients and the other nodes use.")
    port: Port = setting(meaning="Port for clients.")
    paxos_port: Port = setting(meaning="Port for the other nodes.")
    region: Text = setting("", "Where the node is; any name.")
    kind: Literal["voter", "witness", "learner"] = setting(
        "voter", "`witness`: votes and journals, never master. `learner`: replicates, no vote."
    )
    election_priority: Whole = setting(
        0, "Higher is preferred as master; equal ones share the Paxos groups.", ge=-1000, le=1000
    )


class ReplicaSetEntry(Block):
    """What stores and lock groups have in common."""

    addrs: tuple[ReplicaAddr, ...] = setting(
        meaning="Its nodes, normally 3 or 5. Their order gives the node ids, unless they say otherwise."
    )
    scale: Whole = setting(100, "Its weight; 0: nothing new comes here.", ge=0, le=1_000_000, restart=LIVE)
    paxos_groups: Whole = setting(
        1, "Paxos groups of a node; a queue lives in group `queue_id mod paxos_groups`.", ge=1, le=1024, restart=NEVER
    )
    preferred_region: Text = setting("", "Region whose nodes are preferred as master.")
    heartbeat_interval_ms: Whole = setting(100, "How often a master lets itself be heard.", unit="ms", ge=5, le=60_000)
    master_lease_ms: Whole = setting(
        400,
        "Silence of the master during which nobody else is elected: at least 3 heartbeats. Longer across regions.",
        unit="ms",
        ge=20,
        le=600_000,
    )
    max_clock_drift_ms: Whole = setting(
        20,
        "Most that clocks of two nodes may differ over one lease; the master counts its lease this much shorter.",
        unit="ms",
        ge=1,
        le=60_000,
    )
    election_stagger_ms: Whole = setting(
        50, "A node stands for election this much later per place behind the preferred one.", unit="ms", ge=1, le=60_000
    )
    window: Whole = setting(64, "Entries in flight per Paxos group.", unit="entries", ge=1, le=4096)
    window_bytes: Whole = setting(16 * MIB, "Bytes in flight per Paxos group.", unit="bytes", ge=64 * KIB, le=4 * GIB)
    max_message_bytes: Whole = setting(
        4 * MIB,
        "Entries carried by one message between nodes (catch-up, promises); one larger entry travels alone.",
        unit="bytes",
        ge=64 * KIB,
        le=512 * MIB,
    )


class StoreEntry(ReplicaSetEntry):
    """`stores[]`: one replica set that holds queues."""

    store_id: Id = setting(meaning="Number of the store, unique in the cluster.", restart=NEVER)
    pub_ids: tuple[Id, ...] = setting((), "Pubs it serves; empty: all.", restart=LIVE)


class StoreFile(Block):
    """storeconfig.conf: the stores of one topic."""

    stores: tuple[StoreEntry, ...] = setting(meaning="The stores.")


class LockEntry(ReplicaSetEntry):
    """`locks[]`: one replica set that holds locks."""

    lock_id: Id = setting(meaning="Number of the lock group, unique in the cluster.", restart=NEVER)
    scale: Whole = setting(
        100,
        "Its share of the keys, as clients see it; 0: none. What lock nodes serve is in their logs: docs/lock.md.",
        ge=0,
        le=1_000_000,
    )


class LockFile(Block):
    """lockconfig.conf: the lock groups of one topic."""

    locks: tuple[LockEntry, ...] = setting(meaning="The lock groups.")


# ---- consumerconfig.conf and schedulerconfig.conf ----------------------------------------------------------------


class Addr(Block):
    """An address."""

    ip: Host = setting(meaning="Address or host name.")
    port: Port = setting(meaning="Port.")

    obsolete: ClassVar[dict[str, str]] = {"paxos_port": "it takes no part in Paxos"}


class ConsumerEntry(Block):
    """`consumers[]`: one consumer process."""

    addr: Addr = setting(meaning="Its identity; nothing listens there.")
    name: Name = setting("", "Its name in its certificate.", default_text="`<ip>-<port>`")
    scale: Whole = setting(
        1000, "Its weight among the consumers of a group; 0: it gets no queues.", ge=0, le=1_000_000, restart=LIVE
    )
    consumer_group_ids: tuple[Id, ...] = setting((), "Groups it takes part in; empty: all.", restart=LIVE)
    run_time_group_ids: tuple[Id, ...] = setting(
        (), "Groups of `phxqueue groups create` that it takes part in, too; they are in no file.", restart=LIVE
    )


class ConsumersFile(Block):
    """consumerconfig.conf: the consumers of one topic."""

    consumers: tuple[ConsumerEntry, ...] = setting(meaning="The consumer processes.", restart=LIVE)


class SchedulerSection(Block):
    """`scheduler:`. One of them is the master, through the lock service; a single one needs none."""

    addrs: tuple[Addr, ...] = setting(meaning="The scheduler processes.")


class SchedulerFile(Block):
    """schedulerconfig.conf: the schedulers of one topic."""

    scheduler: SchedulerSection = setting(meaning="The schedulers.")
