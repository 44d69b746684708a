"""What the core asks its runtime to do. The order in which to do it is stated in the docstring of the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from phxqueue.paxos.config import Member
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.messages import Message


@dataclass(slots=True)
class PromiseRecord:
    """Never promise less than ``ballot`` again. Kept apart from the entries, so that nothing learned can lower it."""

    ballot: int


@dataclass(slots=True)
class AcceptRecord:
    """``entry`` is held at ``instance``; replaces whatever is stored there."""

    instance: int
    entry: Entry


@dataclass(slots=True)
class ChosenRecord:
    """Every instance up to ``instance`` is chosen, and its entry is in the log already. Losing it costs work after a
    restart, never safety.
    """

    instance: int


@dataclass(slots=True)
class MembershipRecord:
    """Keep ``state`` in place of what was kept before, and give it back as ``Restored.membership``. Comes before the
    ChosenRecord that covers the change; both must go into one transaction.
    """

    state: bytes


Record: TypeAlias = PromiseRecord | AcceptRecord | ChosenRecord | MembershipRecord


@dataclass(slots=True)
class ServeLearn:
    """Read chosen entries ``first`` .. ``Group.chosen`` from the log, about ``max_bytes`` but at least one, and send
    them to ``to`` as LearnReply.
    """

    to: int
    first: int
    max_bytes: int


@dataclass(slots=True, kw_only=True)
class BecameMaster:
    """Phase 1 is done at ``ballot``: propose() works. Reads must wait until ``lease_valid``; ``first_instance`` is
    the first new one.
    """

    ballot: int
    first_instance: int


@dataclass(slots=True, kw_only=True)
class LostMaster:
    """This node is master no more. The outcome of what it proposed and has not seen chosen is unknown until that
    instance is delivered.
    """

    ballot: int
    reason: str


@dataclass(slots=True, kw_only=True)
class MasterChanged:
    """A follower heard a master it did not know yet."""

    master_id: int
    ballot: int


@dataclass(slots=True, kw_only=True)
class Standing:
    """This node has a majority of pre-votes and asks for promises at ``ballot``."""

    ballot: int


@dataclass(slots=True, kw_only=True)
class CorruptEntry:
    """An entry whose checksum, or whose ballot, does not fit. It was not stored, answered or applied. ``sender`` is
    this node's own id for its own log.
    """

    sender: int
    instance: int


@dataclass(slots=True, kw_only=True)
class EntryRepaired:
    """``entry`` was fetched from a peer for Group.repair(); it is chosen, and being written back with this Effects'
    persist.
    """

    instance: int
    entry: Entry


@dataclass(slots=True, kw_only=True)
class CheckpointNeeded:
    """``peer`` has trimmed what this node lacks: its log starts at ``first``. Without a checkpoint this node cannot
    catch up from it.
    """

    peer: int
    first: int


@dataclass(slots=True, kw_only=True)
class MembershipChanged:
    """A change of membership is chosen at ``instance``: ``members`` are the members from instance ``effective`` on."""

    instance: int
    effective: int
    members: tuple[Member, ...]


@dataclass(slots=True, kw_only=True)
class ChangeVoid:
    """The change at ``instance`` changes nothing: it was made from a membership that is no longer the last one."""

    instance: int


@dataclass(slots=True, kw_only=True)
class MembershipEffective:
    """``members`` are in force on this node: everything below the instance they begin with is chosen and durable
    here.
    """

    members: tuple[Member, ...]


@dataclass(slots=True, kw_only=True)
class MembershipSettled:
    """Told by the master: a majority of the voters among ``members``, which are in force, holds everything chosen
    before they were. Only now may a node that was removed or replaced be destroyed.
    """

    members: tuple[Member, ...]


@dataclass(slots=True, kw_only=True)
class MastershipTransferred:
    """``to`` has taken over the mastership that this node handed to it."""

    to: int


@dataclass(slots=True, kw_only=True)
class TransferFailed:
    """``to`` did not become master; this node goes on, or stands again."""

    to: int
    reason: str


@dataclass(slots=True, kw_only=True)
class MessageIgnored:
    """A message from no member, or one that makes no sense, was dropped. Counted in ``Group.ignored``."""

    sender: int
    reason: str


Event: TypeAlias = (
    BecameMaster
    | LostMaster
    | MasterChanged
    | Standing
    | CorruptEntry
    | EntryRepaired
    | CheckpointNeeded
    | MembershipChanged
    | ChangeVoid
    | MembershipEffective
    | MembershipSettled
    | MastershipTransferred
    | TransferFailed
    | MessageIgnored
)


@dataclass(slots=True)
class Effects:
    """The answer to one call of Group. See the package docstring for what to do with it, in which order."""

    persist: list[Record] = field(default_factory=list)
    """To be written, in order."""
    token: int | None = None
    """Call ``Group.persisted(token)`` when all of ``persist`` is durable. None: nobody waits (``persist`` is empty or
    only a ChosenRecord).
    """
    send: list[Message] = field(default_factory=list)
    """To be sent now."""
    send_after: list[Message] = field(default_factory=list)
    """To be sent when ``persist`` is durable, and never if it does not become so."""
    chosen: list[tuple[int, Entry]] = field(default_factory=list)
    """To be applied now, in order: contiguous with what was handed out before, and durable on this node already."""
    serve: list[ServeLearn] = field(default_factory=list)
    """Catch-up of others: reads of the log that the runtime does in its own time."""
    events: list[Event] = field(default_factory=list)
