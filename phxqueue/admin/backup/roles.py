"""What differs between the backup of a store and that of a lock group: whose it is, and how its new life begins."""

from __future__ import annotations

from pathlib import Path

from phxqueue.admin.backup.checking import Checked
from phxqueue.admin.backup.files import Manifest
from phxqueue.admin.errors import AdminError
from phxqueue.config import (
    ConfigError,
    LockGroup,
    LockNode,
    ReplicaSet,
    Store,
    StoreNode,
    load_lock_node,
    load_store_node,
)
from phxqueue.lock.table import restored_table
from phxqueue.store.queues import new_history

#: Versions of a lock group that begins another life at this moment are above (Unix milliseconds << this). So no life
#: of it reaches the versions of a later one, if it has fewer than 32 entries a millisecond, and 16 bits are theirs.
FENCE_SHIFT = 21
#: A restored lock group grants nothing for so long, or for the longest lease in the backup if that is longer.
QUARANTINE_MS = 30_000

Node = StoreNode | LockNode


def load_node(path: Path, manifest: Manifest) -> Node:
    """Read the file of a node for a backup. Raises ConfigError; AdminError when the node is of the other role."""
    is_store = manifest.role == "store"
    load, other = (load_store_node, load_lock_node) if is_store else (load_lock_node, load_store_node)
    try:
        return load(path)
    except ConfigError:
        try:
            stranger = other(path)
        except ConfigError:
            stranger = None
        if stranger is None:
            raise
    raise AdminError(f"{path} is the file of {replica_set_of(stranger).title}, the backup is of a {manifest.kind}")


def identity_of(node: Node) -> tuple[str, int]:
    """The role and number of the replica set that a node belongs to."""
    return ("store", node.store.store_id) if isinstance(node, StoreNode) else ("lock", node.lock.lock_id)


def replica_set_of(node: Node) -> ReplicaSet:
    """The store or lock group that a node belongs to."""
    return node.store if isinstance(node, StoreNode) else node.lock


def as_store(of: Store | LockGroup) -> Store:
    """A lock group under a store's name, for what asks nodes how they are: there both are replica sets."""
    if isinstance(of, Store):
        return of
    return Store(store_id=of.lock_id, nodes=of.nodes, paxos_groups=of.paxos_groups)


def new_token(role: str, now: float, drawn: int) -> int:
    """The token of a restore, made at `now`, Unix seconds; `drawn`: any 64 bits.

    That of a lock group is its fence, too: every version of the new life is higher.
    """
    if role == "store":
        return drawn | 1
    return (int(now * 1000) << FENCE_SHIFT) | (drawn & (1 << FENCE_SHIFT) - 1) | 1


def check_token(role: str, token: int, now: float, ended_at: float, checked: Checked) -> None:
    """Refuse a token that is no fence for what was given in the life that is over. Raises AdminError.

    Args:
        now, ended_at: Unix seconds, the latter of the end of the backup.
    """
    if role == "store":
        return
    if now < ended_at:
        raise AdminError(
            "the clock of this machine is behind the backup's: fencing tokens of a lock group continue above the time "
            "of the restore, so set the clock first"
        )
    if token >> FENCE_SHIFT < int(ended_at * 1000) or token <= checked.highest_version:
        raise AdminError(
            f"--token {token:016x} is not that of the restore of a lock group, made after this backup: versions would "
            "be given a second time"
        )


def beginning(role: str, token: int, checked: Checked) -> bytes:
    """The first entry of the new life of one Paxos group; the same on every node."""
    if role == "store":
        return new_history(token)
    return restored_table(token, max(QUARANTINE_MS, checked.longest_lease_ms))
