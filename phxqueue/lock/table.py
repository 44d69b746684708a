"""The replicated state of one Paxos group of a lock group: what every replica computes from the same entries.

Pure: entries in, outcomes out. Applying depends on the entry and the state before it alone. There is no time in here:
that a lease has run out is something the master finds (:mod:`phxqueue.lock.leases`) and proposes like anything else,
naming the stamp of the lease it means, so that a lock acquired anew or renewed meanwhile stays untouched.

Every command names the mastership ("term") it was proposed in, and is void once the next one has begun. Consensus alone
does not give that: an entry of a former master that reached one node only may be found, and chosen, masterships later.
Here it would remove a lock whose lease a master in between has renewed, or repeat a write whose retry has long been
overwritten. So a master's first entry begins a term, and it answers nobody before that one is applied.

A lock whose holder is not heard any more is noted as *silent*, by an entry. From then on a renewal needs an entry, too,
until the lease has begun again by one. So whoever becomes master next knows that the leases of silent locks have not
begun anew since, which is more than it can know of any other (silence.py). What is noted counts for the next term only
and is in no checkpoint: who lacks it lets the lease run its full length again, which is always right.

Versions are made of the instance of the entry and the operation's place in it: they rise strictly, for each key and in
the whole group, whatever is released, expires or is taken by force in between. That makes them fencing tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import xxhash
from google.protobuf.message import DecodeError
from zope.interface import implementer

from phxqueue.lock.records import LOCKS, STRINGS, Lock, Outcome, Record, Silence, String, TableKey
from phxqueue.lock.segments import Segments, record_bytes
from phxqueue.lock.shares import Shares
from phxqueue.lock.snapshot import STEP_RECORDS, TableState, encode_base, encode_state, reading_state
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockCommand, LockOperation, LockRestored, ShareChange
from phxqueue.replica.errors import Halted
from phxqueue.replica.interfaces import Checkpoint, IStateMachine
from phxqueue.replica.portions import Portions, PutInPlace, at_once, emptying

#: The newest command this program understands; a newer one halts the group until the node is upgraded.
COMMAND_VERSION = 3
#: Every command but those that need more.
FIRST_VERSION = 1
#: Commands with an operation SILENT.
SILENT_VERSION = 2
#: What a restore from a backup writes, and what ends its quarantine.
RESTORE_VERSION = 3
#: A version is instance << VERSION_SHIFT | place of the operation in its entry, counted from 1.
VERSION_SHIFT = 16
#: What follows: an entry holds at most so many operations.
MAX_OPERATIONS = (1 << VERSION_SHIFT) - 1
#: The number of EntryKind.VALUE; entries of other kinds (no-ops, membership) are not ours.
VALUE_KIND = 0


def restored_table(above_version: int, quarantine_ms: int) -> bytes:
    """The command by which a table that was made from a backup begins another life.

    Args:
        above_version: all versions are higher from now on, whatever was given after the backup was taken.
        quarantine_ms: for so long after a mastership has begun nobody new gets a lock: who got one after the backup,
            of which nothing is known here, may believe in it until his lease has run out.
    """
    restored = LockRestored(above_version=above_version, quarantine_ms=quarantine_ms)
    return LockCommand(version=RESTORE_VERSION, restored=restored).SerializeToString()


_INVALID = Outcome(Status.INVALID_ARGUMENT)
_VOID = Outcome(Status.FENCED)


@implementer(IStateMachine)
class LockTable:
    """All locks and strings of one Paxos group.

    Attributes:
        applied: instance of the last entry applied; -1 before the first.
        term: the number of the last mastership that has begun; 0 before the first.
        locks, strings: what is held and stored, by key.
        shares: which keys belong here.
        lift: what is added to instance and place to make a version; it rises when keys come from other lock groups.
        quarantine_ms: the table was made from a backup, and grants nothing until a mastership has lasted for so long;
            0: that is over.
        size: bytes of all keys, values and client ids.
        unreadable: entries that no command could be made of.
        silent: locks that were noted as silent in this term and have not been renewed since; `inherited`: those at the
            end of the term before it.
        changed: keys that changed since `take_changed` was last called, when somebody has said by `watch` that he will.
    """

    def __init__(self) -> None:
        self.applied = -1
        self.term = 0
        self.locks: dict[str, Lock] = {}
        self.strings: dict[str, String] = {}
        self.size = 0
        self.unreadable = 0
        self.shares = Shares()
        self.lift = 0
        self.quarantine_ms = 0
        self.changed: dict[TableKey, None] | None = None
        self.silent: dict[str, Silence] = {}
        self.inherited: dict[str, Silence] = {}
        self._silenced: list[Silence] = []
        self._segments = Segments(self.record, self.__len__)
        kinds = LockOperation.Kind
        self._operations: dict[int, Callable[[LockOperation, int], Outcome]] = {
            kinds.ACQUIRE: self._acquire,
            kinds.RENEW: self._renew,
            kinds.RELEASE: self._release,
            kinds.EXPIRE_LOCK: self._expire_lock,
            kinds.SET: self._set,
            kinds.DELETE: self._delete,
            kinds.EXPIRE_STRING: self._expire_string,
            kinds.SHARE: self._change_share,
            kinds.SILENT: self._silence,
            kinds.OPEN: self._open,
        }

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.locks) + len(self.strings)

    def record(self, key: TableKey) -> Record | None:
        """What is under a key."""
        return self.locks.get(key[1]) if key[0] == LOCKS else self.strings.get(key[1])

    def watch(self) -> None:
        """Begin to note which keys change."""
        self.changed = {}

    def take_changed(self) -> dict[TableKey, None]:
        """The keys that changed since the last call, in the order of their first change."""
        changed, self.changed = self.changed, {}
        return changed or {}

    def take_silenced(self) -> list[Silence]:
        """What was noted as silent since the last call."""
        silenced, self._silenced = self._silenced, []
        return silenced

    # ---- IStateMachine -----------------------------------------------------------------------------------------------

    def apply(self, instance: int, kind: int, payload: bytes) -> list[Outcome] | Outcome | None:
        """Apply one chosen entry.

        Returns:
            One outcome per operation of the command, all of them FENCED when its term is over; a single outcome for the
            beginning of a term (OK) and for an entry that is no command (INVALID_ARGUMENT); None for other kinds.

        Raises:
            Halted: the command is newer than this program; nothing has changed, and nothing later may be applied.
        """
        if instance != self.applied + 1:
            raise AssertionError(f"instance {instance} applied after {self.applied}")
        outcomes: list[Outcome] | Outcome | None = None
        if kind == VALUE_KIND:
            outcomes = self._apply_command(instance, payload)
        self.applied = instance
        self._segments.seal_if_full()
        return outcomes

    def _apply_command(self, instance: int, payload: bytes) -> list[Outcome] | Outcome:
        try:
            command = LockCommand.FromString(payload)
        except DecodeError:
            self.unreadable += 1
            return _INVALID
        if command.version > COMMAND_VERSION:
            raise Halted(
                f"entry {instance} is a command of version {command.version}; this program knows versions up to "
                f"{COMMAND_VERSION}: install the version of PhxQueue that the other nodes run"
            )
        if command.version < 1 or len(command.operations) > MAX_OPERATIONS:
            self.unreadable += 1
            return _INVALID
        version = instance << VERSION_SHIFT
        if command.HasField("restored"):
            return self._begin_again(command.restored, version)
        if command.begins_term:
            self.term = version + 1
            self.inherited, self.silent = self.silent, {}
            for operation in command.operations:
                if operation.kind == LockOperation.SHARE:
                    self._change_share(operation, version)
            return Outcome(Status.OK)
        if command.term != self.term:
            return [_VOID] * len(command.operations)
        operations = self._operations
        outcomes = []
        version += self.lift
        for operation in command.operations:
            version += 1
            carry_out = operations.get(operation.kind)
            outcomes.append(_INVALID if carry_out is None else carry_out(operation, version))
        return outcomes

    def checkpoint(self) -> Checkpoint:
        """The state as of `applied`, with what has changed since the last one; it rests on no entry up to there."""
        new, dropped = self._segments.take()
        state = encode_base(self._state(), self._segments.next, self._segments.numbers)
        return Checkpoint(applied=self.applied, state=state, segments=new, dropped=dropped, needed=self.applied + 1)

    def restore(self, state: bytes, segments: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Become the state of a checkpoint. Raises CorruptState when it is damaged; nothing has changed then."""
        at_once(self.restoring(state, segments))()

    def restoring(self, state: bytes, segments: Iterable[tuple[bytes, bytes]] = ()) -> Portions[PutInPlace]:
        """The same in portions: nothing changes before what it returns is called. Raises CorruptState."""
        restored, following, sealed = yield from reading_state(state, segments)
        fresh = Segments(self.record, self.__len__)
        fresh.go_on(following, sealed)
        size = 0
        for number, (key, record) in enumerate(_records(restored)):
            size += record_bytes(key[1], record)
            if not sealed:  # of an older version, in one piece: the next checkpoint writes everything
                fresh.note(key, 0)
            if not number % STEP_RECORDS:
                yield
        return partial(self._become, restored, size, fresh)

    def _become(self, restored: TableState, size: int, segments: Segments) -> Portions[None]:
        earlier = self.locks, self.strings, self._segments
        self.applied, self.term, self.unreadable = restored.applied, restored.term, restored.unreadable
        self.locks, self.strings = restored.locks, restored.strings
        self.shares, self.lift, self.quarantine_ms = restored.shares, restored.lift, restored.quarantine_ms
        self.size, self._segments = size, segments
        if self.changed is not None:
            self.changed = {}
        self.silent, self.inherited, self._silenced = {}, {}, []
        return _letting_go(*earlier)

    def state_hash(self) -> int:
        """Hash of everything replicated: equal on all replicas at equal `applied`."""
        return xxhash.xxh3_64_intdigest(encode_state(self._state()))

    def _state(self) -> TableState:
        return TableState(
            self.applied,
            self.term,
            self.unreadable,
            self.shares,
            self.lift,
            self.locks,
            self.strings,
            self.quarantine_ms,
        )

    # ---- a restore ---------------------------------------------------------------------------------------------------

    def _begin_again(self, restored: LockRestored, version: int) -> Outcome:
        """Which keys belong here the others may have changed since the backup: that is agreed upon anew."""
        self.term = version + 1
        self.lift += max(0, restored.above_version - (version + self.lift))
        self.quarantine_ms = restored.quarantine_ms
        self.shares = Shares()
        self.silent, self.inherited = {}, {}
        return Outcome(Status.OK)

    def _open(self, operation: LockOperation, version: int) -> Outcome:
        self.quarantine_ms = 0
        return Outcome(Status.OK)

    # ---- shares ------------------------------------------------------------------------------------------------------

    @property
    def highest_version(self) -> int:
        """No version given so far is higher."""
        return (self.applied + 1 << VERSION_SHIFT) + self.lift

    def _change_share(self, operation: LockOperation, version: int) -> Outcome:
        change = operation.share_change
        importing = self.shares.moving is not None and self.shares.moving.generation == change.share.generation
        status, self.shares = self.shares.changed(change)
        if change.step == ShareChange.IMPORT and importing:
            self._import(change, version)
        return Outcome(status)

    def _import(self, change: ShareChange, version: int) -> None:
        """Take over what comes from another lock group. What is given from the next entry on is above its versions."""
        self.lift += max(0, change.above_version - version)
        for record in change.records:
            if record.key_space == LOCKS:
                lock = Lock(record.version, record.value.decode(), record.lease_ms, record.version)
                self._put_lock(record.key, lock)
            else:
                self._put_string(record.key, String(record.version, record.value, record.lease_ms, record.request_id))

    # ---- locks -------------------------------------------------------------------------------------------------------

    def _acquire(self, operation: LockOperation, version: int) -> Outcome:
        """Grant a lock that is free, or taken by force. Its holder gets it as it is, under the version it has.

        The holder's own repetition only changes the lease: it is a retry whose first answer was lost.
        """
        key, client_id = operation.key, operation.client_id
        held = self.locks.get(key)
        if held is not None and held.client_id == client_id:
            return self._put_lock(key, Lock(held.version, client_id, operation.lease_ms, version))
        if operation.HasField("expected_version") and operation.expected_version != (held.version if held else 0):
            return Outcome(Status.VERSION_MISMATCH, held)
        if held is not None and not operation.force:
            return Outcome(Status.ALREADY_EXISTS, held)
        if self.quarantine_ms and not operation.force:
            return Outcome(Status.RESOURCE_EXHAUSTED)
        return self._put_lock(key, Lock(version, client_id, operation.lease_ms, version))

    def _renew(self, operation: LockOperation, version: int) -> Outcome:
        held = self.locks.get(operation.key)
        if held is None:
            return Outcome(Status.NOT_FOUND)
        if held.version != operation.expected_version or held.client_id != operation.client_id:
            return Outcome(Status.VERSION_MISMATCH, held)
        return self._put_lock(operation.key, Lock(held.version, held.client_id, operation.lease_ms, version))

    def _release(self, operation: LockOperation, version: int) -> Outcome:
        held = self.locks.get(operation.key)
        if held is None:
            return Outcome(Status.NOT_FOUND)
        own = held.version == operation.expected_version and held.client_id == operation.client_id
        if not own and not operation.force:
            return Outcome(Status.VERSION_MISMATCH, held)
        return self._drop_lock(operation.key)

    def _expire_lock(self, operation: LockOperation, version: int) -> Outcome:
        held = self.locks.get(operation.key)
        if held is None or held.stamp != operation.expected_version:
            return Outcome(Status.VERSION_MISMATCH, held)
        return self._drop_lock(operation.key)

    def _silence(self, operation: LockOperation, version: int) -> Outcome:
        held = self.locks.get(operation.key)
        if held is None or held.stamp != operation.expected_version:
            return Outcome(Status.VERSION_MISMATCH, held)
        silence = self.silent[operation.key] = Silence(operation.passed_ms)
        if self.changed is not None:
            self._silenced.append(silence)
        return Outcome(Status.OK, held)

    def _put_lock(self, key: str, lock: Lock) -> Outcome:
        earlier = self.locks.get(key)
        self.size += record_bytes(key, lock) - (0 if earlier is None else record_bytes(key, earlier))
        self.locks[key] = lock
        self.silent.pop(key, None)
        self._note(LOCKS, key, lock)
        return Outcome(Status.OK, lock)

    def _drop_lock(self, key: str) -> Outcome:
        self.size -= record_bytes(key, self.locks.pop(key))
        self.silent.pop(key, None)
        self._note(LOCKS, key)
        return Outcome(Status.OK)

    # ---- strings -----------------------------------------------------------------------------------------------------

    def _set(self, operation: LockOperation, version: int) -> Outcome:
        """Write a string, or not if it has another version. A retry of the write that made it has its outcome."""
        key = operation.key
        stored = self.strings.get(key)
        if stored is not None and operation.request_id and stored.request_id == operation.request_id:
            return Outcome(Status.OK, stored)
        if operation.HasField("expected_version") and operation.expected_version != (stored.version if stored else 0):
            return Outcome(Status.VERSION_MISMATCH, stored)
        return self._put_string(key, String(version, operation.value, operation.lease_ms, operation.request_id))

    def _put_string(self, key: str, string: String) -> Outcome:
        earlier = self.strings.get(key)
        self.size += record_bytes(key, string) - (0 if earlier is None else record_bytes(key, earlier))
        self.strings[key] = string
        self._note(STRINGS, key, string)
        return Outcome(Status.OK, string)

    def _delete(self, operation: LockOperation, version: int) -> Outcome:
        stored = self.strings.get(operation.key)
        if stored is None:
            return Outcome(Status.NOT_FOUND)
        if operation.HasField("expected_version") and operation.expected_version != stored.version:
            return Outcome(Status.VERSION_MISMATCH, stored)
        return self._drop_string(operation.key)

    def _expire_string(self, operation: LockOperation, version: int) -> Outcome:
        stored = self.strings.get(operation.key)
        if stored is None or stored.version != operation.expected_version:
            return Outcome(Status.VERSION_MISMATCH, stored)
        return self._drop_string(operation.key)

    def _drop_string(self, key: str) -> Outcome:
        self.size -= record_bytes(key, self.strings.pop(key))
        self._note(STRINGS, key)
        return Outcome(Status.OK)

    def _note(self, space: int, key: str, record: Record | None = None) -> None:
        changed = (space, key)
        self._segments.note(changed, len(key) if record is None else record_bytes(key, record))
        if self.changed is not None:
            self.changed[changed] = None


def _records(state: TableState) -> Iterator[tuple[TableKey, Record]]:
    yield from (((LOCKS, name), lock) for name, lock in state.locks.items())
    yield from (((STRINGS, name), string) for name, string in state.strings.items())


def _letting_go(locks: dict[str, Lock], strings: dict[str, String], segments: Segments) -> Portions[None]:
    yield from segments.letting_go()
    yield from emptying((locks, strings))
