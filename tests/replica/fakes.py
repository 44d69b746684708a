"""What the replica's tests share: a journal by hand, a core that follows a script, a state machine of strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from phxqueue.journal.errors import JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import DeleteBlob, GroupState, NodeIdentity, PutBlob, PutEntry, StoredEntry, Write
from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry, EntryKind, make_entry
from phxqueue.paxos.errors import NotMaster, WindowFull
from phxqueue.paxos.messages import Message
from phxqueue.replica.errors import Halted
from phxqueue.replica.interfaces import Checkpoint, IStateMachine
from phxqueue.replica.portions import Portions, PutInPlace


def entry(payload: bytes, ballot: int = 1, kind: int = EntryKind.VALUE) -> Entry:
    return make_entry(ballot, kind, payload)


def stored(payload: bytes, ballot: int = 1, kind: int = EntryKind.VALUE) -> StoredEntry:
    made = entry(payload, ballot, kind)
    return StoredEntry(made.ballot, made.checksum, int(made.kind), made.payload)


def outcome(result: Deferred[Any]) -> Any:
    """What a Deferred has fired with by now: a value, an exception, or None."""
    seen: list[Any] = []

    def keep(value: Any) -> Any:
        seen.append(value.value if isinstance(value, Failure) else value)
        return seen[0]

    result.addBoth(keep)
    return seen[0] if seen else None


@implementer(IJournal)
class HandJournal:
    """Becomes durable when the test says so; reads from `entries`, or fails as told by `unreadable`."""

    def __init__(self) -> None:
        self.identity = NodeIdentity("test", 1, 0, 77)
        self.overloaded = False
        self.refusing = False
        self.accepting = True
        self.submitted: list[tuple[list[Write], Callable[[], None] | None]] = []
        self.entries: dict[int, StoredEntry] = {}
        self.unreadable: dict[int, Exception] = {}
        self.blobs: dict[tuple[str, bytes], bytes] = {}
        self.state = GroupState(0, -1, 0, [])
        self.reads: list[tuple[int, int]] = []
        self.waiting: list[Deferred[None]] | None = None  # a list: reads wait to be let go
        self.trimmed: list[tuple[int, int]] = []
        self.trim_fails: Exception | None = None
        self.blob_fails: Exception | None = None
        verifyObject(IJournal, self)

    def commit(self, submissions: int = 1_000_000) -> None:
        """Confirm the oldest submissions."""
        batch, self.submitted = self.submitted[:submissions], self.submitted[submissions:]
        for _, done in batch:
            if done is not None:
                done()

    def on_accepting_changed(self, callback: Callable[[bool], None]) -> None:
        raise NotImplementedError

    def load_group(self, group: int) -> GroupState:
        return self.state

    def load_blobs(self, table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(
            sorted((key, value) for (at, key), value in self.blobs.items() if at == table and key.startswith(prefix))
        )

    def submit(self, writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        if self.refusing:
            raise JournalOverloaded("too much waits")
        self.submitted.append((list(writes), done))

    def read_entries(
        self, group: int, first: int, last: int, max_bytes: int
    ) -> Deferred[list[tuple[int, StoredEntry]]]:
        self.reads.append((first, last))
        found: list[tuple[int, StoredEntry]] = []
        size = 0
        for instance in range(first, last + 1):
            if instance in self.unreadable:
                if not found:
                    return self._answer(fail(self.unreadable[instance]))
                break
            size += len(self.entries[instance].payload)
            if found and size > max_bytes:
                break
            found.append((instance, self.entries[instance]))
        return self._answer(succeed(found))

    def read_instances(self, group: int, instances: Sequence[int]) -> Deferred[list[StoredEntry]]:
        for instance in instances:
            self.reads.append((instance, instance))
            if instance in self.unreadable:
                return self._answer(fail(self.unreadable[instance]))
        return self._answer(succeed([self.entries[instance] for instance in instances]))

    def read_blob(self, table: str, key: bytes) -> Deferred[bytes | None]:
        if self.blob_fails is not None:
            return fail(self.blob_fails)
        return self._answer(succeed(self.blobs.get((table, key))))

    def _answer(self, result: Deferred[Any]) -> Deferred[Any]:
        if self.waiting is None:
            return result
        gate: Deferred[None] = Deferred()
        self.waiting.append(gate)
        return gate.addCallback(lambda _: result)

    def delete_entries(self, group: int, below: int) -> Deferred[None]:
        if self.trim_fails is not None:
            return fail(self.trim_fails)
        self.trimmed.append((group, below))
        return succeed(None)

    def close(self) -> Deferred[None]:
        return succeed(None)


class KeptJournal(HandJournal):
    """What becomes durable is kept: blobs and entries. `restarted` is the journal of the next process."""

    def commit(self, submissions: int = 1_000_000) -> None:
        for writes, _ in self.submitted[:submissions]:
            for write in writes:
                if isinstance(write, PutBlob):
                    self.blobs[write.table, write.key] = write.value
                elif isinstance(write, DeleteBlob):
                    self.blobs.pop((write.table, write.key), None)
                elif isinstance(write, PutEntry):
                    self.entries[write.instance] = StoredEntry(write.ballot, write.checksum, write.kind, write.payload)
        super().commit(submissions)

    def restarted(self) -> KeptJournal:
        after = KeptJournal()
        after.blobs, after.entries = self.blobs, self.entries
        return after


class ScriptedCore:
    """Answers every call with the Effects the test has prepared; remembers the calls."""

    def __init__(self, node_id: int = 0, chosen: int = -1) -> None:
        self.config = GroupConfig(group_id=3, node_id=node_id, members=(Member(0), Member(1), Member(2)))
        self.calls: list[tuple[Any, ...]] = []
        self.script: list[Effects] = []
        self.chosen = chosen
        self.is_master = True
        self.leased = True
        self.window_free = 10
        self.in_flight = 0
        self.next_instance = chosen + 1
        self.master_id: int | None = node_id
        self.raises: Exception | None = None
        self.deadline = float("inf")

    def _answer(self, *call: Any) -> Effects:
        self.calls.append(call)
        if self.raises is not None:
            raise self.raises
        effects = self.script.pop(0) if self.script else Effects()
        for instance, _ in effects.chosen:
            self.chosen = instance
        return effects

    def step(self, message: Message, now: float) -> Effects:
        return self._answer("step", message)

    def propose(self, payload: bytes, now: float) -> tuple[int, Effects]:
        if not self.is_master:
            raise NotMaster(3, self.master_id)
        if not self.window_free:
            raise WindowFull(3, 1, 1)
        instance, self.next_instance = self.next_instance, self.next_instance + 1
        return instance, self._answer("propose", payload)

    def tick(self, now: float) -> Effects:
        return self._answer("tick")

    def persisted(self, token: int, now: float) -> Effects:
        return self._answer("persisted", token)

    def repair(self, instance: int, now: float, checksum: int | None = None) -> Effects:
        return self._answer("repair", instance)

    def peer_unreachable(self, node_id: int, now: float) -> Effects:
        return self._answer("unreachable", node_id)

    def stand_aside(self, reason: str, now: float) -> Effects:
        return self._answer("stand_aside", reason)

    def busy(self, is_so: bool) -> None:
        self.is_busy = is_so

    def next_deadline(self) -> float:
        return self.deadline

    def lease_valid(self, now: float) -> bool:
        return self.leased


@implementer(IStateMachine)
class Words:
    """Keeps the payloads applied. `halt` is a command of the future, `boom` a defect; the result is upper case.

    `restorations`: how many were begun in portions, and in how many `steps` the next, or this one, is done.
    """

    def __init__(self, log: list[Any] | None = None) -> None:
        self.applied = -1
        self.words: list[tuple[int, int, bytes]] = []
        self.log = [] if log is None else log
        self.restorations, self.steps = 0, 3
        verifyObject(IStateMachine, self)

    def apply(self, instance: int, kind: int, payload: bytes) -> Any:
        if payload == b"halt":
            raise Halted("version 9 is newer than this program")
        if payload == b"boom":
            raise ZeroDivisionError("a defect")
        self.applied = instance
        self.words.append((instance, kind, payload))
        self.log.append(("apply", instance))
        return payload.upper()

    def checkpoint(self) -> Checkpoint:
        text = b"\n".join(payload for _, _, payload in self.words)
        return Checkpoint(applied=self.applied, state=b"%d\n" % self.applied + text, segments=[])

    def restore(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
        applied, *words = state.split(b"\n")
        self.applied = int(applied)
        self.words = [(-1, 0, word) for word in words]

    def restoring(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> Portions[PutInPlace]:
        fresh = type(self)()
        self.restorations += 1
        while self.steps > 0:
            self.steps -= 1
            yield
        fresh.restore(state, segments)
        return partial(self._become, fresh)

    def _become(self, fresh: Words) -> Portions[None]:
        self.applied, self.words = fresh.applied, fresh.words
        self.log.append("restored")
        yield
        self.log.append("let go")

    def state_hash(self) -> int:
        return hash(tuple(self.words))


class Settings:
    """Clock, sent messages and failures, in the order in which they came."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log: list[Any] = []
        self.failures: list[str] = []

    def send(self, receiver: int, message: Message) -> None:
        self.log.append(("send", receiver, type(message).__name__))
