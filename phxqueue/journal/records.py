"""The values that cross the journal's border: writes going in, stored entries and group states coming out.

Writes are plain slotted dataclasses, one per effect; a submission is a sequence of them and is atomic: after a crash
either all of it is there or none.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_GROUP = 0xFFFF
MAX_INSTANCE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class WantedIdentity:
    """Whose data the caller expects in the directory; a fresh directory is made for exactly this node.

    `role` is what kind of replica set `store_id` numbers: "store", "lock".
    """

    cluster: str
    store_id: int
    node_id: int
    paxos_groups: int
    role: str = "store"


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Whose data the directory holds. `incarnation` is 63 random bits made together with the directory.

    A disk that was emptied comes back as another incarnation, so peers can tell that this node has forgotten its
    promises and must not count towards a majority before it has been re-admitted.
    """

    cluster: str
    store_id: int
    node_id: int
    incarnation: int
    role: str = "store"


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One Paxos entry as it lies on disk. The checksum is the proposer's, stored and returned as it came."""

    ballot: int
    checksum: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class GroupState:
    """What a restart needs to know of one group.

    promised: the highest ballot promised, at least the ballot of every entry ever put; 0 = none yet.
    chosen:   the chosen mark as last stored, -1 = none. It may lag behind what was known before the crash.
    first:    the lowest instance in the log; chosen + 1 when the log is empty.
    entries:  every accepted entry above `chosen`, by rising instance; they need not be contiguous.
    """

    promised: int
    chosen: int
    first: int
    entries: list[tuple[int, StoredEntry]]


@dataclass(slots=True)
class PutEntry:
    """Accept (or learn) one entry. Raises the stored promise to `ballot` in the same transaction when it is lower.

    Overwrites what the instance held: an accept of a higher ballot, or the repair of a corrupt entry.
    """

    group: int
    instance: int
    ballot: int
    checksum: int
    kind: int
    payload: bytes


@dataclass(slots=True)
class PutPromise:
    """Promise `ballot`. A promise never goes down: a lower ballot than the stored one leaves it as it is."""

    group: int
    ballot: int


@dataclass(slots=True)
class PutChosen:
    """Everything up to `instance` is chosen. A lower mark than the stored one leaves it as it is.

    A submission of nothing else, without `done`, is lazy: it rides with the next commit, at the latest after
    `lazy_delay_s`.
    """

    group: int
    instance: int


@dataclass(slots=True)
class TrimEntries:
    """Entries of `group` below `below` are not needed any more (all of them must be chosen).

    Takes effect atomically with its submission: from then on they count as absent and `GroupState.first` is at least
    `below`, whatever crash follows. The space is given back afterwards in small range deletes.
    """

    group: int
    below: int


@dataclass(slots=True)
class PutBlob:
    """Store a value in one of the small tables: checkpoints, membership, sealed index segments."""

    table: str
    key: bytes
    value: bytes


@dataclass(slots=True)
class DeleteBlob:
    """Remove a value from a small table; one that is not there is no error."""

    table: str
    key: bytes


Write = PutEntry | PutPromise | PutChosen | TrimEntries | PutBlob | DeleteBlob
