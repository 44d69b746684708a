"""What one Paxos group of a store knows, and how it is written to checkpoints and read back.

The bulk is the index. Its rows are written once: as soon as enough have gathered they are cut into *sealed segments* of
a fixed number of rows, each an immutable blob with its own checksum; a checkpoint's state carries the few rows that are
in no segment yet. A segment holds the rows of any number of queues, one run per queue, each run a bulk copy of its
columns: neither many queues nor many rows make a restart slow, and a checkpoint stays small.
"""

from __future__ import annotations

from collections.abc import Iterable

import xxhash

from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.idempotence import Idempotence
from phxqueue.store.index import QueueIndex

_STATE_MAGIC = b"PhxQstat"
_SEGMENT_MAGIC = b"PhxQsegm"
_FORMAT = 1


class QueueState:
    """All queues of one Paxos group, their consumers' cursors and the idempotence window.

    Args:
        segment_rows: index rows per sealed segment. It may differ between replicas: it decides how the index is
            stored, not what it says.
        window: the idempotence window to start with; tests give one with small bounds.

    Attributes:
        applied: instance of the last entry applied; -1 before the first.
        clock_ms: the highest timestamp of all entries applied, Unix milliseconds.
        queues: index per queue id; a queue is here once something was stored in it.
        acked: (queue id, consumer group id) -> every item below this cursor is done; absent = 0.
        refused: instance -> positions of the batches in that entry which were not stored. Rare: the master answers
            known duplicates without proposing them.
        window: the outcomes of recent batches.
        unreadable: entries that no command could be made of.
    """

    def __init__(self, segment_rows: int = 4096, window: Idempotence | None = None) -> None:
        self.applied = -1
        self.clock_ms = 0
        self.queues: dict[int, QueueIndex] = {}
        self.acked: dict[tuple[int, int], int] = {}
        self.refused: dict[int, tuple[int, ...]] = {}
        self.window = Idempotence() if window is None else window
        self.unreadable = 0
        self._segment_rows = segment_rows
        self._segments = 0  # sealed so far; also the ordinal of the next
        self._unsealed_refused: list[int] = []

    def end_cursor(self, queue_id: int) -> int:
        """One past the last item of a queue."""
        index = self.queues.get(queue_id)
        return 0 if index is None else index.end_cursor

    def acked_cursor(self, queue_id: int, consumer_group_id: int) -> int:
        """Every item below is done, as replicated."""
        return self.acked.get((queue_id, consumer_group_id), 0)

    def state_hash(self) -> int:
        """Hash of everything replicated, computed from the state itself: equal on all replicas at equal `applied`."""
        return xxhash.xxh3_64_intdigest(self.write(whole=True))

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Cut full segments off the rows that are in none yet; return them as (key, value)."""
        loose = [index for index in self.queues.values() if len(index) > index.sealed]
        left = sum(len(index) - index.sealed for index in loose)
        segments = []
        while left >= self._segment_rows:
            segments.append((segment_key(self._segments), self._write_segment(loose)))
            self._segments += 1
            left -= self._segment_rows
        return segments

    def _write_segment(self, loose: list[QueueIndex]) -> bytes:
        """Write the next `segment_rows` rows, one run per queue, and drop queues that have no more from `loose`."""
        out = ColumnWriter(_SEGMENT_MAGIC)
        out.u16(_FORMAT)
        out.u64(self._segments)
        room = self._segment_rows
        runs: list[tuple[QueueIndex, int]] = []
        for index in loose:
            runs.append((index, min(room, len(index) - index.sealed)))
            room -= runs[-1][1]
            if not room:
                break
        out.u32(len(runs))
        for index, count in runs:
            index.write_rows(out, index.sealed, index.sealed + count)
            index.sealed += count
        loose[:] = [index for index in loose if len(index) > index.sealed]
        self._write_refused(out, self._unsealed_refused)
        self._unsealed_refused = []
        return out.finish()

    def _read_segment(self, blob: bytes, ordinal: int) -> None:
        what = f"index segment {ordinal}"
        source = ColumnReader(_SEGMENT_MAGIC, blob, what)
        self._read_format(source, what)
        if source.u64() != ordinal:
            raise CorruptCheckpoint(f"{what} is stored under another segment's key")
        self._read_runs(source)
        self._read_refused(source)
        source.finish()

    def write(self, *, whole: bool) -> bytes:
        """Write the state: `whole` with all rows and nothing that may differ between replicas, for the hash."""
        out = ColumnWriter(_STATE_MAGIC)
        out.u16(_FORMAT)
        out.i64(self.applied)
        out.u64(self.clock_ms)
        out.u64(self.unreadable)
        if not whole:
            out.u64(self._segments)
        queues = [self.queues[queue_id] for queue_id in sorted(self.queues)]
        out.u32(len(queues))
        for index in queues:
            out.u32(index.queue_id)
            out.u64(index.end_cursor)
            out.u64(index.end_digest)
            out.u64(len(index))
        starts = [(index, 0 if whole else index.sealed) for index in queues]
        runs = [(index, start) for index, start in starts if start < len(index)]
        out.u32(len(runs))
        for index, start in runs:
            index.write_rows(out, start, len(index))
        self._write_refused(out, list(self.refused) if whole else self._unsealed_refused)
        out.u32(len(self.acked))
        for (queue_id, consumer_group_id), acked in sorted(self.acked.items()):
            out.u32(queue_id)
            out.u32(consumer_group_id)
            out.u64(acked)
        self.window.write(out)
        return out.finish()

    def restore(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
        """Become the state of a checkpoint. Segments may come in any order; ones sealed after it are ignored.

        Raises:
            CorruptCheckpoint: something is damaged or missing; nothing has changed then.
        """
        fresh = QueueState(self._segment_rows, self.window.emptied())
        fresh._read(state, segments)
        vars(self).update(vars(fresh))

    def _read(self, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
        source = ColumnReader(_STATE_MAGIC, state, "the checkpoint's state")
        self._read_format(source, "the checkpoint's state")
        self.applied = source.i64()
        self.clock_ms = source.u64()
        self.unreadable = source.u64()
        self._segments = source.u64()
        rows = self._read_queues(source)
        found = {key: value for key, value in segments if key < segment_key(self._segments)}
        for ordinal in range(self._segments):
            blob = found.get(segment_key(ordinal))
            if blob is None:
                raise CorruptCheckpoint(f"index segment {ordinal} of {self._segments} is missing")
            self._read_segment(blob, ordinal)
        for index in self.queues.values():
            index.sealed = len(index)
        self._read_runs(source)
        self._unsealed_refused = self._read_refused(source)
        for _ in range(source.u32()):
            key = source.u32(), source.u32()
            self.acked[key] = source.u64()
        self.window.read(source)
        source.finish()
        for queue_id, index in self.queues.items():
            index.check(rows[queue_id])

    def _read_format(self, source: ColumnReader, what: str) -> None:
        version = source.u16()
        if version != _FORMAT:
            raise CorruptCheckpoint(f"{what} has format {version}; this program reads format {_FORMAT}")

    def _read_queues(self, source: ColumnReader) -> dict[int, int]:
        rows = {}
        for _ in range(source.u32()):
            index = QueueIndex(source.u32())
            index.end_cursor = source.u64()
            index.end_digest = source.u64()
            rows[index.queue_id] = source.u64()
            self.queues[index.queue_id] = index
        return rows

    def _read_runs(self, source: ColumnReader) -> None:
        for _ in range(source.u32()):
            queue_id, count = source.u32(), source.u32()
            index = self.queues.get(queue_id)
            if index is None:
                raise CorruptCheckpoint(f"index rows of queue {queue_id}, which the checkpoint does not know")
            index.read_rows(source, count)

    def _write_refused(self, out: ColumnWriter, instances: list[int]) -> None:
        out.u32(len(instances))
        for instance in instances:
            positions = self.refused[instance]
            out.u64(instance)
            out.u32(len(positions))
            for position in positions:
                out.u32(position)

    def _read_refused(self, source: ColumnReader) -> list[int]:
        instances = []
        for _ in range(source.u32()):
            instance, count = source.u64(), source.u32()
            self.refused[instance] = tuple(source.u32() for _ in range(count))
            instances.append(instance)
        return instances


def segment_key(ordinal: int) -> bytes:
    """The key a sealed segment is stored under: big-endian, so that keys sort as ordinals do."""
    return ordinal.to_bytes(8, "big")
