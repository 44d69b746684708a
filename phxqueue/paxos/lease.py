"""Both sides of the master's lease.

The argument: a node that answers a heartbeat binds itself to promise to nobody else for ``lease`` after it *received*
it. The master counts ``lease - max_clock_drift`` from when it *sent* that heartbeat, which is earlier. While a
majority is so bound no other node can gather promises from a majority, hence none can have become master and had a
value chosen that this master does not know of: it may answer reads from its own state. A node that restarts has
forgotten whom it is bound to, so it behaves as if it had answered a heartbeat just now.
"""

from __future__ import annotations

from phxqueue.paxos.membership import Membership


class LeaseGiven:
    """What this node has bound itself to by answering heartbeats. In memory only: see the module's docstring."""

    __slots__ = ("_lease", "holder", "until")

    def __init__(self, lease: float, now: float) -> None:
        self._lease = lease
        self.holder: int | None = None
        """The node bound to; None after a restart: some node, nobody knows which."""
        self.until = now + lease

    def renew(self, holder: int, now: float) -> None:
        """A heartbeat of ``holder`` is being answered."""
        self.holder = holder
        self.until = now + self._lease

    def binds_against(self, node: int, now: float) -> bool:
        """Whether promising to ``node`` would break what was given to another."""
        return now < self.until and node != self.holder


class LeaseHeld:
    """What a master may count on: for each voter, when the newest heartbeat it answered was sent."""

    __slots__ = ("_answered", "_needed", "_span", "unanswered_since", "until")

    def __init__(self, membership: Membership, lease: float, max_clock_drift: float, now: float) -> None:
        self._answered = {node: float("-inf") for node in membership.voters if node != membership.node_id}
        # This node stands for itself at any moment: when it promises to another it is no master any more.
        self._needed = membership.quorum - 1
        self._span = lease - max_clock_drift
        self.until = float("inf") if self._needed == 0 else float("-inf")
        """Until when a majority, this node included, is bound to it."""
        self.unanswered_since = now
        """When the earliest heartbeat was sent that no majority has answered, nor any later one."""

    def sent(self, now: float) -> None:
        """A heartbeat goes out to everybody at ``now``."""
        # Only the first one after an answered one counts, so that a pause of this process is not held against the
        # others.
        if self.unanswered_since == float("inf"):
            self.unanswered_since = now

    def answered(self, node: int, sent_at: float) -> None:
        """``node`` answered the heartbeat that was sent at ``sent_at``."""
        if sent_at <= self._answered.get(node, float("inf")):
            return
        self._answered[node] = sent_at
        bound = sorted(self._answered.values(), reverse=True)[self._needed - 1]
        if bound + self._span > self.until:
            self.until = bound + self._span
            self.unanswered_since = float("inf")
