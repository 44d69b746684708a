"""The sealed segments of the index: blobs of a fixed number of rows, of any number of queues. Pure.

Each holds one run of rows per queue, and its own checksum. Written once, it is deleted when the last of its rows has
been trimmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.formats import TIMER_FORMAT, read_format
from phxqueue.store.index import QueueIndex

_MAGIC = b"PhxQsegm"

Runs = list[tuple[QueueIndex, int]]
"""So many rows of each of these."""


class Segments:
    """Those of one Paxos group; the indexes have the rows themselves.

    Args:
        rows: of a segment. It may differ between replicas: it decides how the index is stored, not what it says.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._next = 0
        self._live: dict[int, int] = {}  # rows of them that are still in the index
        self._dead: list[bytes] = []  # keys of those to be deleted with the next checkpoint

    def released(self, rows: Iterable[tuple[int, int]]) -> None:
        """So many rows of these segments are in the index no more."""
        for segment, count in rows:
            self._live[segment] -= count
            if not self._live[segment]:
                del self._live[segment]
                self._dead.append(segment_key(segment))

    def take_dead(self) -> list[bytes]:
        """Return the keys of segments of which nothing is left, once each."""
        dead, self._dead = self._dead, []
        return dead

    # ---- writing ---------------------------------------------------------------------------------

    def seal(self, queues: Iterable[QueueIndex], form: int) -> list[tuple[bytes, bytes]]:
        """Cut full segments off the rows that are in none yet; return them as (key, value)."""
        loose = [index for index in queues if len(index) > index.sealed]
        left = sum(len(index) - index.sealed for index in loose)
        segments = []
        while left >= self.rows:
            segments.append((segment_key(self._next), self._write_one(loose, form)))
            left -= self.rows
        return segments

    def _write_one(self, loose: list[QueueIndex], form: int) -> bytes:
        """Write the next rows, one run per queue, and drop queues that have no more from `loose`."""
        segment, self._next = self._next, self._next + 1
        out = ColumnWriter(_MAGIC)
        out.u16(form)
        out.u64(segment)
        room = self.rows
        runs: Runs = []
        for index in loose:
            runs.append((index, min(room, len(index) - index.sealed)))
            room -= runs[-1][1]
            if not room:
                break
        out.u32(len(runs))
        for index, count in runs:
            index.seal(out, count, segment, references=form >= TIMER_FORMAT)
        self._live[segment] = self.rows
        loose[:] = [index for index in loose if len(index) > index.sealed]
        return out.finish()

    def write(self, out: ColumnWriter) -> None:
        """Write which there are."""
        out.u64(self._next)
        out.u32(len(self._live))
        out.numbers(self._live)

    # ---- reading ---------------------------------------------------------------------------------

    def read(self, source: ColumnReader) -> Iterable[int]:
        """Read what `write` wrote; return which are to be read, in this order."""
        self._next = source.u64()
        return source.numbers(source.u32())

    def read_one(self, blobs: Mapping[bytes, bytes], segment: int, queues: Mapping[int, QueueIndex]) -> None:
        """Append the rows of a segment to the indexes. Raises CorruptCheckpoint."""
        what = f"index segment {segment}"
        blob = blobs.get(segment_key(segment))
        if blob is None:
            raise CorruptCheckpoint(f"{what} is missing")
        source = ColumnReader(_MAGIC, blob, what)
        form = read_format(source, what)
        if source.u64() != segment:
            raise CorruptCheckpoint(f"{what} is stored under another segment's key")
        runs = read_runs(source, form, queues)
        source.finish()
        for index, count in runs:
            index.runs.append([segment, count])
        self._live[segment] = sum(count for _, count in runs)

    def settled(self) -> None:
        """Everything is read: what was found to be dead meanwhile was so when the checkpoint was made."""
        self._dead = []


def read_runs(source: ColumnReader, form: int, queues: Mapping[int, QueueIndex]) -> Runs:
    """Append rows to the indexes, one run per queue. Raises CorruptCheckpoint."""
    runs: Runs = []
    for _ in range(source.u32()):
        queue_id, count = source.u32(), source.u32()
        index = queues.get(queue_id)
        if index is None:
            raise CorruptCheckpoint(f"index rows of queue {queue_id}, which the checkpoint does not know")
        index.read_rows(source, count, references=form >= TIMER_FORMAT)
        runs.append((index, count))
    return runs


def segment_key(ordinal: int) -> bytes:
    """The key a sealed segment is stored under: big-endian, so that keys sort as ordinals do."""
    return ordinal.to_bytes(8, "big")
