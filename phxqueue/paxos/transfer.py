"""Transfer of mastership: the master stops, and names the one that is to stand at once.

    master                                                      target
    ------                                                      ------
    proposes nothing new; waits until all it proposed is
      chosen and handed out (reads are served meanwhile)
    gives up its lease, at this ballot for ever;
      is a follower from now on
                    --- HandOver(ballot, chosen) ------------>  knows everything up to chosen? (else learns it)
                                                                makes its own promise durable, at a higher ballot
                    <-- Prepare(released = old ballot) -------  ... to all (or Reject, if it is about to stop)
    all promise, although they answered heartbeats of the old
      ballot a moment ago: nobody counts on those any more

Nothing here is trusted for agreement, which is phase 1's as ever; only the lease needs an argument. What a follower has
bound itself to is told apart by ballot. The old master counts on nothing that was given to the ballot it released: it
has given up before the HandOver leaves. If the target does not come, the old one stands again, at a higher ballot: then
a majority is bound at that ballot, and a HandOver that was under way for long moves nobody.

The cost of a failure is a pause of at most ``transfer_timeout`` and an election without a contender.
"""

from __future__ import annotations

from phxqueue.paxos.ballot import NO_BALLOT, node_of
from phxqueue.paxos.config import GroupConfig, MemberKind
from phxqueue.paxos.effects import Effects, MastershipTransferred, TransferFailed
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import HandOver
from phxqueue.paxos.peers import Peers
from phxqueue.paxos.roles import Role, Roles


class _Outgoing:
    """A mastership that is being handed over."""

    __slots__ = ("released", "to", "until")

    def __init__(self, to: int, until: float) -> None:
        self.to = to
        self.until = until
        self.released = NO_BALLOT  # set when the mastership has been given up


class _Incoming:
    """A mastership that this node is to take over."""

    __slots__ = ("ballot", "chosen", "until")

    def __init__(self, ballot: int, chosen: int, until: float) -> None:
        self.ballot = ballot
        self.chosen = chosen
        self.until = until


