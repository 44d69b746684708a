"""What is remembered of replays: replicated state, pure. What they do: :mod:`phxqueue.store.replays`."""

from __future__ import annotations

from dataclasses import dataclass, field

from phxqueue.proto.store_pb2 import Replay
from phxqueue.store.columns import ColumnReader, ColumnWriter

Key = tuple[int, int]
"""(queue id, consumer group id)"""

#: Commands with replays.
REPLAY_VERSION = 7
#: A constant of the command version.
MAX_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Moved:
    """One queue of a replay: the group stood at `acked` and was moved to `target`."""

    queue_id: int
    target: int
    acked: int


@dataclass(frozen=True, slots=True)
class Record:
    """A replay that was carried out.

    Attributes:
        asked: what was asked for, serialized: a Replay without what the master made of it.
        generation: of the group in the queues it was moved in.
        timestamp_ms: when it was proposed, Unix milliseconds.
        moved: the queues it was moved in.
    """

    asked: bytes
    generation: int
    timestamp_ms: int
    moved: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class Rewound:
    """The last replay of a queue and consumer group: its generation, and where the group stood before."""

    generation: int
    acked: int


@dataclass(slots=True)
class ReplayTable:
    """What is remembered of replays.

    Attributes:
        records: by id, the oldest first.
        rewound: the last one of each queue and consumer group.
        replayed: consumer group id -> items put back, ever: acknowledged, and to be delivered again. `phxqueue status`
            shows it, as PassedOn.replayed; (acknowledged + replayed) is what the group has been done with, repeats
            included. Counted in cursors: of a queue that groups share, the others' items count as well.
        skipped: likewise, items passed over by a replay that moved forward (PassedOn.skipped).
        trimmed_ms: queue id -> when the newest item that retention has let go was stored, Unix milliseconds; absent:
            not known.
    """

    records: dict[str, Record] = field(default_factory=dict)
    rewound: dict[Key, Rewound] = field(default_factory=dict)
    replayed: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, int] = field(default_factory=dict)
    trimmed_ms: dict[int, int] = field(default_factory=dict)
    # The highest place from which each was put back: not written, for it follows from what is.
    _stood: dict[Key, int] = field(default_factory=dict)

    def generation(self, key: Key) -> int:
        """0 before the first replay."""
        found = self.rewound.get(key)
        return 0 if found is None else found.generation

    def stood_at(self, key: Key) -> int:
        """The highest place from which replays have put a group back: what it has not reached again is replayed."""
        return self._stood.get(key, 0)

    def rewind(self, key: Key, generation: int, acked: int) -> None:
        """A replay moves a group that stood at `acked`."""
        self.rewound[key] = Rewound(generation, acked)
        self._stood[key] = max(acked, self._stood.get(key, 0))

    def begin(self, key: Key, generation: int, acked: int) -> None:
        """A group begins or ends at `acked`: there is nothing that was replayed for it."""
        self.rewound[key] = Rewound(generation, acked)
        self._stood[key] = acked

    def forget(self, keep_count: int, before_ms: int) -> None:
        """Forget the oldest replays: more than so many, or proposed before that time."""
        records = self.records
        while records:
            oldest = next(iter(records))
            if len(records) <= min(keep_count, MAX_KEPT) and records[oldest].timestamp_ms >= before_ms:
                return
            del records[oldest]

    def write(self, out: ColumnWriter) -> None:
        """Write all of it, the same on every replica."""
        out.u32(len(self.records))
        for name, record in self.records.items():
            for part in (name.encode(), record.asked):
                out.u32(len(part))
                out.raw(part)
            out.u64(record.generation)
            out.u64(record.timestamp_ms)
            out.u32(len(record.moved))
            out.numbers([number for one in record.moved for number in (one.queue_id, one.target, one.acked)])
        out.u32(len(self.rewound))
        for (queue_id, group), one in sorted(self.rewound.items()):
            out.numbers((queue_id, group, one.generation, one.acked))
        for counts in (self.replayed, self.skipped, self.trimmed_ms):
            out.u32(len(counts))
            out.numbers([number for pair in sorted(counts.items()) for number in pair])

    def read(self, source: ColumnReader) -> None:
        """Take over what was written."""
        for _ in range(source.u32()):
            name = source.raw(source.u32()).decode()
            asked = source.raw(source.u32())
            generation, timestamp_ms = source.u64(), source.u64()
            moved = tuple(Moved(*source.numbers(3)) for _ in range(source.u32()))
            self.records[name] = Record(asked, generation, timestamp_ms, moved)
        for _ in range(source.u32()):
            queue_id, group, generation, acked = source.numbers(4)
            self.begin((queue_id, group), generation, acked)
        self._recall_places()
        for counts in (self.replayed, self.skipped, self.trimmed_ms):
            for _ in range(source.u32()):
                key, value = source.numbers(2)
                counts[key] = value

    def _recall_places(self) -> None:
        """After a restore: from where groups were put back. Replays that are forgotten were long ago."""
        for record in self.records.values():
            group = Replay.FromString(record.asked).consumer_group_id
            for one in record.moved:
                key = one.queue_id, group
                self._stood[key] = max(one.acked, self._stood.get(key, 0))
