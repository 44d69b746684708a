"""What the members of one group say to each other.

Every message names ``sender`` and ``receiver`` (node ids) and has a class attribute ``type``. A receiver must expect
any of them lost, repeated, late or out of order; none of them is ever trusted to have arrived.

On the wire all of them are one flat record (``PaxosMessage`` of ``paxos.proto``); ``WIRE_FIELDS`` says which attribute
travels in which of its fields. Messages are plain slotted dataclasses because several are built per entry; treat them
as immutable. The Accepts of one proposal to several receivers share one ``entries`` tuple, so an encoder may
serialise it once (compare by ``is``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from phxqueue.paxos.entry import Entry

Entries: TypeAlias = tuple[tuple[int, Entry], ...]
"""(instance, entry) pairs in rising order of instance."""


class MessageType(enum.IntEnum):
    """Numbers on the wire; never reused. 13 to 15 are reserved."""

    PRE_VOTE = 1
    PRE_VOTE_REPLY = 2
    PREPARE = 3
    PROMISE = 4
    ACCEPT = 5
    ACCEPTED = 6
    REJECT = 7
    HEARTBEAT = 8
    HEARTBEAT_REPLY = 9
    LEARN_REQUEST = 10
    LEARN_REPLY = 11
    HAND_OVER = 12


@dataclass(slots=True)
class Message:
    """Base of all messages."""

    type: ClassVar[MessageType]

    sender: int
    receiver: int


@dataclass(slots=True)
class PreVote(Message):
    """Asks: "would you promise ``ballot`` to me?" Binds nobody; asked so that a node that merely lost touch deposes no
    healthy master.
    """

    type: ClassVar[MessageType] = MessageType.PRE_VOTE

    ballot: int
    chosen: int
    """The candidate's chosen prefix: a node far ahead of it would rather stand itself."""


@dataclass(slots=True)
class PreVoteReply(Message):
    """The answer to PreVote; ``ballot`` is the ballot asked for."""

    type: ClassVar[MessageType] = MessageType.PRE_VOTE_REPLY

    ballot: int
    granted: bool
    promised: int
    """The highest ballot the answerer knows of: a candidate must go above it."""
    chosen: int
    wait: float
    """When refused because of a lease: the seconds it still runs (0 otherwise)."""


@dataclass(slots=True)
class Prepare(Message):
    """Phase 1a for every instance from ``first`` on. Sent again with a higher ``first`` to fetch the next page of a
    long Promise.
    """

    type: ClassVar[MessageType] = MessageType.PREPARE

    ballot: int
    first: int
    released: int = 0
    """The ballot of a master that has handed over to the sender: nobody is bound any more by what it gave that master.
    0: none has.
    """


@dataclass(slots=True)
class Promise(Message):
    """Phase 1b. Sent only when the promise of ``ballot`` is durable.

    Complete for the instances ``first`` to ``last``: those up to ``chosen`` are chosen (to be learned, they are not
    listed), those above are listed in ``entries`` when anything was accepted there. ``final``: nothing was accepted
    above ``last`` either; otherwise the candidate asks for the page that starts at ``last + 1``.
    """

    type: ClassVar[MessageType] = MessageType.PROMISE

    ballot: int
    first: int
    last: int
    final: bool
    chosen: int
    entries: Entries


@dataclass(slots=True)
class Accept(Message):
    """Phase 2a, for one or more instances; every entry carries ``ballot``. ``chosen``: the master's chosen prefix."""

    type: ClassVar[MessageType] = MessageType.ACCEPT

    ballot: int
    chosen: int
    entries: Entries


@dataclass(slots=True)
class Accepted(Message):
    """Phase 2b for the instances ``first`` to ``last``, all durable here at ``ballot``.

    ``last < first``: nothing was accepted (the instances are known to be chosen, or too far ahead); the message then
    only tells ``chosen``, the prefix that is chosen and durable at the sender.
    """

    type: ClassVar[MessageType] = MessageType.ACCEPTED

    ballot: int
    first: int
    last: int
    chosen: int


