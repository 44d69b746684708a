"""What must hold for the replica sets of storeconfig.conf and lockconfig.conf, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

from phxqueue.config.files import ReplicaSetEntry
from phxqueue.config.findings import check_at_most
from phxqueue.config.syntax import Document, FieldPath

#: A lease covers this many heartbeats, so that a lost or late one deposes nobody.
HEARTBEATS_PER_LEASE = 3


def node_ids(entry: ReplicaSetEntry) -> list[int]:
    """The number of each node of `addrs`: the one it says, else its position."""
    return [place if addr.node_id < 0 else addr.node_id for place, addr in enumerate(entry.addrs)]


def check_replica_sets(document: Document, section: str, entries: Sequence[ReplicaSetEntry]) -> None:
    if not entries:
        document.warn((section,), "is empty")
    for index, entry in enumerate(entries):
        path: FieldPath = (section, index)
        _check_nodes(document, path, entry)
        _check_timing(document, path, entry)


def _check_nodes(document: Document, path: FieldPath, entry: ReplicaSetEntry) -> None:
    if not entry.addrs:
        document.error((*path, "addrs"), "no node", "at least one, normally 3 or 5")
        return
    ids = node_ids(entry)
    for place, node_id in enumerate(ids):
        if node_id in ids[:place]:
            document.error(
                (*path, "addrs", place, "node_id"),
                f"node {node_id} is at position {ids.index(node_id)} too",
                "a number of its own",
            )
    voting = sum(node.kind != "learner" for node in entry.addrs)
    if all(node.kind != "voter" for node in entry.addrs):
        document.error((*path, "addrs"), "no voter", "at least one node of kind voter", "nobody could be master")
    elif voting % 2 == 0:
        document.warn(
            (*path, "addrs"),
            f"{voting} voting nodes survive no more failures than {voting - 1}",
            "an odd number",
            "add one or make one a learner",
        )
    regions = {node.region for node in entry.addrs}
    if entry.preferred_region and entry.preferred_region not in regions:
        document.error(
            (*path, "preferred_region"),
            f'found "{entry.preferred_region}"',
            "region of one of its nodes: " + (", ".join(sorted(regions - {""})) or "none has one"),
        )
    for place, node in enumerate(entry.addrs):
        if node.election_priority and node.kind != "voter":
            field = (*path, "addrs", place, "election_priority")
            document.warn(field, f"without effect: a {node.kind} is never master")


def _check_timing(document: Document, path: FieldPath, entry: ReplicaSetEntry) -> None:
    heartbeat, lease = entry.heartbeat_interval_ms, entry.master_lease_ms
    if lease < HEARTBEATS_PER_LEASE * heartbeat:
        document.error(
            (*path, "master_lease_ms"),
            f"found {lease}",
            f"at least {HEARTBEATS_PER_LEASE * heartbeat}",
            f"a lease covers {HEARTBEATS_PER_LEASE} heartbeats (heartbeat_interval_ms: {heartbeat})",
        )
        return
    check_at_most(
        document,
        (*path, "max_clock_drift_ms"),
        entry.max_clock_drift_ms,
        lease - 2 * heartbeat,
        f"less than the lease, with two heartbeats to spare (master_lease_ms: {lease})",
    )
