"""Phase 1: gathering promises for every instance above the chosen prefix, once per mastership.

A mastership that lives through a change of membership goes on gathering at the same ballot: before it proposes anything
that the new membership governs it needs promises of a majority of those.
"""

from __future__ import annotations

from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry, EntryKind, make_entry, reballoted
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.membership import Membership, View
from phxqueue.paxos.messages import Prepare, Promise


class Phase1:
    """What one node has been promised at one ballot.

    Promises come in pages. A page says what its sender accepted in a range of instances, except for those it knows to
    be chosen and has handed out: these it only counts (``chosen``), the candidate has to learn them. So nothing below
    the highest such mark is proposed, and above it every promise of the majority is complete.
    """

    __slots__ = ("_best", "_complete", "_membership", "_next", "_released", "ballot", "chosen", "first")

    def __init__(self, membership: Membership, ballot: int, first: int, released: int = 0) -> None:
        self._membership = membership
        self._released = released
        self.ballot = ballot
        self.first = first
        """The lowest instance asked for: everything below is known to be chosen."""
        self.chosen = first - 1
        """The highest chosen prefix among the promises."""
        self._next: dict[int, int] = {}  # where the next page of each node begins
        self._complete: set[int] = set()
        self._best: dict[int, Entry] = {}  # the entry of the highest ballot at each instance

    def covers(self, view: View) -> bool:
        """Whether the promises suffice for the instances that ``view`` governs."""
        return view.majority(self._complete)

    def ask(self, view: View, out: Effects) -> None:
        """Ask all other voters of ``view`` that have not promised completely yet."""
        for node in sorted(view.voters - self._complete):
            if node != self._membership.node_id:
                self._ask_one(node, out)

    def _ask_one(self, node: int, out: Effects) -> None:
        first = self._next.setdefault(node, self.first)
        out.send.append(Prepare(self._membership.node_id, node, self.ballot, first, self._released))

    def own_promise(self, chosen: int, entries: dict[int, Entry]) -> None:
        """This node's promise is durable."""
        for instance, entry in entries.items():
            self._consider(instance, entry)
        self._completed(self._membership.node_id, chosen)

    def promised(self, message: Promise, out: Effects) -> int | None:
        """A page of a promise. Returns the instance of an entry that is corrupt, if one is.

        Pages that do not continue where the last one of that node ended are repeated or late, and dropped.
        """
        node = message.sender
        if node in self._complete or message.first != self._next.get(node):
            return None
        for instance, entry in message.entries:
            if not entry.valid():
                return instance
        for instance, entry in message.entries:
            self._consider(instance, entry)
        if message.final:
            self._completed(node, message.chosen)
        else:
            self.chosen = max(self.chosen, message.chosen)
            self._next[node] = message.last + 1
            self._ask_one(node, out)
        return None

    def proposed(self) -> None:
        """Everything reported so far is being proposed."""
        self._best.clear()

    def forget(self, node: int) -> None:
        """``node`` runs on another directory: what it promised it may not remember."""
        self._complete.discard(node)
        self._next.pop(node, None)

    def _consider(self, instance: int, entry: Entry) -> None:
        best = self._best.get(instance)
        if best is None or entry.ballot > best.ballot:
            self._best[instance] = entry
        elif entry.ballot == best.ballot and not entry.same_value(best):
            raise InvariantViolation(f"two values at instance {instance} under ballot {entry.ballot}")

    def _completed(self, node: int, chosen: int) -> None:
        self.chosen = max(self.chosen, chosen)
        self._complete.add(node)

    def to_propose(self, known: int) -> list[tuple[int, Entry]]:
        """What phase 2 must begin with: from the first instance that may not be chosen to the last one where anybody
        accepted anything, the value of the highest ballot, or a no-op where nobody of the majority accepted anything.

        ``known`` is the node's own chosen prefix by now. The list is short, because no acceptor accepts further than
        ``accept_ahead`` above its own chosen prefix, which it tells with its promise.
        """
        self.chosen = max(self.chosen, known)
        return self.above(self.chosen + 1)

    def above(self, first: int) -> list[tuple[int, Entry]]:
        """The same from ``first`` on."""
        last = max(self._best, default=-1)
        proposals = []
        for instance in range(first, last + 1):
            entry = self._best.get(instance)
            if entry is None:
                proposals.append((instance, make_entry(self.ballot, EntryKind.NOOP, b"")))
            else:
                proposals.append((instance, reballoted(entry, self.ballot)))
        return proposals
