"""The replicated state of one Paxos group of a store: what every replica computes from the same entries.

Pure: entries in, results out. Applying depends on the entry and the state before it alone; the only time it knows is
the proposer's timestamp in the entry, the only bounds are constants of the command version. What a node's configuration
says decides who may propose and who may read (:mod:`phxqueue.store.served`), never what an entry means: a queue that is
missing from one replica's files still gets the same cursors there (in the original it stops the group for good).

The work is per batch, never per item: items are not looked at.
"""

from __future__ import annotations

from functools import partial

from google.protobuf.message import DecodeError
from zope.interface import implementer

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.ledger_pb2 import ProducedReport
from phxqueue.proto.store_pb2 import (
    AckDispute,
    CursorMove,
    Fence,
    GroupChange,
    QueueTrim,
    ReaderBegin,
    Replay,
    StoreCommand,
)
from phxqueue.replica.errors import Halted
from phxqueue.replica.interfaces import Checkpoint, IStateMachine
from phxqueue.store.atomic import fates_of_atomic
from phxqueue.store.books import EntryBooks
from phxqueue.store.delayed import cancel, fire, keep_aside
from phxqueue.store.group_changes import change_group, complete_books
from phxqueue.store.halves import decide, prepare
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.index import SOLE, UNIFORM, QueueIndex
from phxqueue.store.outcomes import (
    COPY_BIT,
    HALF_BIT,
    TIMER_BIT,
    Delayed,
    Duplicate,
    KeyDuplicate,
    Outcome,
    Outcomes,
    Prepared,
    Refusal,
    Replayed,
)
from phxqueue.store.passed_on import DROP_VERSION, count_dropped
from phxqueue.store.passed_on import count as count_passed_on
from phxqueue.store.relocation import relocate
from phxqueue.store.replay_table import REPLAY_VERSION
from phxqueue.store.replays import apply as apply_replay
from phxqueue.store.retention import acknowledged_rows
from phxqueue.store.state import KEYS_VERSION, TIMER_VERSION, QueueState

#: The newest command this program understands; a newer one halts the group until the node is upgraded.
COMMAND_VERSION = 16
#: Commands of batches and cursor moves: every program understands them.
BATCH_VERSION = 1
#: Commands with `trims`.
TRIM_VERSION = 2
#: Commands with `history`.
HISTORY_VERSION = 6
#: Commands with `ledger`, `reports` and `disputes`, and moves that tell what became of the items.
LEDGER_VERSION = 10
#: From a command with `ledger` of this version on the books are whole: see Ledger.
WHOLE_LEDGER_VERSION = 12
#: Reports that vouch for sequences; books that are opened by such a command keep them from the beginning on.
VOUCH_VERSION = 15
#: Reports whose word is kept: what is stored later, and was vouched for, is judged by it.
KEPT_VERSION = 16
#: Consumer groups are numbered 1..64: one bit each.
MAX_CONSUMER_GROUP_ID = 64
#: The number of EntryKind.VALUE; entries of other kinds (no-ops, membership) are not ours.
VALUE_KIND = 0


def new_history(number: int) -> bytes:
    """The command after which the store is in another life of its own: see QueueState.history."""
    return StoreCommand(version=HISTORY_VERSION, history=number).SerializeToString()


class _Row:
    """The row of one queue while its entry is being applied."""

    __slots__ = ("cursor", "digest", "index", "mask", "pub_id", "size", "union")

    def __init__(self, index: QueueIndex, mask: int, pub_id: int) -> None:
        self.index = index
        self.cursor = index.end_cursor  # of the next item
        self.digest = 0
        self.size = 0
        self.mask = self.union = mask
        self.pub_id = pub_id  # -1 once batches differ in pub or mask