class Transfers:
    """See the module's docstring."""

    __slots__ = ("_config", "_incoming", "_learner", "_membership", "_outgoing", "_peers", "_roles", "busy")

    def __init__(
        self, config: GroupConfig, membership: Membership, peers: Peers, learner: Learner, roles: Roles
    ) -> None:
        self._config = config
        self._membership = membership
        self._peers = peers
        self._learner = learner
        self._roles = roles
        self._outgoing: _Outgoing | None = None
        self._incoming: _Incoming | None = None
        self.busy = False
        """Whether ``push`` has to be called."""

    def problem(self, to: int, now: float) -> str | None:
        """Why ``to`` could not take over now; None if it could."""
        view, peer = self._membership.current, self._peers.by_node.get(to)
        if view.kinds.get(to) is not MemberKind.VOTER or to == self._config.node_id or peer is None:
            return f"node {to} is no other voter of this group"
        if to not in view.electors:
            return f"node {to} does not run on the data directory that is a member: replace it first"
        after = self._membership.next
        if after is not None and after.kinds.get(to) is not MemberKind.VOTER:
            return f"node {to} is about to lose its vote"
        if peer.unreachable or peer.heard_at is None or now - peer.heard_at > self._config.lease:
            return f"node {to} has not been heard for a while: start it, or wait"
        if peer.reluctant:
            return f"node {to} could not serve now: it is stopping, has just started, or its disk is nearly full"
        if peer.incomplete or not peer.has(self._learner.known - self._config.window):
            told = "nothing" if peer.chosen is None else f"up to instance {peer.chosen}"
            return f"node {to} has {told} of {self._learner.known}: wait until it has caught up"
        return None

    def begin(self, to: int, now: float) -> str | None:
        """Begin to hand over. Returns why not, or None."""
        proposer = self._roles.proposer
        if self._outgoing is not None:
            return f"it is being handed over to node {self._outgoing.to}"
        problem = self.problem(to, now)
        if proposer is None or problem is not None:
            return problem or "this node is not the master"
        proposer.handing_over = True
        self._outgoing = _Outgoing(to, now + self._config.transfer_timeout)
        self.busy = True
        return None

    def told(self, message: HandOver, now: float) -> None:
        """The master at ``message.ballot``, which this node follows, has named it."""
        self._incoming = _Incoming(message.ballot, message.chosen, now + self._config.lease)
        self.busy = True

    def refused(self, node: int, ballot: int, now: float) -> None:
        """``node`` does not take what was handed over to it at ``ballot``."""
        if self._outgoing is not None and (self._outgoing.to, self._outgoing.released) == (node, ballot):
            self._outgoing.until = now

    def lost_peer(self, node: int, now: float) -> None:
        """The process of ``node`` is gone."""
        if self._outgoing is not None and self._outgoing.to == node:
            self._outgoing.until = now

    @property
    def deadline(self) -> float:
        """When ``tick`` has something to do."""
        return float("inf") if self._outgoing is None else self._outgoing.until

    def tick(self, now: float, out: Effects) -> None:
        """Time has passed."""
        outgoing, roles = self._outgoing, self._roles
        if outgoing is None or now < outgoing.until:
            return
        self._failed(outgoing.to, "it did not take over in time", out)
        if roles.proposer is not None and self._membership.may_lead:
            roles.proposer.handing_over = False
        elif roles.proposer is not None:
            roles.give_up("no voter any more", now, out)
        elif roles.role is Role.FOLLOWER and roles.may_stand:
            roles.start_round(now, out)

    def push(self, now: float, out: Effects) -> None:
        """Go on, if there is something to go on with."""
        if self._outgoing is not None:
            self._push_out(self._outgoing, now, out)
        if self._incoming is not None:
            self._push_in(self._incoming, now, out)
        self.busy = self._outgoing is not None or self._incoming is not None

    def _push_out(self, outgoing: _Outgoing, now: float, out: Effects) -> None:
        roles = self._roles
        if outgoing.released:
            if roles.master_ballot > outgoing.released:
                master = node_of(roles.master_ballot)
                if master == outgoing.to:
                    self._outgoing = None
                    out.events.append(MastershipTransferred(to=master))
                else:
                    self._failed(outgoing.to, f"node {master} is master", out)
        elif roles.proposer is None:
            self._failed(outgoing.to, "this node lost the mastership meanwhile", out)
        elif roles.proposer.idle:
            self._release(outgoing, roles.proposer.ballot, now, out)

    def _release(self, outgoing: _Outgoing, ballot: int, now: float, out: Effects) -> None:
        outgoing.released = ballot
        # In this order: nothing is served from the lease once this call is over.
        self._roles.give_up(f"handed over to node {outgoing.to}", now, out)
        self._roles.expect(outgoing.to)
        out.send.append(HandOver(self._config.node_id, outgoing.to, ballot, self._learner.delivered))

    def _failed(self, to: int, reason: str, out: Effects) -> None:
        self._outgoing = None
        out.events.append(TransferFailed(to=to, reason=reason))

    def retire(self, now: float, out: Effects) -> None:
        """This master may not lead under the membership in force: give the mastership to the best there is."""
        if self._roles.proposer is not None:
            self._roles.proposer.handing_over = True
        for to in self._membership.preference:
            if self.problem(to, now) is None:
                self._outgoing = self._outgoing or _Outgoing(to, now + self._config.transfer_timeout)
                self.busy = True
                return
        self._roles.give_up("no voter any more", now, out)

    def _push_in(self, incoming: _Incoming, now: float, out: Effects) -> None:
        roles = self._roles
        if now > incoming.until or roles.master_ballot != incoming.ballot or roles.role is not Role.FOLLOWER:
            self._incoming = None
        elif (
            self._learner.known >= incoming.chosen
            and roles.may_stand
            and roles.bound_after_release(self._config.node_id, incoming.ballot, now) == 0
        ):
            self._incoming = None
            roles.campaign(now, out, incoming.ballot)
