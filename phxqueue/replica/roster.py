"""Who this node is, whom it may talk to and where they are: a snapshot, made anew when the membership changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phxqueue.net.address import Address, AddressError
from phxqueue.net.identity import Identity, Role
from phxqueue.paxos.config import Member
from phxqueue.replica.told import ToldMark


@dataclass(frozen=True, slots=True)
class Greeting:
    """What two nodes tell each other about themselves when they connect.

    incarnation: of the data directory.
    fresh: this node has never voted, so there is no promise that it could have forgotten.
    founders: digest of the members that its configuration names.
    lineage: which life of the set its data belong to: each restore of a backup, and each membership made by force,
        begins another. 0: the first, or none yet.
    told: up to where others have told this node that entries are durable on their disks.
    """

    incarnation: int
    fresh: bool
    founders: int = 0
    lineage: int = 0
    told: tuple[ToldMark, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether it belongs to no life of the set yet."""
        return self.fresh and self.lineage == 0

    def strife(self, other: Greeting) -> str | None:
        """Why these two must not talk; None if they may. What one life of a set has chosen means nothing in another."""
        if self.lineage == other.lineage or self.blank or other.blank:
            return None
        return (
            f"their data are of two lives of one store ({self.lineage:016x} and {other.lineage:016x}; one was built "
            "from a backup, or made anew by force): stop the node that is of the wrong one, and move its data away"
        )


@dataclass(frozen=True, slots=True)
class MemberPlace:
    """Where a member listens: for the other members, and for clients (None: not known)."""

    paxos: Address
    service: Address | None = None

    def encode(self) -> bytes:
        """Return the place as it stands in ``Member.info`` of the replicated membership."""
        return str(self.paxos).encode() + (b"" if self.service is None else b" " + str(self.service).encode())

    @classmethod
    def decode(cls, info: bytes) -> MemberPlace | None:
        """Return the place a ``Member.info`` names; None when it names none."""
        try:
            addresses = [Address.parse(text) for text in info.decode().split()]
        except (AddressError, UnicodeDecodeError):
            return None
        if not addresses:
            return None
        return cls(addresses[0], addresses[1] if len(addresses) > 1 else None)


def known_places(
    configured: Mapping[int, Address], memberships: Iterable[Sequence[Member]], audience: Iterable[int]
) -> Mapping[int, tuple[Address, ...]]:
    """Return where everybody a node talks to may listen.

    What the membership says comes behind what the node's own files say: files are changed first when a node moves.

    Args:
        configured: Paxos addresses by the files; a node that is in them alone is no member and not returned.
        memberships: in force or pending, of all groups.
        audience: members, and who was one a moment ago.
    """
    places: dict[int, tuple[Address, ...]] = {
        node_id: (configured[node_id],) if node_id in configured else () for node_id in sorted(audience)
    }
    for members in memberships:
        for member in members:
            place = MemberPlace.decode(member.info)
            known = places.get(member.node_id, ())
            if place is not None and place.paxos not in known:
                places[member.node_id] = (*known, place.paxos)
    return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """The members of one replica set as one of them knows them now.

    addresses: Paxos addresses of every member, this one included; the first of several is the likeliest.
    voters: those that count towards a majority.
    """

    cluster: str
    role: Role
    set_id: int  # store_id or lock_id
    node_id: int
    incarnation: int
    paxos_groups: int
    addresses: Mapping[int, tuple[Address, ...]]
    voters: frozenset[int]

    @property
    def name(self) -> str:
        """The replica set, for people: "store 1"."""
        return f"{self.role.value} {self.set_id}"

    def identity(self, node_id: int) -> Identity:
        """The certificate identity that a member must prove."""
        return Identity.make(self.role, str(self.set_id), node_id)

    def describe_node(self, node_id: int) -> str:
        """Name a member for people, with its address."""
        places = self.addresses.get(node_id)
        return f"node {node_id}" + (f" ({places[0]})" if places else "")

    def describe(self, reachable: frozenset[int]) -> str:
        """Say how many voters are reachable, which, and what to do about the others."""
        voters = [node for node in self.addresses if node in self.voters]
        up = [node for node in voters if node == self.node_id or node in reachable]
        if 2 * len(up) > len(voters):
            return f"{self.name} is electing a master ({len(up)} of {len(voters)} nodes reachable); try again"
        listed = f" ({', '.join(str(self.addresses[node][0]) for node in up)})" if up else ""
        down = ", ".join(str(self.addresses[node][0]) for node in voters if node not in up)
        missing = len(voters) // 2 + 1 - len(up)
        start = "start another" if missing == 1 else f"start {missing} more"
        return f"no majority: {len(up)} of {len(voters)} nodes of {self.name} reachable{listed}; {start} ({down})"
