"""What a node asks of one group about its members and its mastership, and what may be asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail

from phxqueue.paxos.config import Member
from phxqueue.paxos.effects import Effects, MembershipChanged, MembershipEffective
from phxqueue.paxos.group import Group
from phxqueue.replica.errors import NotServing
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.requests import Requests


def membership_news(name: str, event: MembershipChanged | MembershipEffective) -> str:
    """Return what has become of a group's members, for the log."""
    members = ", ".join(f"{member.kind.name.lower()} {member.node_id}" for member in event.members)
    if isinstance(event, MembershipChanged):
        return f"{name}: its members will be {members} from instance {event.effective} on"
    return f"{name}: its members are {members}"


class GroupMembers(ABC):
    """That side of a :class:`~phxqueue.replica.group_runtime.GroupRuntime`.

    Attributes:
        on_members: called, in the reactor thread, when other members are chosen or in force.
        on_hand_over: called, in the reactor thread, before the mastership is handed over: what is to be proposed still
            must be proposed now.
        held: an operator wants this node to keep the mastership, though others are preferred.
        master_since: when this node became master last.
        beginning: promise and chosen mark with which the directory was made.
    """

    beginning = (0, -1)

    def __init__(self, core: Group, clock: Clock) -> None:
        self.core = core
        self.group_id = core.config.group_id
        self.on_members: list[Callable[[], None]] = []
        self.on_hand_over: list[Callable[[], None]] = []
        self.held = False
        self._hindrances: set[str] = set()
        self.master_since = 0.0
        self._clock = clock
        self._requests = Requests(core, clock, self._drive)

    @abstractmethod
    def _drive(self, step: Callable[[float], Effects]) -> None:
        """Call the core and carry out what it answers."""

    @abstractmethod
    def _notify(self, callbacks: list[Callable[..., None]], *arguments: object) -> None:
        """Tell a service; its mistakes do no harm."""

    @abstractmethod
    def proposing(self) -> bool:
        """Tell whether this node may propose: it is master."""

    @abstractmethod
    def unreachable_reason(self) -> str:
        """Return a sentence for whoever finds no master here."""

    @property
    def name(self) -> str:
        """The group, for people."""
        return f"group {self.group_id}"

    @property
    def members(self) -> tuple[Member, ...]:
        """The members in force on this node."""
        return self.core.members

    @property
    def pending_members(self) -> tuple[Member, ...] | None:
        """The members chosen to be the next, and not in force yet; None: no change is under way."""
        return self.core.pending_members

    @property
    def settled(self) -> bool:
        """Whether, as this master knows, nothing rests any more on nodes that are members no longer."""
        return self.core.settled

    @property
    def votes(self) -> bool:
        """Whether this node has a vote."""
        return self.core.votes

    @property
    def untouched(self) -> bool:
        """Whether this directory has never promised, accepted or learned anything: it has nothing to forget."""
        return (self.core.promised, self.core.known) == self.beginning

    def change_members(self, members: tuple[Member, ...]) -> Deferred[None]:
        """Make these the members; fires when they are in force.

        Fails with NotServing, Overloaded or Refused (nothing was proposed, or it was void) or OutcomeUnknown.
        """
        if not self.proposing():
            return fail(NotServing(self.unreachable_reason()))
        return self._requests.change(members)

    def transfer(self, to: int) -> Deferred[float]:
        """Hand the mastership to another node; fires with the seconds it took when that node is master.

        Fails with NotServing or Refused. Nothing is proposed meanwhile, for a bounded time.
        """
        if not self.proposing():
            return fail(NotServing(self.unreachable_reason()))
        if self.transfer_problem(to) is None:
            self._notify(self.on_hand_over)
        return self._requests.transfer(to)

    def transfer_problem(self, to: int) -> str | None:
        """Why a node could not take the mastership over now, and what to do; None if it could."""
        return self.core.transfer_problem(to, self._clock.seconds())

    def hinder(self, what: str, is_so: bool) -> None:
        """Something keeps this node from serving as a master should, or no more: nobody hands it the mastership
        meanwhile. It stands, though, when it hears of no master.
        """
        if is_so:
            self._hindrances.add(what)
        else:
            self._hindrances.discard(what)
        self.core.busy(bool(self._hindrances))

    def stand_aside(self, reason: str) -> None:
        """Give up mastership, and take it no more until restarted; go on voting."""
        self._drive(lambda now: self.core.stand_aside(reason, now))

    def peer_incarnation(self, node_id: int, incarnation: int) -> None:
        """A peer has said which data directory it runs on; told before anything that comes from there."""
        self._drive(lambda now: self.core.peer_incarnation(node_id, incarnation, now))

    def admit(self) -> None:
        """This fresh directory may vote: see :mod:`phxqueue.replica.formation`. That was submitted to the journal."""
        self._drive(self.core.admit)
