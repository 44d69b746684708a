"""`replica:` of the file of a node that replicates; see :mod:`phxqueue.config.settings`."""

from __future__ import annotations

from phxqueue.config.fields import GIB, KIB, MIB, Decimal, Whole, setting
from phxqueue.config.schema import Block


class ReplicaSettings(Block):
    """`replica:` of a store's file: how one node follows its Paxos groups."""

    max_peer_frame: Whole = setting(
        64 * MIB, "Largest frame accepted from another node of the store.", unit="bytes", ge=1 * MIB, le=1 * GIB
    )
    peer_buffer_bytes: Whole = setting(
        64 * MIB,
        "Bytes waiting to be sent to one other node; what exceeds it is dropped and learned later.",
        unit="bytes",
        ge=1 * MIB,
        le=4 * GIB,
    )
    peer_reconnect_min_ms: Whole = setting(
        20, "First pause before a lost node is dialled again; doubles, with jitter.", unit="ms", ge=1, le=60_000
    )
    peer_reconnect_max_ms: Whole = setting(500, "Longest such pause.", unit="ms", ge=1, le=60_000)
    peer_ping_timeout_ms: Whole = setting(
        2000, "Silence which makes the connection to another node count as dead.", unit="ms", ge=100, le=60_000
    )
    checkpoint_interval_s: Decimal = setting(
        10.0,
        "Longest time between checkpoints of the queue state while entries are applied.",
        unit="s",
        ge=0.1,
        le=86_400.0,
    )
    checkpoint_entries: Whole = setting(
        20_000,
        "Entries after which the queue state is checkpointed earlier; bounds what a restart replays.",
        unit="entries",
        ge=1,
        le=100_000_000,
    )
    checkpoint_bytes: Whole = setting(
        64 * MIB,
        "Payload applied after which the queue state is checkpointed earlier; bounds what a restart reads again.",
        unit="bytes",
        ge=64 * KIB,
        le=64 * GIB,
    )
    keep_entries: Whole = setting(
        1000,
        "Newest entries of a Paxos group that stay in the log although no queue needs them, for nodes that lag a "
        "little; who lags further gets a checkpoint.",
        unit="entries",
        ge=0,
        le=100_000_000,
    )
    catch_up_rate: Whole = setting(
        32 * MIB,
        "Bytes per second that a node gives to others that catch up, and takes while it fetches a checkpoint; 0: no "
        "limit.",
        unit="bytes/s",
        ge=0,
        le=64 * GIB,
    )
    drain_timeout_s: Decimal = setting(
        5.0, "Longest a stopping node waits for its proposals in flight.", unit="s", ge=0.0, le=3600.0
    )
    hand_over_timeout_s: Decimal = setting(
        3.0,
        "Longest a stopping node takes to give its masterships to other nodes before it stops serving; 0: it gives "
        "none away, and the others wait for its lease.",
        unit="s",
        ge=0.0,
        le=600.0,
    )
    return_mastership_after_s: Decimal = setting(
        10.0,
        "A node that is preferred as master gets a group back when it has been healthy and caught up for so long; "
        "0: never by itself.",
        unit="s",
        ge=0.0,
        le=86_400.0,
    )
    transfer_interval_s: Decimal = setting(
        1.0, "Shortest time between two masterships that a node gives back by itself.", unit="s", ge=0.0, le=3600.0
    )
