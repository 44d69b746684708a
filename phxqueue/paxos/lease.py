"""Both sides of the master's lease.

The argument: a node that answers a heartbeat binds itself to promise to nobody else for ``lease`` after it *received*
it. The master counts ``lease - max_clock_drift`` from when it *sent* that heartbeat, which is earlier. While a
majority is so bound no other node can gather promises from a majority, hence none can have become master and had a
value chosen that this master does not know of: it may answer reads from its own state. A node that restarts has
forgotten whom it is bound to, so it behaves as if it had answered a heartbeat just now.

With changing membership it is a majority of those who govern the first instance that this master does not know: only
through that one can another go on, and for it needs promises of a majority of just these nodes. The master of a former
ballot cannot hold a lease beside it that rests on another membership: what lies between the two memberships was chosen
by majorities that have reported it in phase 1, and a lease is not valid before all that is delivered.

A master that hands over gives its lease up before it says so, and never has another at that ballot (``transfer``): to
the one it named, nobody is bound any more by what was given to that ballot.
"""

from __future__ import annotations

from phxqueue.paxos.ballot import NO_BALLOT
from phxqueue.paxos.membership import Membership

_NEVER = float("-inf")


class LeaseGiven:
    """What this node has bound itself to by answering heartbeats. In memory only: see the module's docstring."""

    __slots__ = ("_forgotten_until", "_lease", "ballot", "holder", "until")

    def __init__(self, lease: float, now: float) -> None:
        self._lease = lease
        self.holder: int | None = None
        """The node bound to; None after a restart: some node, nobody knows which."""
        self.ballot = NO_BALLOT
        """The ballot of the master bound to."""
        self.until = now + lease
        # A heartbeat that comes now does not undo what was given to another before the restart.
        self._forgotten_until = self.until

    def renew(self, holder: int, ballot: int, now: float) -> None:
        """A heartbeat of ``holder`` at ``ballot`` is being answered."""
        self.holder = holder
        self.ballot = ballot
        self.until = now + self._lease

    def forget(self, now: float) -> None:
        """Nothing was given to anybody: there is nobody else."""
        self.until = self._forgotten_until = now

    def forgetful(self, now: float) -> bool:
        """Whether this node has restarted so lately that it does not know to whom it is bound."""
        return now < self._forgotten_until

    def release(self, ballot: int, now: float) -> None:
        """The master at ``ballot`` has given up what was given to it."""
        if self.ballot == ballot:
            self.until = min(self.until, max(now, self._forgotten_until))

    def wait_for(self, node: int, now: float, released: int = NO_BALLOT) -> float:
        """For how many seconds promising to ``node`` would break what was given to another; 0: it would not. What was
        given to the ballot ``released`` does not count.
        """
        free = node == self.holder or (released != NO_BALLOT and self.ballot == released)
        return max(0.0, (self._forgotten_until if free else self.until) - now)


class LeaseHeld:
    """What a master may count on: for each peer, when the newest heartbeat it answered was sent."""

    __slots__ = ("_answered", "_membership", "_needed", "_others", "_span", "unanswered_since", "until")

    def __init__(self, membership: Membership, lease: float, max_clock_drift: float, now: float) -> None:
        self._membership = membership
        self._answered: dict[int, float] = {}
        self._others: frozenset[int] = frozenset()
        self._needed = 0
        self._span = lease - max_clock_drift
        self.until = _NEVER
        """Until when a majority, this node included, is bound to it."""
        self.unanswered_since = now
        """When the earliest heartbeat was sent that no majority has answered, nor any later one."""
        self.recount(now)

    def recount(self, now: float) -> None:
        """Another membership is in force, or others count in it."""
        view, me = self._membership.current, self._membership.node_id
        self._others = view.electors - {me}
        # This node stands for itself at any moment: when it promises to another it is no master any more.
        self._needed = view.quorum - (me in view.electors)
        self.until = float("inf") if self._needed == 0 else self._bound() + self._span
        if self.until < now:
            self.sent(now)

    def _bound(self) -> float:
        """When the newest heartbeat was sent that a majority has answered, it or a later one."""
        answered = [self._answered.get(node, _NEVER) for node in self._others]
        if self._needed > len(answered):
            return _NEVER
        answered.sort(reverse=True)
        return answered[self._needed - 1]

    def sent(self, now: float) -> None:
        """A heartbeat goes out to everybody at ``now``."""
        # Only the first one after an answered one counts, so that a pause of this process is not held against the
        # others.
        if self.unanswered_since == float("inf"):
            self.unanswered_since = now

    def answered(self, node: int, sent_at: float) -> None:
        """``node`` answered the heartbeat that was sent at ``sent_at``."""
        if sent_at <= self._answered.get(node, _NEVER):
            return
        self._answered[node] = sent_at
        if node not in self._others or self._needed == 0:
            return
        bound = self._bound()
        if bound + self._span > self.until:
            self.until = bound + self._span
            self.unanswered_since = float("inf")
