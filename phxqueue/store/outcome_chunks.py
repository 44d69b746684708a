"""The sealed part of the idempotence window: outcomes of batches, in the order of time, as immutable blobs.

A chunk holds the outcomes that came between two checkpoints, one run per producer. It is good for as long as one of
them is still known; when none is, the blob can go. Reading all chunks again, and forgetting what lies at or below each
producer's floor, gives exactly what was known (:class:`~phxqueue.store.idempotence.ProducerWindow`).
"""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.replica.portions import Portions, emptying
from phxqueue.store.columns import ColumnReader, ColumnWriter, CorruptCheckpoint
from phxqueue.store.idempotence import STEP_PRODUCERS, Idempotence, ProducerWindow

_MAGIC = b"PhxQoutc"
_FORMAT = 1
_BYTES_PER_OUTCOME = 32
_KEY = b"o"


def chunk_key(ordinal: int) -> bytes:
    """The key a chunk is stored under."""
    return _KEY + ordinal.to_bytes(8, "big")


class OutcomeChunks:
    """Which chunks there are, and what each is good for.

    A chunk's part in memory is one pair per producer in it: its window, and the highest of its sequences in the chunk.
    """

    def __init__(self) -> None:
        self._next = 0
        self._chunks: dict[int, list[tuple[ProducerWindow, int]]] = {}

    def __len__(self) -> int:
        return len(self._chunks)

    def seal(self, window: Idempotence) -> list[tuple[bytes, bytes]]:
        """Write what is in no chunk yet; returns (key, blob), or nothing."""
        runs = window.take_unsealed()
        if not runs:
            return []
        out = ColumnWriter(_MAGIC)
        out.u16(_FORMAT)
        out.u64(self._next)
        out.u32(len(runs))
        for producer, first in runs:
            out.u64(producer.producer_id)
            out.u64(producer.generation)
            out.u32(len(producer.sequences) - first)
            producer.write_rows(out, first)
        self._chunks[self._next] = [(producer, producer.sequences[-1]) for producer, _ in runs]
        self._next += 1
        return [(chunk_key(self._next - 1), out.finish())]

    def take_dead(self, window: Idempotence) -> list[bytes]:
        """Forget the chunks of which nothing is known any more; returns their keys."""
        dead = []
        for ordinal, runs in list(self._chunks.items()):
            runs[:] = [run for run in runs if window.get(run[0].producer_id) is run[0] and run[0].floor < run[1]]
            if not runs:
                del self._chunks[ordinal]
                dead.append(chunk_key(ordinal))
        return dead

    def write(self, out: ColumnWriter) -> None:
        """Write which chunks there are."""
        out.u64(self._next)
        out.u32(len(self._chunks))
        out.numbers(self._chunks)

    def reading(self, source: ColumnReader, window: Idempotence, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        """Read what `write` wrote, and the outcomes themselves into the window. Raises CorruptCheckpoint."""
        self._next = source.u64()
        ordinals = source.numbers(source.u32())
        for ordinal in ordinals:
            blob = blobs.get(chunk_key(ordinal))
            if blob is None:
                raise CorruptCheckpoint(f"outcome chunk {ordinal} is missing")
            self._chunks[ordinal] = yield from _reading_chunk(blob, ordinal, window)

    def letting_go(self) -> Portions[None]:
        """Free what is known of them: nobody looks at it any more."""
        return emptying([self._chunks])


def _reading_chunk(blob: bytes, ordinal: int, window: Idempotence) -> Portions[list[tuple[ProducerWindow, int]]]:
    source = ColumnReader(_MAGIC, blob, f"outcome chunk {ordinal}")
    version = source.u16()
    if version != _FORMAT:
        raise CorruptCheckpoint(f"outcome chunk {ordinal} has format {version}; this program reads format {_FORMAT}")
    if source.u64() != ordinal:
        raise CorruptCheckpoint(f"outcome chunk {ordinal} is stored under another chunk's key")
    runs = []
    for number in range(source.u32()):
        if not number % STEP_PRODUCERS:
            yield
        producer_id, generation, count = source.u64(), source.u64(), source.u32()
        producer = window.get(producer_id)
        if producer is None or producer.generation != generation:
            source.skip(count * _BYTES_PER_OUTCOME)
            continue
        producer.read_rows(source, count)
        runs.append((producer, max(producer.sequences[-count:], default=0)))
    source.finish()
    return runs
