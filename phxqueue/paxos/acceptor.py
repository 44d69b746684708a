"""The memory of one node: its promise, its accepted entries, and which of them are on disk.

This is the one place that knows what is durable. Records are collected while a call runs and sealed under one token
at its end; ``confirm`` tells what became durable. Entries stay here until they are chosen, durable and handed out to
be applied; what is below that is the business of the log alone.
"""

from __future__ import annotations

from collections import deque

from phxqueue.paxos.config import GroupConfig, Restored
from phxqueue.paxos.effects import AcceptRecord, CorruptEntry, Effects, MembershipRecord, PromiseRecord
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.errors import InvariantViolation
from phxqueue.paxos.messages import Accept, Entries


class Acceptor:
    """See the module's docstring."""

    __slots__ = (
        "_config",
        "_fresh",
        "_token",
        "_undurable",
        "_unsealed",
        "_writes",
        "damaged",
        "durable_promise",
        "entries",
        "held_bytes",
        "highest",
        "promised",
    )

    def __init__(self, config: GroupConfig, restored: Restored) -> None:
        self._config = config
        self.promised = restored.promised
        """Nothing below this ballot is answered any more. Never goes down."""
        self.durable_promise = restored.promised
        """The highest promise that is on disk."""
        self.entries: dict[int, Entry] = {}
        """Accepted entries above the delivered prefix, durable or on their way to the disk."""
        self.damaged: set[int] = set()
        """Instances at which an entry was accepted, but is unreadable: until they are known to be chosen (or accepted
        anew),
        this node cannot tell a candidate what it accepted there, so it must not promise anything."""
        self.held_bytes = 0
        self.highest = restored.chosen
        """The highest instance held, or the delivered prefix when none is."""
        for instance, entry in sorted(restored.entries.items()):
            if instance <= restored.chosen:
                raise InvariantViolation(f"entry {instance} is restored as not chosen, chosen is {restored.chosen}")
            if entry.valid():
                self._hold(instance, entry)
            else:
                self.damaged.add(instance)
        self._token = 0
        self._fresh: list[int] = []
        self._unsealed = False
        self._undurable: dict[int, int] = {}  # instance -> token of the newest write of it
        self._writes: deque[tuple[int, list[int], int]] = deque()  # (token, instances written under it, promise then)

    # -- writing ------------------------------------------------------------------------------------------------------

    def promise(self, ballot: int, out: Effects) -> None:
        """Raise the promise to ``ballot`` (or write the same one again)."""
        if ballot < self.promised:
            raise InvariantViolation(f"promise would go down from {self.promised} to {ballot}")
        self.promised = ballot
        out.persist.append(PromiseRecord(ballot))
        self._unsealed = True

    def store(self, instance: int, entry: Entry, out: Effects) -> None:
        """Hold ``entry`` at ``instance``: accepted, or learned as chosen."""
        self._hold(instance, entry)
        if self.damaged:
            self.damaged.discard(instance)
        out.persist.append(AcceptRecord(instance, entry))
        self._fresh.append(instance)
        self._undurable[instance] = self._token + 1
        self._unsealed = True

    def rewrite(self, instance: int, entry: Entry, out: Effects) -> None:
        """Write a repaired entry back into the log below the delivered prefix; nothing here waits for it."""
        out.persist.append(AcceptRecord(instance, entry))
        self._unsealed = True

    def note(self, record: MembershipRecord, out: Effects) -> None:
        """Write the membership."""
        out.persist.append(record)
        self._unsealed = True

    def seal(self, out: Effects) -> None:
        """Everything written since the last call gets one token."""
        if self._unsealed:
            self._token += 1
            out.token = self._token
            self._writes.append((self._token, self._fresh, self.promised))
            self._fresh = []
            self._unsealed = False

    def confirm(self, token: int) -> list[int]:
        """All writes up to ``token`` are durable. Returns the instances whose newest entry became so."""
        if token > self._token:
            raise InvariantViolation(f"token {token} is confirmed, but the last one given out is {self._token}")
        durable = []
        while self._writes and self._writes[0][0] <= token:
            written, instances, self.durable_promise = self._writes.popleft()
            for instance in instances:
                if self._undurable.get(instance) == written:
                    del self._undurable[instance]
                    durable.append(instance)
        return durable

    def is_durable(self, instance: int) -> bool:
        """Whether the entry held at ``instance`` is on disk."""
        return instance in self.entries and instance not in self._undurable

    def release(self, instance: int) -> Entry:
        """``instance`` is handed out to be applied: from now on the log alone has it."""
        entry = self.entries.pop(instance)
        self.held_bytes -= len(entry.payload)
        return entry

    def forget(self, chosen: int) -> None:
        """A checkpoint has taken the place of every instance up to ``chosen``."""
        for instance in [instance for instance in self.entries if instance <= chosen]:
            self.release(instance)
            self._undurable.pop(instance, None)
        self.damaged = {instance for instance in self.damaged if instance > chosen}
        self.highest = max(self.highest, chosen)

    def _hold(self, instance: int, entry: Entry) -> None:
        former = self.entries.get(instance)
        if former is not None:
            self.held_bytes -= len(former.payload)
        self.entries[instance] = entry
        self.held_bytes += len(entry.payload)
        if instance > self.highest:
            self.highest = instance

    # -- answering ----------------------------------------------------------------------------------------------------

    def accept(self, message: Accept, known: int, delivered: int, out: Effects) -> tuple[list[int], list[int]]:
        """Phase 2b for an Accept whose ballot is not below the promise.

        ``known`` and ``delivered`` are the node's chosen prefixes (all, and durable). Returns the instances newly
        accepted (to be answered when durable), and those accepted before at this very ballot and durable (to be
        answered again now).
        """
        ballot = message.ballot
        if ballot > self.promised:
            self.promise(ballot, out)
        fresh: list[int] = []
        again: list[int] = []
        for instance, entry in message.entries:
            if instance <= known:
                continue  # Chosen, but perhaps by a later ballot than the sender's: let it learn, do not vote.
            if entry.ballot != ballot or not entry.valid():
                out.events.append(CorruptEntry(sender=message.sender, instance=instance))
                continue
            held = self.entries.get(instance)
            if held is None:
                if self._too_far(instance, entry, delivered):
                    continue
            elif held.ballot == ballot:
                if not held.same_value(entry):
                    raise InvariantViolation(f"two values at instance {instance} under ballot {ballot}")
                if instance not in self._undurable:
                    again.append(instance)
                continue
            elif held.ballot > ballot:
                continue  # Learned, before a restart forgot that it is chosen: a later master exists.
            self.store(instance, entry, out)
            fresh.append(instance)
        return fresh, again

    def _too_far(self, instance: int, entry: Entry, delivered: int) -> bool:
        """Whether accepting would let memory grow without bound; a node so far behind must catch up first."""
        if instance > delivered + self._config.accept_ahead:
            return True
        full = self.held_bytes + len(entry.payload) > self._config.accept_ahead_bytes
        # A gap below what is held already is always filled, as is the next one: that is what frees memory again.
        return full and instance > self.highest and instance != delivered + 1

    def page(self, first: int, delivered: int) -> tuple[int, bool, Entries]:
        """What a Promise says of the instances from ``first`` on: (last instance covered, final, entries)."""
        start = max(first, delivered + 1)
        instances = sorted(instance for instance in self.entries if instance >= start)
        entries: list[tuple[int, Entry]] = []
        size = 0
        for instance in instances:
            entry = self.entries[instance]
            if entries and size + len(entry.payload) > self._config.max_message_bytes:
                return instance - 1, False, tuple(entries)
            entries.append((instance, entry))
            size += len(entry.payload)
        return max(first - 1, delivered, instances[-1] if instances else -1), True, tuple(entries)
