"""Fetching again, from a peer, what the own disk has spoilt."""

from __future__ import annotations

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import GroupConfig
from phxqueue.paxos.effects import CorruptEntry, Effects, EntryRepaired
from phxqueue.paxos.messages import LearnReply, LearnRequest
from phxqueue.paxos.peers import Peers


class Repairs:
    """Chosen entries below the delivered prefix that the log cannot read any more."""

    __slots__ = ("_acceptor", "_config", "_peers", "_wanted")

    def __init__(self, config: GroupConfig, acceptor: Acceptor, peers: Peers) -> None:
        self._config = config
        self._acceptor = acceptor
        self._peers = peers
        # instance -> (ask again at, peer asked last, checksum of the entry if it is known)
        self._wanted: dict[int, tuple[float, int, int | None]] = {}

    @property
    def deadline(self) -> float:
        """When to ask again for something."""
        return min((at for at, _, _ in self._wanted.values()), default=float("inf"))

    def want(self, instance: int, checksum: int | None, now: float, out: Effects) -> None:
        """Ask for ``instance`` until somebody has it. Beyond ``max_repairs`` at one time: not taken, to be asked for
        again.
        """
        if instance not in self._wanted and len(self._wanted) < self._config.max_repairs:
            self._ask(instance, self._config.node_id, checksum, now, out)

    def tick(self, now: float, out: Effects) -> None:
        """Turn to the next peer for what did not come."""
        for instance, (at, asked, checksum) in list(self._wanted.items()):
            if now >= at:
                self._ask(instance, asked, checksum, now, out)

    def _ask(self, instance: int, after: int, checksum: int | None, now: float, out: Effects) -> None:
        known = {node: -1 if peer.chosen is None else peer.chosen for node, peer in self._peers.by_node.items()}
        nodes = [node for node in sorted(known) if known[node] >= instance or checksum is not None]
        peer = next((node for node in nodes if node > after), nodes[0] if nodes else None)
        self._wanted[instance] = (now + self._config.learn_timeout, after if peer is None else peer, checksum)
        if peer is not None:
            out.send.append(LearnRequest(self._config.node_id, peer, instance, 1, checksum is not None))

    def forget(self, below: int) -> None:
        """The log does not begin below this instance any more: what was wanted there is of no use."""
        for instance in [instance for instance in self._wanted if instance < below]:
            del self._wanted[instance]

    def learn(self, message: LearnReply, out: Effects) -> bool:
        """Take what was wanted from ``message``. Returns whether it was meant for here."""
        if message.first not in self._wanted or not message.entries:
            return False
        instance, entry = message.entries[0]
        if instance != message.first:
            return False
        checksum = self._wanted[instance][2]
        if message.chosen < instance and entry.checksum != checksum:
            return True  # accepted there, but another value: it may have lost
        if not entry.valid() or checksum not in (None, entry.checksum):
            out.events.append(CorruptEntry(sender=message.sender, instance=instance))
            return True
        del self._wanted[instance]
        self._acceptor.rewrite(instance, entry, out)
        out.events.append(EntryRepaired(instance=instance, entry=entry))
        return True
