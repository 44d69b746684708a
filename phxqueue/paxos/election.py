"""When this node stands for master, and to whom it is bound meanwhile.

Nobody waits a long random time. A follower that hears nothing stands after ``lease + heartbeat_interval`` (so that a
master paused for less than its lease is not deposed) plus ``election_stagger`` for each node preferred to it; one
that has seen the master's process gone stands as soon as the lease it gave has run out. Who is refused for a lease is
told how long it still runs, and asks again just then. Two that stand at once do not block each other for long:
ballots differ, the higher one wins.
"""

from __future__ import annotations

import random

from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.lease import LeaseGiven
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import PreVote, PreVoteReply
from phxqueue.paxos.peers import Peers


class PreVoteRound:
    """One round of asking whether promises would be given."""

    __slots__ = ("_granted", "_membership", "_retry_from", "ballot", "until")

    def __init__(self, membership: Membership, ballot: int, now: float, until: float, retry_from: float) -> None:
        self.ballot = ballot
        self._granted = {membership.node_id}
        self._membership = membership
        self.until = until
        """When to begin another round."""
        self._retry_from = retry_from

    @property
    def won(self) -> bool:
        """Whether a majority would promise."""
        return self._membership.current.majority(self._granted)

    def forget(self, node: int) -> None:
        """``node`` runs on another directory, and was not asked."""
        self._granted.discard(node)

    def answered(self, message: PreVoteReply, now: float) -> None:
        """Count an answer. A refusal says when it is worth asking again."""
        if message.ballot != self.ballot:
            return
        if message.granted:
            self._granted.add(message.sender)
        elif message.wait > 0 or message.promised >= self.ballot:
            self.until = min(self.until, max(now + message.wait, self._retry_from))


class Election:
    """See the module's docstring."""

    __slots__ = (
        "_config",
        "_membership",
        "_peers",
        "_postponed_until",
        "_random",
        "heard_at",
        "lease",
        "master",
    )

    def __init__(self, config: GroupConfig, membership: Membership, peers: Peers, now: float, seed: int) -> None:
        self._config = config
        self._membership = membership
        self._peers = peers
        # Nodes given the same seed must not fail in step.
        self._random = random.Random(f"{seed} {config.group_id} {config.node_id}")
        self._postponed_until = now
        self.lease = LeaseGiven(config.lease, now)
        self.heard_at = now
        """When the master was heard last, by whatever message. At the start: now, as if it had just been heard."""
        self.master: int | None = None
        """The master heard last, until it is given up."""
        if membership.voters == {config.node_id} and membership.next is None:
            # Nobody else can be master: there is nobody to wait for.
            self.lease.forget(now)
            self.heard_at = now - config.lease - config.heartbeat_interval

    # -- bound to a master --------------------------------------------------------------------------------------------

    def heard(self, master: int, now: float) -> None:
        """The master at the highest ballot sent something."""
        self.master = master
        self.heard_at = now

    def wait_for(self, node: int, now: float) -> float:
        """For how many seconds this node will not promise to ``node`` because it is bound to another, 0 if it is free.

        A heartbeat binds in any case; whatever else the master sent binds as long as its process is not known to be
        gone.
        """
        wait = self.lease.wait_for(node, now)
        if self.master is not None and self.master != node and not self._master_is_gone:
            wait = max(wait, self.heard_at + self._config.lease - now)
        return wait

    def wait_after_release(self, node: int, released: int, now: float) -> float:
        """The same, when the master at ballot ``released`` has handed over to ``node``: what binds to any other ballot,
        or after a restart to nobody knows which, binds still.
        """
        return self.lease.wait_for(node, now, released)

    @property
    def _master_is_gone(self) -> bool:
        return self.master in self._peers.unreachable

    # -- standing -----------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When to stand, if nothing is heard until then."""
        if not self._membership.may_lead:
            return float("inf")
        if self._master_is_gone:
            quiet = self.lease.until
        else:
            quiet = self.heard_at + self._config.lease + self._config.heartbeat_interval
        absent = self._peers.unreachable if self.master is None else self._peers.unreachable | {self.master}
        stagger = self._config.election_stagger * self._membership.rank(absent)
        return max(quiet, self.lease.until, self._postponed_until) + stagger

    def postpone(self, until: float) -> None:
        """Another has a chance until then."""
        self._postponed_until = max(self._postponed_until, until)

    def back_off(self, now: float) -> None:
        """This node stood and failed: pause, a little at random lest two fail for ever in step."""
        self.postpone(now + self._config.election_timeout * (0.5 + self._random.random()))

    def start_round(self, ballot: int, chosen: int, now: float, out: Effects) -> PreVoteRound:
        """Ask all other voters whether they would promise ``ballot``."""
        self.master = None
        timeout = self._config.election_timeout * (1 + 0.5 * self._random.random())
        for node in sorted(self._membership.voters):
            if node != self._config.node_id:
                out.send.append(PreVote(self._config.node_id, node, ballot, chosen))
        return PreVoteRound(self._membership, ballot, now, now + timeout, now + self._config.ask_again)
