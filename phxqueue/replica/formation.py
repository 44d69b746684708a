"""Whether a node whose data directory is new may vote. Pure: it is told what the others say of themselves.

The rule: such a node votes when every other voter of its configuration has said, since this process started, that it
has never voted either, and that its configuration names the same members. That is the first start of the whole set. Why
it is safe: whoever asks for promises has promised to itself first, and whatever was chosen a majority has voted for; so
if this node has ever voted, with a disk that was emptied since, some other voter has voted, too, and says so. Then it
waits for the other way to a vote: a replicated membership that records its incarnation (``phxqueue members replace``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phxqueue.paxos.config import Member
from phxqueue.paxos.entry import EntryKind, entry_checksum
from phxqueue.paxos.members_codec import Step, encode_state

_TOKEN = struct.Struct(">Q")
_MARK = struct.Struct(">HQq")


def founders_digest(members: Iterable[Member], window: int) -> int:
    """Digest of what all founders have to agree on: who the members are, of which kind, and the window."""
    founders = tuple(
        Member(member.node_id, member.kind) for member in sorted(members, key=lambda member: member.node_id)
    )
    return entry_checksum(EntryKind.MEMBERSHIP, encode_state(window, [Step(-1, 0, founders)]))


def founding_state(members: Sequence[Member], window: int) -> bytes:
    """Return the initial membership as it is kept on disk: from then on no configuration file says it."""
    return encode_state(window, [Step(-1, 0, tuple(members))])


@dataclass(frozen=True, slots=True)
class Beginning:
    """From where a directory made from a backup begins: as long as it stands there, it has never voted.

    Attributes:
        token: of the restore; all founders of the new life of the set have the same.
        marks: promise and chosen mark by Paxos group.
    """

    token: int
    marks: Mapping[int, tuple[int, int]]

    def encode(self) -> bytes:
        """As it lies on disk."""
        groups = (_MARK.pack(group_id, *marks) for group_id, marks in sorted(self.marks.items()))
        return _TOKEN.pack(self.token) + b"".join(groups)

    @classmethod
    def decode(cls, data: bytes) -> Beginning:
        """The opposite."""
        (token,) = _TOKEN.unpack_from(data)
        marks = _MARK.iter_unpack(data[_TOKEN.size :])
        return cls(token, {group_id: (promised, chosen) for group_id, promised, chosen in marks})


class Formation:
    """What one node knows of the first start of its replica set.

    Args:
        voters: all voters of the configuration.
        formed: this was settled in an earlier life of the directory.
    """

    def __init__(self, node_id: int, voters: Iterable[int], *, formed: bool) -> None:
        self.formed = formed
        self._others = frozenset(voters) - {node_id}
        self._fresh: dict[int, bool] = {}
        self._agree: dict[int, bool] = {}

    def heard(self, node_id: int, *, fresh: bool, agrees: bool = True) -> None:
        """A member said of itself whether it has never voted, and of which members it is one."""
        if node_id in self._others:
            self._fresh[node_id] = fresh
            self._agree[node_id] = agrees

    @property
    def complete(self) -> bool:
        """Whether every other voter is known to have never voted."""
        return all(self._fresh.get(node_id, False) and self._agree[node_id] for node_id in self._others)

    @property
    def missing(self) -> list[int]:
        """Voters that have not been heard of."""
        return sorted(self._others - self._fresh.keys())

    @property
    def settled(self) -> list[int]:
        """Voters that have voted: they are no first start."""
        return sorted(node_id for node_id, fresh in self._fresh.items() if not fresh)

    @property
    def disagreeing(self) -> list[int]:
        """Fresh voters whose configuration names other members."""
        return sorted(node_id for node_id, fresh in self._fresh.items() if fresh and not self._agree[node_id])
