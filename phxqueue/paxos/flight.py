"""What a master keeps of each instance in flight, and of each peer that it sends to."""

from __future__ import annotations

from phxqueue.paxos.entry import Entry
from phxqueue.paxos.membership import View
from phxqueue.paxos.peers import PeerStatus


class Proposal:
    """One instance waiting for its majority."""

    __slots__ = ("entry", "sent_at", "view", "voted", "votes")

    def __init__(self, entry: Entry, view: View, now: float) -> None:
        self.entry = entry
        self.view = view  # whose votes count
        self.sent_at = now
        self.voted = 0  # a bit per voter
        self.votes = 0


class Link:
    """What the master keeps about sending to one peer."""

    __slots__ = ("bit", "live", "node", "peer", "resend_at", "resend_delay", "votes")

    def __init__(self, peer: PeerStatus, bit: int, live: bool, resend_delay: float) -> None:
        self.peer = peer
        self.node = peer.node_id
        self.bit = bit
        self.votes = False  # what it is sent counts; the others catch up from the log
        self.live = live  # heard lately; the others get heartbeats only
        self.resend_at = 0.0
        self.resend_delay = resend_delay
