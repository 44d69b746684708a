"""Phase 1: gathering promises for every instance above the chosen prefix, once per mastership."""

from __future__ import annotations

from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry, EntryKind, make_entry, reballoted
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.membership import Membership
from phxqueue.paxos.messages import Prepare, Promise


class Phase1:
    """One attempt of a candidate at one ballot.

    Promises come in pages. A page says what its sender accepted in a range of instances, except for those it knows to
    be chosen and has handed out: these it only counts (``chosen``), the candidate has to learn them. So nothing below
    the highest such mark is proposed, and above it every promise of the majority is complete.
    """

    __slots__ = ("_best", "_complete", "_membership", "_next", "ballot", "chosen", "first")

    def __init__(self, membership: Membership, ballot: int, first: int) -> None:
        self._membership = membership
        self.ballot = ballot
        self.first = first
        """The lowest instance asked for: everything below is known to be chosen."""
        self.chosen = first - 1
        """The highest chosen prefix among the promises."""
        self._next = dict.fromkeys(membership.voters, first)  # where the next page of each voter begins
        self._complete: set[int] = set()
        self._best: dict[int, Entry] = {}  # the entry of the highest ballot at each instance

    def ask(self, out: Effects) -> None:
        """Ask all other voters that have not promised completely yet."""
        for node in self._membership.peers:
            if node in self._next and node not in self._complete:
                self._ask_one(node, out)

    def _ask_one(self, node: int, out: Effects) -> None:
        out.send.append(Prepare(self._membership.node_id, node, self.ballot, self._next[node]))

    def own_promise(self, chosen: int, entries: dict[int, Entry]) -> bool:
        """This node's promise is durable. Returns whether a majority is complete."""
        for instance, entry in entries.items():
            self._consider(instance, entry)
        return self._completed(self._membership.node_id, chosen)

    def promised(self, message: Promise, out: Effects) -> tuple[bool, int | None]:
        """A page of a promise. Returns whether a majority is complete, and the instance of an entry that is corrupt.

        Pages that do not continue where the last one of that node ended are repeated or late, and dropped.
        """
        node = message.sender
        if node in self._complete or message.first != self._next[node]:
            return False, None
        for instance, entry in message.entries:
            if not entry.valid():
                return False, instance
        for instance, entry in message.entries:
            self._consider(instance, entry)
        if message.final:
            return self._completed(node, message.chosen), None
        self.chosen = max(self.chosen, message.chosen)
        self._next[node] = message.last + 1
        self._ask_one(node, out)
        return False, None

    def _consider(self, instance: int, entry: Entry) -> None:
        best = self._best.get(instance)
        if best is None or entry.ballot > best.ballot:
            self._best[instance] = entry
        elif entry.ballot == best.ballot and not entry.same_value(best):
            raise InvariantViolation(f"two values at instance {instance} under ballot {entry.ballot}")

    def _completed(self, node: int, chosen: int) -> bool:
        self.chosen = max(self.chosen, chosen)
        self._complete.add(node)
        return len(self._complete) >= self._membership.quorum

    def to_propose(self, known: int) -> list[tuple[int, Entry]]:
        """What phase 2 must begin with: from the first instance that may not be chosen to the last one where anybody
        accepted anything, the value of the highest ballot, or a no-op where nobody of the majority accepted anything.

        ``known`` is the node's own chosen prefix by now. The list is short, because no acceptor accepts further than
        ``accept_ahead`` above its own chosen prefix, which it tells with its promise.
        """
        self.chosen = max(self.chosen, known)
        last = max(self._best, default=self.chosen)
        proposals = []
        for instance in range(self.chosen + 1, last + 1):
            entry = self._best.get(instance)
            if entry is None:
                proposals.append((instance, make_entry(self.ballot, EntryKind.NOOP, b"")))
            else:
                proposals.append((instance, reballoted(entry, self.ballot)))
        return proposals