@dataclass(slots=True)
class Reject(Message):
    """Prepare, Accept or Heartbeat at ``ballot`` was refused.

    ``promised`` above ``ballot``: because of that ballot. Otherwise because of a lease that still runs for ``wait``
    seconds.
    """

    type: ClassVar[MessageType] = MessageType.REJECT

    ballot: int
    promised: int
    wait: float


@dataclass(slots=True)
class Heartbeat(Message):
    """The master is alive. Whoever answers binds itself not to promise to another node for one lease."""

    type: ClassVar[MessageType] = MessageType.HEARTBEAT

    ballot: int
    chosen: int
    time: float
    """The master's monotonic clock when it sent this; comes back in the reply."""
    version: int
    """The highest command version the sender understands."""


@dataclass(slots=True)
class HeartbeatReply(Message):
    """``ballot`` and ``time`` are those of the heartbeat; ``chosen`` and ``version`` are the answerer's.

    ``incomplete``: the answerer got a checkpoint, and lacks entries below it that are still needed.
    ``reluctant``: it should not be handed the mastership now, it is stopping or ``Group.busy``.
    """

    type: ClassVar[MessageType] = MessageType.HEARTBEAT_REPLY

    ballot: int
    chosen: int
    time: float
    version: int
    incomplete: bool = False
    reluctant: bool = False


@dataclass(slots=True)
class LearnRequest(Message):
    """Asks for the chosen entries from ``first`` on, about ``max_bytes`` of payload, but at least one entry.

    ``accepted``: the entry at ``first`` is wanted even if it is only accepted there.
    """

    type: ClassVar[MessageType] = MessageType.LEARN_REQUEST

    first: int
    max_bytes: int
    accepted: bool = False


@dataclass(slots=True)
class LearnReply(Message):
    """Chosen entries, contiguous from ``first``. Every one of them is chosen and durable at the sender, whose prefix
    is ``chosen``; one above ``chosen`` is only accepted and durable there.

    Empty with ``first`` above the instance asked for: the log is trimmed, it starts at ``first``.
    """

    type: ClassVar[MessageType] = MessageType.LEARN_REPLY

    first: int
    chosen: int
    entries: Entries


@dataclass(slots=True)
class HandOver(Message):
    """The master at ``ballot`` has stopped, and counts on no lease at that ballot ever again: the receiver is to stand
    at once. ``chosen`` is everything it ever proposed.
    """

    type: ClassVar[MessageType] = MessageType.HAND_OVER

    ballot: int
    chosen: int


WIRE_FIELDS: Mapping[type[Message], tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        PreVote: (("ballot", "ballot"), ("chosen", "chosen")),
        PreVoteReply: (
            ("ballot", "ballot"),
            ("granted", "flag"),
            ("promised", "promised"),
            ("chosen", "chosen"),
            ("wait", "time"),
        ),
        Prepare: (("ballot", "ballot"), ("first", "instance"), ("released", "promised")),
        Promise: (
            ("ballot", "ballot"),
            ("first", "instance"),
            ("last", "last"),
            ("final", "flag"),
            ("chosen", "chosen"),
            ("entries", "entries"),
        ),
        Accept: (("ballot", "ballot"), ("chosen", "chosen"), ("entries", "entries")),
        Accepted: (("ballot", "ballot"), ("first", "instance"), ("last", "last"), ("chosen", "chosen")),
        Reject: (("ballot", "ballot"), ("promised", "promised"), ("wait", "time")),
        Heartbeat: (("ballot", "ballot"), ("chosen", "chosen"), ("time", "time"), ("version", "version")),
        HeartbeatReply: (
            ("ballot", "ballot"),
            ("chosen", "chosen"),
            ("time", "time"),
            ("version", "version"),
            ("incomplete", "flag"),
            ("reluctant", "last"),
        ),
        LearnRequest: (("first", "instance"), ("max_bytes", "last"), ("accepted", "flag")),
        LearnReply: (("first", "instance"), ("chosen", "chosen"), ("entries", "entries")),
        HandOver: (("ballot", "ballot"), ("chosen", "chosen")),
    }
)
"""For each message, in the order of its constructor after sender and receiver: (attribute, field of PaxosMessage)."""

MESSAGE_CLASSES: Mapping[int, type[Message]] = MappingProxyType({int(cls.type): cls for cls in WIRE_FIELDS})
"""Message class by its number on the wire."""
