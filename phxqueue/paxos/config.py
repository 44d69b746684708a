"""What a group is told at its start: its members, its times and its bounds, and what its log remembers."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from phxqueue.paxos.ballot import MAX_NODE_ID
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.errors import InvalidConfig


class MemberKind(enum.IntEnum):
    """What a member does."""

    VOTER = 0
    """Votes, may become master."""
    WITNESS = 1
    """Votes and journals, is never master."""
    LEARNER = 2
    """Receives and journals everything, has no vote."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the group. The voter with the highest ``priority`` is preferred as master; equals take turns by
    group id.
    """

    node_id: int
    kind: MemberKind = MemberKind.VOTER
    priority: int = 0
    incarnation: int = 0
    """Which data directory of the node is meant: another one has forgotten what this one promised, so it counts for
    nothing. 0: not recorded yet, whichever directory votes is counted (it asks itself whether it may, see
    ``Restored.may_vote``).
    """
    info: bytes = b""
    """For the runtime, such as the node's address; the core carries it and does not look."""


def member_problems(members: tuple[Member, ...]) -> list[str]:
    """What makes ``members`` impossible as a membership; empty when nothing does."""
    ids = [member.node_id for member in members]
    problems = []
    if len(set(ids)) != len(ids):
        problems.append(f"members {ids} name a node twice")
    if any(not 0 <= node_id <= MAX_NODE_ID for node_id in ids):
        problems.append(f"members {ids}: node ids must be 0 to {MAX_NODE_ID}")
    if not any(member.kind is MemberKind.VOTER for member in members):
        problems.append("members have no voter: there could never be a master")
    return problems


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupConfig:
    """Settings of one group. Times in seconds, sizes in bytes of payload. All members should agree on everything but
    ``node_id`` and ``incarnation``; they MUST agree on ``members`` and ``window`` until the first change of membership
    is in the log, which from then on says both.
    """

    group_id: int
    node_id: int
    members: tuple[Member, ...]
    """The initial membership, valid until the log says otherwise."""
    incarnation: int = 0
    """That of this node's data directory; 0: directories are not told apart."""

    heartbeat_interval: float = 0.1
    """The master sends a heartbeat to every member this often."""
    lease: float = 0.4
    """For so long after a heartbeat a node promises to nobody but its sender."""
    max_clock_drift: float = 0.02
    """By how much two clocks may differ after one ``lease``; the master ends its lease this much sooner."""
    election_stagger: float = 0.02
    """Each step down in the order of preference waits this much longer before it stands."""
    election_timeout: float = 0.1
    """A round of pre-votes without a majority is given up after this time (and a little at random) and begun anew."""
    step_down_after: float = 0.8
    """A master whose heartbeats no majority has answered for so long gives up; not below ``lease``, so that a pause
    does not depose it.
    """

    window: int = 64
    """Instances that a master may have in flight."""
    window_bytes: int = 16 * 1024 * 1024
    """Payload that a master may have in flight (a single larger entry goes alone)."""
    accept_ahead: int = 256
    """A node accepts no instance further than this above its own chosen prefix: it must catch up first."""
    accept_ahead_bytes: int = 64 * 1024 * 1024
    """A node holding this much above its chosen prefix accepts no further instances at the end (gaps may still be
    filled).
    """
    max_message_bytes: int = 4 * 1024 * 1024
    """Payload of one Promise, Accept or LearnReply (a single larger entry goes alone)."""

    retransmit_interval: float = 0.2
    """An Accept that was not answered for so long is sent again ..."""
    retransmit_interval_max: float = 1.6
    """... at intervals that double up to this while the peer answers none."""
    learn_timeout: float = 0.5
    """A LearnRequest that was not answered for so long is sent to another peer."""
    recovery_timeout: float = 2.0
    """A new master that makes no progress in learning what is chosen already gives up after this time, and phase 1 is
    run anew.
    """
    max_repairs: int = 64
    """Corrupt entries of the own log that are being fetched from peers at one time."""

    version: int = 1
    """The highest command version that this node's state machine understands; told to all members with heartbeats."""

    @property
    def transfer_timeout(self) -> float:
        """How long a master that hands over stops proposing, at most; then it takes the mastership up again, which is
        before the others, for whom it is silent, would stand.
        """
        return 0.75 * self.lease

    @property
    def ask_again(self) -> float:
        """Shortest pause before a voter that refused because of a lease is asked again. The leases of two followers end
        within the time a heartbeat travels, so the first to stand is often refused by a hair.
        """
        return min(self.election_stagger, self.heartbeat_interval / 20)

    def __post_init__(self) -> None:
        problems = [*self._member_problems(), *self._time_problems(), *self._size_problems()]
        if problems:
            raise InvalidConfig(f"group {self.group_id}: " + "; ".join(problems))

    def _member_problems(self) -> list[str]:
        # This node itself need not be among them: it may be about to be added, or removed meanwhile.
        problems = member_problems(self.members)
        if not 0 <= self.node_id <= MAX_NODE_ID:
            problems.append(f"node_id {self.node_id} must be 0 to {MAX_NODE_ID}")
        return problems

    def _time_problems(self) -> list[str]:
        problems = []
        if not 0 < self.heartbeat_interval <= self.lease / 2:
            problems.append(
                f"heartbeat_interval {self.heartbeat_interval} must be above 0 and at most half of lease {self.lease}"
            )
        if not 0 <= self.max_clock_drift < self.lease - self.heartbeat_interval:
            problems.append(
                f"max_clock_drift {self.max_clock_drift} must leave over a heartbeat_interval of lease {self.lease}"
            )
        if self.step_down_after < self.lease:
            problems.append(f"step_down_after {self.step_down_after} must not be below lease {self.lease}")
        if self.retransmit_interval_max < self.retransmit_interval:
            problems.append("retransmit_interval_max must not be below retransmit_interval")
        above_zero = (
            "election_stagger",
            "election_timeout",
            "retransmit_interval",
            "learn_timeout",
            "recovery_timeout",
        )
        for name in above_zero:
            if getattr(self, name) <= 0:
                problems.append(f"{name} {getattr(self, name)} must be above 0")
        return problems

    def _size_problems(self) -> list[str]:
        problems = []
        for name in ("window", "window_bytes", "max_message_bytes", "max_repairs"):
            if getattr(self, name) < 1:
                problems.append(f"{name} {getattr(self, name)} must be at least 1")
        if self.accept_ahead < 2 * self.window:
            problems.append(f"accept_ahead {self.accept_ahead} must be at least twice window {self.window}")
        if self.accept_ahead_bytes < 2 * self.window_bytes:
            problems.append(
                f"accept_ahead_bytes {self.accept_ahead_bytes} must be at least twice window_bytes {self.window_bytes}"
            )
        return problems


@dataclass(slots=True)
class Restored:
    """What the log of this node holds when the group starts. The default is that of an empty directory."""

    promised: int = 0
    chosen: int = -1
    """Every instance up to this is chosen and its entry readable (or trimmed)."""
    entries: dict[int, Entry] = field(default_factory=dict)
    """Accepted entries ABOVE ``chosen``. One whose checksum does not fit belongs here too: the core knows what it
    must not vote on.
    """
    first: int = 0
    """The lowest instance in the log; what is chosen below it has been trimmed."""
    complete: bool = True
    """False: a checkpoint was installed, and entries below ``first`` that are still needed are being fetched."""
    membership: bytes | None = None
    """What the last MembershipRecord held. None: the initial membership has never been changed."""
    may_vote: bool = True
    """Whether this directory may vote although no membership records its incarnation: it belongs to the first start of
    the set, or was admitted (``Group.admit``), and has forgotten nothing since. False for a fresh one: such a node
    follows and learns, and votes once a membership with its incarnation is in force.
    """
