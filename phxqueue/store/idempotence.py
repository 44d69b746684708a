"""The memory that keeps a retried batch from being stored twice. Replicated state: part of every checkpoint.

A producer numbers its batches; the pair (producer_id, sequence) names one batch for ever. When the answer to an Add got
lost, the producer sends the same pair again and gets the first outcome. This is the idea of *exactly-once semantics* in
Raft's client interaction (Ongaro's thesis, 6.3), with a window per producer instead of its last request only, because
a producer here has many requests in flight and they may arrive in any order.

Bounds, all constants of the command version (replicas must forget the same things at the same entry):

- an outcome is forgotten after ``WINDOW_MS`` or when ``PRODUCER_OUTCOMES`` later ones of its producer are known;
- all producers of a Paxos group together have ``TOTAL_OUTCOMES``, shared evenly among those heard within the window,
  and there are at most ``MAX_PRODUCERS`` of those; beyond, the one silent for the longest time is forgotten first.

Outcomes are written once: each checkpoint seals those since the last one into a *chunk*, an immutable blob, and carries
itself only a few numbers per producer (:mod:`phxqueue.store.outcome_chunks`).

A sequence older than what a producer's window still holds is refused: nobody knows any more whether it was stored, and
storing it might be the second time.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from itertools import pairwise
from operator import lt

from phxqueue.replica.portions import Portions, emptying
from phxqueue.store.columns import ColumnReader, ColumnWriter

WINDOW_MS = 10 * 60 * 1000
PRODUCER_OUTCOMES = 1 << 16
TOTAL_OUTCOMES = 1 << 19
MAX_PRODUCERS = 1 << 16

#: What is gone through in one step when a checkpoint is restored.
STEP_OUTCOMES = 1024
STEP_PRODUCERS = 256

#: Above every sequence: nothing is unsealed.
_NOTHING = 1 << 64

#: Forgotten rows are cut off the front of the columns when they are this many and the larger half.
_COMPACT_ROWS = 1024


class ProducerWindow:
    """The known outcomes of one producer, in the order of their sequence numbers: 32 bytes each.

    What is known is exactly what lies above `floor`: that is how chunks tell what of them is still good.

    Attributes:
        producer_id: whose window.
        generation: tells it from an earlier window of the same producer, forgotten meanwhile.
        floor: the highest sequence forgotten because of the bounds; 0 = none.
        highest: the highest sequence ever stored, forgotten or not.
        heard_ms: when the producer was last heard, by entry timestamps.
        unsealed: every outcome that is in no chunk yet has this sequence or a higher one.
    """

    __slots__ = (
        "cursors",
        "floor",
        "generation",
        "heard_ms",
        "highest",
        "packed",
        "producer_id",
        "sequences",
        "start",
        "times",
        "unsealed",
    )

    def __init__(self, producer_id: int, generation: int) -> None:
        self.producer_id = producer_id
        self.generation = generation
        self.unsealed = _NOTHING
        self.floor = 0
        self.highest = 0
        self.heard_ms = 0
        self.start = 0  # rows before it are forgotten
        self.sequences = array("Q")
        self.cursors = array("Q")
        self.packed = array("Q")  # queue_id << 32 | count
        self.times = array("Q")

    def __len__(self) -> int:
        return len(self.sequences) - self.start

    def find(self, sequence: int) -> int:
        """Return the row of a sequence, or -1."""
        row = bisect_left(self.sequences, sequence, self.start)
        return row if row < len(self.sequences) and self.sequences[row] == sequence else -1

    def add(self, sequence: int, cursor: int, packed: int, now_ms: int) -> None:
        """Remember an outcome; the sequence must not be known and must be above the floor."""
        if sequence > self.highest:  # the common case
            self.highest = sequence
            self.sequences.append(sequence)
            self.cursors.append(cursor)
            self.packed.append(packed)
            self.times.append(now_ms)
            return
        row = bisect_left(self.sequences, sequence, self.start)
        self.sequences.insert(row, sequence)
        self.cursors.insert(row, cursor)
        self.packed.insert(row, packed)
        self.times.insert(row, now_ms)

    def forget(self, most: int, before_ms: int) -> int:
        """Forget the lowest sequences beyond `most` rows, and leading ones not newer than `before_ms`.

        Returns:
            How many were forgotten.
        """
        begin, end = self.start, len(self.sequences)
        start = max(begin, end - most)
        while start < end and self.times[start] <= before_ms:
            start += 1
        if start == begin:
            return 0
        self.floor = max(self.floor, self.sequences[start - 1])
        self.start = start
        if start >= _COMPACT_ROWS and start * 2 >= end:
            for column in self._columns():
                del column[:start]
            self.start = 0
        return start - begin

    def take_unsealed(self) -> int:
        """Return the first row that may be in no chunk yet, and count all as sealed from now on."""
        unsealed, self.unsealed = self.unsealed, _NOTHING
        return bisect_left(self.sequences, unsealed, self.start)

    def write_rows(self, out: ColumnWriter, first: int) -> None:
        """Write the outcomes from a row on; their number is for the caller to write."""
        for column in self._columns():
            out.column(column, first)

    def read_rows(self, source: ColumnReader, count: int) -> None:
        """Append `count` outcomes, which may be known already or forgotten: `settle` follows."""
        for column in self._columns():
            source.column(column, count)

    def settling(self) -> Portions[None]:
        """After all outcomes were read: bring them in order, once each, without the forgotten ones."""
        if not all(map(lt, self.sequences, self.sequences[1:])):
            yield
            order = sorted(range(len(self.sequences)), key=self.sequences.__getitem__)
            yield
            twice = {row for before, row in pairwise(order) if self._row(before) == self._row(row)}
            order = [row for row in order if row not in twice]
            for column in self._columns():
                yield
                column[:] = array("Q", map(column.__getitem__, order))
        forgotten = bisect_right(self.sequences, self.floor)
        for column in self._columns():
            del column[:forgotten]

    def _row(self, row: int) -> tuple[int, int, int, int]:
        return self.sequences[row], self.cursors[row], self.packed[row], self.times[row]

    def _columns(self) -> tuple[array[int], ...]:
        return self.sequences, self.cursors, self.packed, self.times


class Idempotence:
    """The windows of all producers of one Paxos group, the one silent longest first."""

    def __init__(
        self,
        *,
        window_ms: int = WINDOW_MS,
        producer_outcomes: int = PRODUCER_OUTCOMES,
        total_outcomes: int = TOTAL_OUTCOMES,
        max_producers: int = MAX_PRODUCERS,
    ) -> None:
        self._window_ms = window_ms
        self._producer_outcomes = producer_outcomes
        self._total_outcomes = total_outcomes
        self._max_producers = max_producers
        self._producers: OrderedDict[int, ProducerWindow] = OrderedDict()
        self._outcomes = 0
        self._share = producer_outcomes
        self._generation = 0  # windows ever opened
        self._unsealed: list[ProducerWindow] = []

    def emptied(self) -> Idempotence:
        """Return a window with the same bounds that knows nothing."""
        return Idempotence(
            window_ms=self._window_ms,
            producer_outcomes=self._producer_outcomes,
            total_outcomes=self._total_outcomes,
            max_producers=self._max_producers,
        )

    def __len__(self) -> int:
        """Outcomes known, of all producers."""
        return self._outcomes

    @property
    def producers(self) -> int:
        """Producers known."""
        return len(self._producers)

    def may_know(self, producer_id: int, sequence: int) -> bool:
        """Whether it is worth asking `known` and `floor`: not for a batch that is its producer's newest."""
        producer = self._producers.get(producer_id)
        return producer is not None and sequence <= producer.highest

    def known(self, producer_id: int, sequence: int) -> tuple[int, int, int] | None:
        """Return (queue_id, first cursor, count) of a batch stored before, or None."""
        producer = self._producers.get(producer_id)
        if producer is None:
            return None
        row = producer.find(sequence)
        if row < 0:
            return None
        packed = producer.packed[row]
        return packed >> 32, producer.cursors[row], packed & 0xFFFFFFFF

    def stored_ms(self, producer_id: int, sequence: int) -> int:
        """When a known batch was stored, by the timestamp of its entry; 0: it is not known."""
        producer = self._producers.get(producer_id)
        row = -1 if producer is None else producer.find(sequence)
        return producer.times[row] if producer is not None and row >= 0 else 0

    def floor(self, producer_id: int) -> int:
        """The highest sequence of the producer of which it is no longer known whether it was stored; 0 = none."""
        producer = self._producers.get(producer_id)
        return 0 if producer is None else producer.floor

    def begin(self, now_ms: int) -> None:
        """Start an entry: forget producers silent for the whole window."""
        before = now_ms - self._window_ms
        producers = self._producers
        while producers:
            producer = next(iter(producers.values()))
            if producer.heard_ms > before:
                break
            producers.popitem(last=False)
            self._outcomes -= len(producer)
            self._share_out()

    def producer(self, producer_id: int, now_ms: int) -> ProducerWindow:
        """Return the producer's window, a new one if need be, and count the producer as the one heard last."""
        producer = self._producers.get(producer_id)
        if producer is None:
            while len(self._producers) >= self._max_producers:
                self._drop_oldest()
            self._generation += 1
            producer = self._producers[producer_id] = ProducerWindow(producer_id, self._generation)
            self._share_out()
        else:
            self._producers.move_to_end(producer_id)
        producer.heard_ms = now_ms
        return producer

    def remember(self, producer: ProducerWindow, sequence: int, cursor: int, packed: int, now_ms: int) -> None:
        """Record the outcome of a batch stored just now."""
        producer.add(sequence, cursor, packed, now_ms)
        if sequence < producer.unsealed:
            if producer.unsealed == _NOTHING:
                self._unsealed.append(producer)
            producer.unsealed = sequence
        self._outcomes += 1
        if (
            # A little over its share, so that not every batch of a busy producer has to move something out.
            len(producer.sequences) - producer.start > self._share + (self._share >> 6)
            or producer.times[producer.start] <= now_ms - self._window_ms
        ):
            self._outcomes -= producer.forget(self._share, now_ms - self._window_ms)
        # The oldest may be this very producer, but only when it is alone: then its share keeps it within bounds.
        while self._outcomes > 2 * self._total_outcomes and len(self._producers) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, producer = self._producers.popitem(last=False)
        self._outcomes -= len(producer)
        self._share_out()

    def _share_out(self) -> None:
        self._share = min(self._producer_outcomes, max(self._total_outcomes // max(len(self._producers), 1), 1))

    # ---- checkpoints ---------------------------------------------------------------------------

    def get(self, producer_id: int) -> ProducerWindow | None:
        """Return the window of a producer, if there is one."""
        return self._producers.get(producer_id)

    def take_unsealed(self) -> list[tuple[ProducerWindow, int]]:
        """Return (window, first row) for all outcomes that are in no chunk yet, and count them as sealed."""
        unsealed, self._unsealed = self._unsealed, []
        runs = []
        for producer in unsealed:
            row = producer.take_unsealed()
            if self._producers.get(producer.producer_id) is producer and row < len(producer.sequences):
                runs.append((producer, row))
        return runs

    def write(self, out: ColumnWriter) -> None:
        """Write everything but the outcomes: a few numbers per producer, in columns, for there may be many."""
        producers = list(self._producers.values())
        out.u64(self._generation)
        out.u32(len(producers))
        out.numbers([producer.producer_id for producer in producers])
        out.numbers([producer.generation for producer in producers])
        out.numbers([producer.floor for producer in producers])
        out.numbers([producer.highest for producer in producers])
        out.numbers([producer.heard_ms for producer in producers])
        out.numbers([len(producer) for producer in producers])

    def read(self, source: ColumnReader) -> dict[int, int]:
        """Read what `write` wrote, into an empty object. Returns how many outcomes each producer must get."""
        self._generation = source.u64()
        count = source.u32()
        ids, generations, floors, highest, heard, outcomes = (source.numbers(count) for _ in range(6))
        for row, producer_id in enumerate(ids):
            producer = self._producers[producer_id] = ProducerWindow(producer_id, generations[row])
            producer.floor = floors[row]
            producer.highest = highest[row]
            producer.heard_ms = heard[row]
        self._share_out()
        return dict(zip(ids, outcomes, strict=True))

    def settling(self) -> Portions[dict[int, int]]:
        """After all outcomes were read. Returns how many each producer has now."""
        for number, producer in enumerate(self._producers.values()):
            yield from producer.settling()
            if len(producer) > STEP_OUTCOMES or not number % STEP_PRODUCERS:
                yield
        counts = {producer_id: len(producer) for producer_id, producer in self._producers.items()}
        self._outcomes = sum(counts.values())
        return counts

    def letting_go(self) -> Portions[None]:
        """Free what is known: nobody looks at it any more."""
        return emptying([self._producers])

    def write_whole(self, out: ColumnWriter) -> None:
        """Write all that is known, and nothing that may differ between replicas: for the state's hash."""
        out.u32(len(self._producers))
        for producer_id, producer in self._producers.items():
            for number in (producer_id, producer.floor, producer.highest, producer.heard_ms, len(producer)):
                out.u64(number)
            producer.write_rows(out, producer.start)
