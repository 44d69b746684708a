"""What one Paxos group of a store knows, and how it is written to checkpoints and read back.

The bulk is the index. Its rows are written once: as soon as enough have gathered they are cut into *sealed segments*
(:mod:`phxqueue.store.segments`), and a checkpoint's state carries the few rows that are in none yet. A segment holds
the rows of any number of queues, each run a bulk copy of its columns: neither many queues nor many rows make a restart
slow, and a checkpoint stays small. The outcomes that idempotence rests on are written once as well
(:mod:`phxqueue.store.outcome_chunks`), delayed batches again when others near them came or went
(:mod:`phxqueue.store.timers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import xxhash

from phxqueue.reconcile.ledger import Ledger
from phxqueue.replica.portions import Portions, PutInPlace, at_once
from phxqueue.store.begins import Begin, Begins
from phxqueue.store.by_group import read_by_group, write_by_group
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.formats import (
    FENCE_FORMAT,
    GROUPS_FORMAT,
    KEYS_FORMAT,
    LEDGER_FORMAT,
    RELOCATION_FORMAT,
    REPLAY_FORMAT,
    SETTINGS_FORMAT,
    TIMER_FORMAT,
    WHOLE_FORMAT,
    format_of,
    read_format,
)
from phxqueue.store.group_table import GROUPS_VERSION, GroupTable
from phxqueue.store.half_table import HalfTable
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.index import QueueIndex
from phxqueue.store.keys import KeyWindows
from phxqueue.store.outcome_chunks import OutcomeChunks
from phxqueue.store.passed_on import Counts
from phxqueue.store.relocated_rows import RelocatedRows
from phxqueue.store.replay_table import REPLAY_VERSION, ReplayTable
from phxqueue.store.segments import Segments, read_runs
from phxqueue.store.settings_table import SettingsTable
from phxqueue.store.timers import TimerTable

_STATE_MAGIC = b"PhxQstat"
_TIMER_ROWS = 2048
#: Commands with delayed batches, FireTimers and CancelTimer.
TIMER_VERSION = 3
#: Commands with fencing tokens.
FENCE_VERSION = 4
#: Commands with settings.
SETTINGS_VERSION = 5
#: Commands with idempotency keys.
KEYS_VERSION = 9


class QueueState:
    """All queues of one Paxos group, their consumers' cursors and the idempotence window.

    Args:
        segment_rows: index rows per sealed segment. It may differ between replicas: it decides how the index is
            stored, not what it says.
        window: the idempotence window to start with; tests give one with small bounds.

    Attributes:
        applied: instance of the last entry applied; -1 before the first.
        clock_ms: the highest timestamp of all entries applied, Unix milliseconds.
        version: the highest version of all commands applied; 0 before the first.
        queues: index per queue id; a queue is here once something was stored in it.
        acked: (queue id, consumer group id) -> every item below this cursor is done; absent = 0.
        fences: (queue id, consumer group id) -> the highest fencing token of its readers; absent = none.
        refused: instance -> positions of the batches in that entry which were not stored, while others were. Rare: the
            master answers known duplicates without proposing them.
        window: the outcomes of recent batches.
        unreadable: entries that no command could be made of.
        timers: the delayed batches that are not due yet.
        begins: where readers began, and how often in vain.
        passed_on: items ever stored that were not new, and dropped ones: :mod:`phxqueue.store.passed_on`.
        replays: which were carried out, and what moved groups back.
        groups: consumer groups that were created at run time, and ones that leave.
        ledger: the books of what was stored and what became of it.
        settings: of the topic, in Paxos group 0 of its first store; else empty.
        relocated: the rows whose items were written again.
        history: 0 until the store is built from a backup; then, and each time it happens again, another number. A
            cursor means something only within one history.
    """

    def __init__(self, segment_rows: int = 4096, window: Idempotence | None = None) -> None:
        self.applied = -1
        self.clock_ms = 0
        self.version = 0
        self.queues: dict[int, QueueIndex] = {}
        self.acked: dict[tuple[int, int], int] = {}
        self.fences: dict[tuple[int, int], int] = {}
        self.refused: dict[int, tuple[int, ...]] = {}
        self.window = Idempotence() if window is None else window
        self.unreadable = 0
        self.begins = Begins()
        self.passed_on: Counts = {}
        self.timers = TimerTable(min(segment_rows, _TIMER_ROWS))
        self.settings = SettingsTable()
        self.replays = ReplayTable()
        self.groups = GroupTable()
        self.keys = KeyWindows()
        self.ledger = Ledger()
        self.halves = HalfTable(min(segment_rows, _TIMER_ROWS))
        self.history = 0
        self._segments = Segments(segment_rows)
        self._chunks = OutcomeChunks()
        self.relocated = RelocatedRows()

    def first_cursor(self, queue_id: int) -> int:
        """The oldest cursor of a queue that can still be read."""
        index = self.queues.get(queue_id)
        return 0 if index is None else index.first_cursor

    def end_cursor(self, queue_id: int) -> int:
        """One past the last item of a queue."""
        index = self.queues.get(queue_id)
        return 0 if index is None else index.end_cursor

    def acked_cursor(self, queue_id: int, consumer_group_id: int) -> int:
        """Every item below is done, as replicated. It may lie below the queue's first cursor: items that are not for
        this group are trimmed without it.
        """
        key = queue_id, consumer_group_id
        acked = self.acked.get(key)
        return self.groups.gone.get(key, 0) if acked is None else acked

    def first_needed(self) -> int:
        """The lowest instance whose entry holds items of a queue, or some kept aside; `applied` + 1: there is none."""
        places = (self.first_queued(), self.timers.lowest_instance, self.halves.lowest_instance)
        return min(lowest for lowest in places if lowest is not None)

    def first_queued(self) -> int:
        """The lowest instance whose entry holds items of some queue; `applied` + 1 when there is none."""
        return min((index.lowest_instance for index in self.queues.values() if len(index)), default=self.applied + 1)

    @property
    def _knows_timers(self) -> bool:
        """Whether something was applied that only formats since TIMER_FORMAT can hold."""
        return self._format >= TIMER_FORMAT

    @property
    def _knows_settings(self) -> bool:
        return self._format >= SETTINGS_FORMAT

    @property
    def _knows_keys(self) -> bool:
        return self._format >= KEYS_FORMAT

    def state_hash(self) -> int:
        """Hash of everything replicated, computed from the state itself: equal on all replicas at equal `applied`."""
        out = ColumnWriter(_STATE_MAGIC)
        self._write_numbers(out)
        queues = [self.queues[queue_id] for queue_id in sorted(self.queues)]
        self._write_queues(out, queues)
        for index in queues:
            index.write_rows(out, 0, len(index), references=self._knows_timers)
        self._write_refused(out)
        write_by_group(out, {key: self.acked[key] for key in sorted(self.acked)})
        if self.fences:
            write_by_group(out, {key: self.fences[key] for key in sorted(self.fences)})
        self.window.write_whole(out)
        if self._knows_timers:
            self.timers.write_whole(out)
            self._write_begins(out)
        if self._knows_settings:
            self.settings.write(out)
        if self.version >= REPLAY_VERSION:
            self.replays.write(out)
        if self.version >= GROUPS_VERSION:
            self.groups.write(out, whole=self.ledger.whole)
        if self._knows_keys:
            self.keys.write(out, whole=True)
            self.halves.write(out, whole=True)
        if self.ledger.opened:
            self._write_ledger(out)
        if self.history:
            out.u64(self.history)
        return xxhash.xxh3_64_intdigest(out.finish())

    def forget_rows(self, index: QueueIndex, rows: int) -> None:
        """Drop the oldest rows of a queue, and the segments of which nothing is left."""
        self._segments.released(index.drop(rows))

    def forget_refused(self) -> None:
        """Forget what was refused in entries that no queue needs any more."""
        if self.refused:
            needed = self.first_needed()
            for instance in [instance for instance in self.refused if instance < needed]:
                del self.refused[instance]

    # ---- writing ---------------------------------------------------------------------------------

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Cut full segments off the rows that are in none yet; return them as (key, value)."""
        return self._segments.seal(self.queues.values(), self._format)

    def take_dead(self) -> list[bytes]:
        """Return the keys of segments and chunks that nothing refers to any more, once each."""
        dead = self._segments.take_dead()
        for part in (self.timers, self.keys, self.halves):
            dead += part.take_dead()
        return dead + self._chunks.take_dead(self.window)

    def seal_timers(self) -> list[tuple[bytes, bytes]]:
        """Write what has changed of the delayed batches since the last call; return it as (key, value)."""
        return self.timers.seal()

    def seal_outcomes(self) -> list[tuple[bytes, bytes]]:
        """Write the outcomes since the last call as a chunk; return it as (key, value), if there were any."""
        return self._chunks.seal(self.window)

    def write(self) -> bytes:
        """Write the state, without what is sealed."""
        out = ColumnWriter(_STATE_MAGIC)
        out.u16(self._format)
        self._write_numbers(out)
        self._segments.write(out)
        queues = list(self.queues.values())
        self._write_queues(out, queues)
        loose = [index for index in queues if len(index) > index.sealed]
        out.u32(len(loose))
        for index in loose:
            index.write_rows(out, index.sealed, len(index), references=self._knows_timers)
        self._write_refused(out)
        write_by_group(out, self.acked)
        self.window.write(out)
        self._chunks.write(out)
        if self._knows_timers:
            self.timers.write(out)
            self._write_begins(out)
        if self._format >= FENCE_FORMAT:
            write_by_group(out, self.fences)
        if self._knows_settings:
            self.settings.write(out)
        if self._format >= REPLAY_FORMAT:
            self.replays.write(out)
        if self._format >= GROUPS_FORMAT:
            self.groups.write(out, whole=self.ledger.whole)
        if self._knows_keys:
            self.keys.write(out)
            self.halves.write(out)
        if self._format >= LEDGER_FORMAT:
            self._write_ledger(out)
        if self._format >= RELOCATION_FORMAT:
            self.relocated.write(out, self.queues)
        if self.history:  # else as ever, so that older programs can read it
            out.u64(self.history)
        return out.finish()

    @property
    def _format(self) -> int:
        return format_of(
            self.version,
            ledger=self.ledger.opened,
            whole=self.ledger.whole,
            relocated=bool(self.relocated.queue_ids),
            vouched=self.ledger.accounts.vouching,
            kept=self.ledger.accounts.vouched_for is not None,
        )

    def _write_numbers(self, out: ColumnWriter) -> None:
        out.i64(self.applied)
        out.u64(self.clock_ms)
        out.u64(self.version)
        out.u64(self.unreadable)

    def _write_queues(self, out: ColumnWriter, queues: list[QueueIndex]) -> None:
        out.u32(len(queues))
        out.numbers([index.queue_id for index in queues])
        out.numbers([index.end_cursor for index in queues])
        out.numbers([index.end_digest for index in queues])
        out.numbers([len(index) for index in queues])

    def _write_refused(self, out: ColumnWriter) -> None:
        out.u32(len(self.refused))
        out.numbers(self.refused)
        out.numbers([len(positions) for positions in self.refused.values()])
        for positions in self.refused.values():
            out.numbers(positions)

    def _write_begins(self, out: ColumnWriter) -> None:
        known = sorted(self.begins.known.items())
        out.u32(len(known))
        for (queue_id, group), begin in known:
            out.numbers((queue_id, group, begin.acked, begin.end, begin.reader_id, begin.count))
        out.u32(len(self.passed_on))
        for (group, origin), items in sorted(self.passed_on.items()):
            out.numbers((group, origin, items))

    def _write_ledger(self, out: ColumnWriter) -> None:
        numbers = self.ledger.dump()
        out.u64(len(numbers))
        out.numbers(numbers)

    # ---- reading ---------------------------------------------------------------------------------

    def restore(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
        """Become the state of a checkpoint. Segments may come in any order; ones sealed after it are ignored.

        Raises:
            CorruptCheckpoint: something is damaged or missing; nothing has changed then.
        """
        at_once(self.restoring(state, segments))()

    def restoring(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> Portions[PutInPlace]:
        """The same in portions: nothing changes before what it returns is called. Raises CorruptCheckpoint."""
        fresh = QueueState(self._segments.rows, self.window.emptied())
        yield from fresh._reading(state, dict(segments))
        return partial(self._become, fresh)

    def _become(self, fresh: QueueState) -> Portions[None]:
        """Change places with a state that was just read."""
        own, others = vars(self), vars(fresh)
        earlier = {name: own[name] for name in others}
        own.update(others)
        others.update(earlier)
        return fresh._letting_go()

    def _letting_go(self) -> Portions[None]:
        while self.queues:
            self.queues.popitem()
            yield
        for part in (self._chunks, self.window, self.keys):
            yield from part.letting_go()

    def _reading(self, state: bytes, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        source = ColumnReader(_STATE_MAGIC, state, "the checkpoint's state")
        form = read_format(source, "the checkpoint's state")
        self.applied = source.i64()
        self.clock_ms = source.u64()
        self.version = source.u64()
        self.unreadable = source.u64()
        segments = self._segments.read(source)
        rows = self._read_queues(source)
        for segment in segments:
            self._segments.read_one(blobs, segment, self.queues)
            yield
        for index in self.queues.values():
            index.sealed = len(index)
        read_runs(source, form, self.queues)
        self._read_refused(source)
        self.acked = read_by_group(source)
        outcomes = self.window.read(source)
        yield from self._chunks.reading(source, self.window, blobs)
        if form >= TIMER_FORMAT:
            yield from self.timers.reading(source, blobs)
            self._read_begins(source)
        if form >= FENCE_FORMAT:
            self.fences = read_by_group(source)
        if form >= SETTINGS_FORMAT:
            self.settings.read(source)
        if form >= REPLAY_FORMAT:
            self.replays.read(source)
        if form >= GROUPS_FORMAT:
            self.groups.read(source, whole=form >= WHOLE_FORMAT)
        if form >= KEYS_FORMAT:
            yield from self.keys.reading(source, blobs)
            yield from self.halves.reading(source, blobs)
        if form >= LEDGER_FORMAT:
            yield from self.ledger.loading(iter(source.numbers(source.u64())))
        if form >= RELOCATION_FORMAT:
            self.relocated.read(source)
        self.history = 0 if source.at_end else source.u64()
        source.finish()
        for queue_id, index in self.queues.items():
            # A segment that is still needed for one queue may hold rows of another that are trimmed.
            self._segments.released((yield from index.dropping(max(len(index) - rows[queue_id], 0))))
        yield from self.relocated.putting_back(self.queues)
        for queue_id, index in self.queues.items():
            yield from index.checking(rows[queue_id])
        self._segments.settled()
        if (yield from self.window.settling()) != outcomes:
            raise CorruptCheckpoint("the outcomes of batches are not those that the checkpoint counts")

    def _read_queues(self, source: ColumnReader) -> dict[int, int]:
        count = source.u32()
        ids, cursors, digests, rows = (source.numbers(count) for _ in range(4))
        for place, queue_id in enumerate(ids):
            index = self.queues[queue_id] = QueueIndex(queue_id)
            index.end_cursor = cursors[place]
            index.end_digest = digests[place]
        return dict(zip(ids, rows, strict=True))

    def _read_begins(self, source: ColumnReader) -> None:
        for _ in range(source.u32()):
            queue_id, group, acked, end, reader_id, count = source.numbers(6)
            self.begins.known[queue_id, group] = Begin(acked, end, reader_id, count)
        for _ in range(source.u32()):
            group, origin, items = source.numbers(3)
            self.passed_on[group, origin] = items

    def _read_refused(self, source: ColumnReader) -> None:
        count = source.u32()
        instances, counts = source.numbers(count), source.numbers(count)
        for instance, positions in zip(instances, counts, strict=True):
            self.refused[instance] = tuple(source.numbers(positions))