@implementer(IStateMachine)
class StoreQueues(QueueState):
    """The state of one Paxos group as a state machine: applies commands, gives checkpoints.

    Attributes:
        touched: ids of queues that got items since `take_touched` was last called.
        moved: (queue id, consumer group id) of the groups that replays moved since `take_moved` was last called.
    """

    def __init__(self, segment_rows: int = 4096, window: Idempotence | None = None) -> None:
        super().__init__(segment_rows, window)
        self.touched: set[int] = set()
        self.moved: set[tuple[int, int]] = set()

    def take_moved(self) -> set[tuple[int, int]]:
        """Return the (queue id, consumer group id) that replays moved since the last call."""
        moved, self.moved = self.moved, set()
        return moved

    def take_touched(self) -> set[int]:
        """Return the queues that got items since the last call."""
        touched, self.touched = self.touched, set()
        return touched

    def apply(self, instance: int, kind: int, payload: bytes) -> list[Outcome] | Refusal | None:
        """Apply one chosen entry.

        Returns:
            One outcome per batch of the command, then one per cancel, setting, replay and group; a Refusal for an entry
            that is no command; None for other kinds.

        Raises:
            Halted: the command is newer than this program; nothing has changed, and nothing later may be applied.
        """
        if instance != self.applied + 1:
            raise AssertionError(f"instance {instance} applied after {self.applied}")
        if kind != VALUE_KIND:
            self.applied = instance
            return None
        try:
            command = StoreCommand.FromString(payload)
        except DecodeError as error:
            return self._skip(instance, f"entry {instance} is not a command: {error}")
        if command.version > COMMAND_VERSION:
            raise Halted(
                f"entry {instance} is a command of version {command.version}; this program knows versions up to "
                f"{COMMAND_VERSION}: install the version of PhxQueue that the other nodes run"
            )
        if command.version < 1:
            return self._skip(instance, f"entry {instance} is not a command: it has no version")
        if command.timestamp_ms > self.clock_ms:
            self.clock_ms = command.timestamp_ms
        self.window.begin(self.clock_ms)
        for bounds in command.key_bounds:
            self.keys.bound(bounds)
        self.keys.begin(self.clock_ms)
        if command.version >= LEDGER_VERSION and command.HasField("ledger"):
            self._open_ledger(command)
        counted = self.ledger.opened
        if counted:
            self.ledger.begin(self.clock_ms)
        self.halves.begin(self.clock_ms)
        outcomes = self._store_batches(instance, command)
        for dispute in command.disputes if counted else ():
            self._dispute(dispute)
        for move in command.cursor_moves:
            self._move_cursor(move, command.version)
        for trim in command.trims:
            self._trim(trim, command.version)
        for fence in command.fences:
            self._raise_fence(fence)
        for begin in command.begins:
            self._note_begin(begin)
        if command.cancels:
            outcomes += cancel(self, command.cancels)
        if command.HasField("fire"):
            self.touched |= fire(self, command.fire)
        for change in command.settings:
            outcomes.append(self.settings.apply(change, instance))
        outcomes += [self._replay(replay, instance) for replay in command.replays]
        outcomes += [self._change_group(change, instance) for change in command.groups]
        for report in command.reports if counted else ():
            self._take_report(report, command.version)
        if command.half_decisions:
            decided, touched = decide(self, command.half_decisions)
            outcomes += decided
            self.touched |= touched
        relocate(self, instance, command)
        if command.history:
            self.history = command.history
            self.ledger.accounts.restored()
        self.version = max(self.version, command.version)
        self.applied = instance
        return Outcomes(outcomes, self.clock_ms if counted else 0)

    def _open_ledger(self, command: StoreCommand) -> None:
        self.ledger.open(command.ledger, self.clock_ms)
        if command.version >= WHOLE_LEDGER_VERSION and not self.ledger.whole:
            complete_books(self)
        if command.version >= VOUCH_VERSION:  # else from the first word of a producer on
            self.ledger.accounts.vouching = True

    def _take_report(self, report: ProducedReport, version: int) -> None:
        self.ledger.report(report, vouched=version >= VOUCH_VERSION, kept=version >= KEPT_VERSION)

    def _skip(self, instance: int, message: str) -> Refusal:
        self.unreadable += 1
        self.applied = instance
        return Refusal(Status.INVALID_ARGUMENT, message)

    def _store_batches(self, instance: int, command: StoreCommand) -> list[Outcome]:
        """Give every batch its cursors. This loop is the hot path of all replicas."""
        outcomes: list[Outcome] = []
        rows: dict[int, _Row] = {}
        refused: list[int] = []
        window, now_ms, extra = self.window, self.clock_ms, self.groups.extra
        may_delay, aside = command.version >= TIMER_VERSION, False
        extended = command.version >= KEYS_VERSION  # may have keys, and say that batches belong together
        fates: list[Outcome] = []  # of the next batches, when they share what is wrong with one of them
        books = EntryBooks(self.ledger) if self.ledger.opened else None
        row: _Row | None = None
        producer = None
        producer_id = row_queue = -1
        for batch in command.batches:
            header = batch.header
            queue_id, count, sequence = header.queue_id, header.count, header.sequence
            kept_out: Outcome | None = None
            if extended and (fates or header.atomic_batches > 1):
                fates = fates or fates_of_atomic(self, command.batches, len(outcomes))
                kept_out = fates.pop(0) if fates else None
            if not count:
                kept_out = kept_out or Refusal(Status.INVALID_ARGUMENT, "the batch's header counts no items")
            elif sequence and kept_out is None:
                if producer is None or header.producer_id != producer_id:
                    producer_id = header.producer_id
                    producer = window.producer(producer_id, now_ms)
                if sequence <= producer.highest:
                    kept_out = self.recall(producer_id, sequence, queue_id)
            keyed = extended and header.idempotency_key
            if keyed and kept_out is None:
                kept_out = self._recall_key(header)
            if kept_out is not None:
                refused.append(len(outcomes))
                outcomes.append(kept_out)
                continue
            if (may_delay and header.deliver_at_ms) or (extended and header.prepared_by):
                aside = True
                place = self._keep_aside(instance, batch, outcomes)
                if books is not None and place & TIMER_BIT:  # a half message is in the books from when it is committed
                    books.set_aside(header, place & ~TIMER_BIT)
            else:
                mask = header.consumer_group_ids | (extra.get(header.pub_id, 0) if extra and not header.origin else 0)
                if may_delay and header.origin:
                    pub_id = header.pub_id if self.ledger.whole else 0
                    count_passed_on(self.passed_on, mask, header.origin, count, pub_id)
                if queue_id != row_queue or row is None:
                    row_queue = queue_id
                    row = rows.get(queue_id)
                    if row is None:
                        row = rows[queue_id] = self._open_row(queue_id, mask, header.pub_id)
                if mask != row.mask or header.pub_id != row.pub_id:
                    row.pub_id = -1
                    row.union |= mask
                place = row.cursor
                if books is not None:
                    books.store(header, queue_id, place, count, mask)
                row.cursor = place + count
                row.digest += header.digest_sum
                row.size += len(batch.items)
                outcomes.append(place)
            if producer is not None and sequence:
                window.remember(producer, sequence, place, queue_id << 32 | count, now_ms)
            if keyed:
                self.keys.remember(header, place, now_ms)
        if refused and rows:
            self.refused[instance] = tuple(refused)
        if books is not None:
            books.close()
        self._close_rows(instance, rows, SOLE if len(rows) == 1 and not refused and not aside else 0)
        return outcomes

    def _keep_aside(self, instance: int, batch: ItemBatch, outcomes: list[Outcome]) -> int:
        """A batch that gets no cursor now; returns by what it is remembered."""
        header, ordinal, size = batch.header, len(outcomes), len(batch.items)
        if header.deliver_at_ms:
            number = keep_aside(self, header, instance, ordinal, size)
            outcomes.append(Delayed(number))
            return TIMER_BIT | number
        number = prepare(self, header, instance, ordinal, size)
        outcomes.append(Prepared(number))
        return HALF_BIT | number

    def _recall_key(self, header: BatchHeader) -> Outcome | None:
        """What keeps a batch with an idempotency key out: another one with that key, or too many keys."""
        other = self.keys.recall(header)
        if isinstance(other, KeyDuplicate) and header.sequence and other.queue_id == header.queue_id:
            # The outcome of that one is this one's from now on, also when the key is forgotten.
            place = TIMER_BIT | other.first_cursor if other.delayed else other.first_cursor
            producer = self.window.producer(header.producer_id, self.clock_ms)
            place |= COPY_BIT
            self.window.remember(producer, header.sequence, place, other.queue_id << 32 | other.count, self.clock_ms)
        return other or self.keys.no_room(header)

    def _open_row(self, queue_id: int, mask: int, pub_id: int) -> _Row:
        index = self.queues.get(queue_id)
        if index is None:
            index = self.queues[queue_id] = QueueIndex(queue_id)
        return _Row(index, mask, pub_id)

    def _close_rows(self, instance: int, rows: dict[int, _Row], sole: int) -> None:
        for row in rows.values():
            index = row.index
            flags = sole if row.pub_id < 0 else sole | UNIFORM
            count = row.cursor - index.end_cursor
            index.append(instance, count, row.union, self.clock_ms, row.size, row.digest, flags)
        self.touched.update(rows)

    def recall(self, producer_id: int, sequence: int, queue_id: int) -> Duplicate | Refusal | None:
        """Return what became of a batch sent before; None when it was surely never stored here."""
        known = self.window.known(producer_id, sequence)
        if known is None:
            if sequence > self.window.floor(producer_id):
                return None
            return Refusal(
                Status.OUT_OF_RANGE,
                f"batch {sequence} of producer {producer_id:x} is older than what the idempotence window remembers "
                f"(from {self.window.floor(producer_id) + 1}): it may have been stored already, or not",
            )
        first_queue, cursor, count = known
        if first_queue != queue_id:
            return Refusal(
                Status.INVALID_ARGUMENT,
                f"batch {sequence} of producer {producer_id:x} was stored in queue {first_queue} and now names queue "
                f"{queue_id}: a retry must not change its queue, another batch needs another sequence",
            )
        place, delayed = cursor & ~(TIMER_BIT | COPY_BIT | HALF_BIT), bool(cursor & TIMER_BIT)
        prepared = bool(cursor & HALF_BIT)
        stored_ms = 0 if prepared or cursor & COPY_BIT else self._stored_ms(producer_id, sequence)
        return Duplicate(place, count, delayed, stored_ms=stored_ms, prepared=prepared)

    def _stored_ms(self, producer_id: int, sequence: int) -> int:
        """When a known batch was stored, if the ledger has counted it; else 0."""
        stored_ms = self.window.stored_ms(producer_id, sequence)
        return stored_ms if self.ledger.opened and stored_ms >= self.ledger.opened_ms else 0

    def _move_cursor(self, move: CursorMove, version: int) -> None:
        """Raise a cursor; never lower it, never beyond the end of its queue, not after a replay it knows nothing of."""
        key = (move.queue_id, move.consumer_group_id)
        index = self.queues.get(move.queue_id)
        if index is None or not 1 <= move.consumer_group_id <= MAX_CONSUMER_GROUP_ID:
            return
        if self.replays.rewound and move.generation != self.replays.generation(key):
            return
        acked, before = min(move.acked, index.end_cursor), self.acked_cursor(*key)
        if acked > before:
            self.acked[key] = acked
            if version >= DROP_VERSION:
                count_dropped(self.passed_on, move.consumer_group_id, before, acked, move.dropped)
            if self.ledger.opened:
                if self.ledger.whole:  # of what is trimmed nothing is left to be counted
                    before = min(max(before, index.first_cursor), acked)
                self.ledger.acknowledge(move, before, acked)

    def _dispute(self, dispute: AckDispute) -> None:
        """A claim was contradicted. A refused one that the group has come past meanwhile is of no interest."""
        key = (dispute.queue_id, dispute.consumer_group_id)
        late = dispute.refused and dispute.stop <= self.acked.get(key, 0)
        if not late and 1 <= dispute.consumer_group_id <= MAX_CONSUMER_GROUP_ID:
            self.ledger.dispute(dispute, self.clock_ms)

    def _raise_fence(self, fence: Fence) -> None:
        """Remember the highest token of a queue's readers for a consumer group."""
        key = (fence.queue_id, fence.consumer_group_id)
        if fence.token > self.fences.get(key, 0) and 1 <= fence.consumer_group_id <= MAX_CONSUMER_GROUP_ID:
            self.fences[key] = fence.token

    def _trim(self, trim: QueueTrim, version: int) -> None:
        """Drop rows from the front of a queue. Whatever a master asks for, what somebody still has to read stays."""
        index = self.queues.get(trim.queue_id)
        if index is not None:
            acked = partial(self.acked_cursor, trim.queue_id)
            rows = acknowledged_rows(index, acked, min(trim.first_cursor, self.groups.pin(trim.queue_id, acked)))
            if rows:
                if version >= REPLAY_VERSION:
                    self.replays.trimmed_ms[trim.queue_id] = index.timestamps[rows - 1]
                self.forget_rows(index, rows)
                self.groups.trimmed(trim.queue_id, index.first_cursor)
                self.forget_refused()
                self.ledger.forget(trim.queue_id, index.first_cursor)

    def _note_begin(self, begin: ReaderBegin) -> None:
        if begin.generation == self.replays.generation((begin.queue_id, begin.consumer_group_id)):
            self.begins.note(begin)

    def _change_group(self, change: GroupChange, instance: int) -> Outcome:
        done, moved = change_group(self, change, instance)
        self.moved |= moved
        return done

    def _replay(self, replay: Replay, instance: int) -> Outcome:
        outcome = apply_replay(self, replay, instance)
        if isinstance(outcome, Replayed) and not outcome.duplicate:
            self.moved.update((one.queue_id, replay.consumer_group_id) for one in outcome.record.moved)
            for one in outcome.record.moved if self.ledger.opened else ():
                self.ledger.replay(one.queue_id, replay.consumer_group_id, one.acked, one.target)
        return outcome

    def checkpoint(self) -> Checkpoint:
        """Return the state as of `applied`; rows beyond the last full segment travel inside it."""
        segments = self.seal() + self.seal_outcomes() + self.seal_timers() + self.keys.seal() + self.halves.seal()
        dead = self.take_dead()
        return Checkpoint(
            applied=self.applied, state=self.write(), segments=segments, dropped=dead, needed=self.first_needed()
        )
