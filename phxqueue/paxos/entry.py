"""The value of one Paxos instance, and the checksum that travels with it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import xxhash

_JOIN_BELOW = 16 * 1024
"""Payloads shorter than this are joined to their kind byte: a copy is cheaper than a streaming hash object."""


class EntryKind(enum.IntEnum):
    """What the payload of an entry is. Unknown kinds are replicated like any other, so that nodes may be upgraded one
    by one.
    """

    VALUE = 0
    """A command of the state machine."""
    NOOP = 1
    """Closes a gap that a dead master left; the state machine only moves its ``applied`` over it."""
    MEMBERSHIP = 2
    """The next membership, see ``membership.Change``; the state machine only moves its ``applied`` over it."""


def entry_checksum(kind: int, payload: bytes) -> int:
    """xxh3_64 over the kind byte followed by the payload."""
    if len(payload) < _JOIN_BELOW:
        return xxhash.xxh3_64_intdigest(bytes((kind,)) + payload)
    digest = xxhash.xxh3_64(bytes((kind,)))
    digest.update(payload)
    return digest.intdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One value as an acceptor holds it.

    ``ballot`` is the ballot at which it was accepted and is not covered by ``checksum``: a new master proposes the same
    value again at its own ballot, while the checksum stays the one its first proposer made.
    """

    ballot: int
    kind: int
    checksum: int
    payload: bytes

    def valid(self) -> bool:
        """Whether kind and payload are still what the proposer made the checksum over."""
        return entry_checksum(self.kind, self.payload) == self.checksum

    def same_value(self, other: Entry) -> bool:
        """Whether both hold the same value, at whatever ballots."""
        return self.checksum == other.checksum and self.kind == other.kind and self.payload == other.payload


def make_entry(ballot: int, kind: int, payload: bytes) -> Entry:
    """An entry with its checksum, as its first proposer makes it. ``kind`` must fit one byte."""
    return Entry(ballot, kind, entry_checksum(kind, payload), payload)


def reballoted(entry: Entry, ballot: int) -> Entry:
    """The same value, proposed again at ``ballot``."""
    return Entry(ballot, entry.kind, entry.checksum, entry.payload)
