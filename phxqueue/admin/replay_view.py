"""How replays are shown: the parts of all Paxos groups together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from phxqueue.admin.rendering import utc_time
from phxqueue.admin.table import table
from phxqueue.proto.store_pb2 import QueueReplay, ReplayStatus


@dataclass(slots=True)
class Progress:
    """One replay, in all stores.

    Attributes:
        asked: as the first Paxos group remembers it.
        queues: (store id, what became of the queue).
    """

    asked: ReplayStatus
    queues: list[tuple[int, QueueReplay]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Items that were put back and are not acknowledged again."""
        return sum(queue.left for _, queue in self.queues)

    @property
    def state(self) -> str:
        """In a word or two."""
        if self.left:
            return f"{self.left} items left"
        if self.queues and all(queue.superseded for _, queue in self.queues):
            return "superseded"
        return "done"

    @property
    def target(self) -> str:
        """Where to."""
        kind = self.asked.WhichOneof("target")
        if kind == "to_cursor":
            return f"cursor {self.asked.to_cursor}"
        return utc_time(self.asked.to_time_ms) if kind == "to_time_ms" else "earliest"


def merged(found: Iterable[tuple[int, ReplayStatus]]) -> list[Progress]:
    """Put together what the Paxos groups say, as (store id, status); the oldest replay first."""
    replays: dict[str, Progress] = {}
    for store_id, status in found:
        one = replays.setdefault(status.id, Progress(status))
        if status.timestamp_ms < one.asked.timestamp_ms:
            one.asked = status
        one.queues += [(store_id, queue) for queue in status.queues]
    return sorted(replays.values(), key=lambda one: one.asked.timestamp_ms)


def as_text(found: Sequence[Progress], *, each_queue: bool) -> list[str]:
    """Return one line each, and (`each_queue`) what became of every queue."""
    if not found:
        return ["no replays are remembered"]
    rows = [
        (
            one.asked.id, utc_time(one.asked.timestamp_ms), one.asked.consumer_group_id, one.asked.pub_id,
            one.target + (" (skip)" if one.asked.skip else ""), len(one.queues), one.state,
        )
        for one in found
    ]  # fmt: skip
    lines = table(("ID", "BEGAN", "GROUP", "PUB", "TO", "QUEUES", "STATE"), rows, left=2, indent=0)
    return [*lines, *queue_lines(found)] if each_queue else lines


def queue_lines(found: Sequence[Progress], *, planned: bool = False) -> list[str]:
    """Return the queues as a table; `planned`: nothing has been moved."""
    rows = [
        (
            f"{store_id}:{queue.queue_id}",
            queue.acked,
            queue.target,
            queue.position,
            queue.left,
            "" if planned else _state(queue),
        )
        for one in found
        for store_id, queue in sorted(one.queues, key=lambda pair: (pair[0], pair[1].queue_id))
    ]
    return table(("QUEUE", "STOOD AT", "MOVED TO", "IS AT", "LEFT", "STATE"), rows)


def _state(queue: QueueReplay) -> str:
    if queue.superseded:
        return "superseded"
    return "under way" if queue.left else "done"


def as_documents(found: Sequence[Progress]) -> list[dict[str, Any]]:
    """Return plain values, ready for JSON."""
    return [
        {
            "id": one.asked.id,
            "began_ms": one.asked.timestamp_ms,
            "consumer_group_id": one.asked.consumer_group_id,
            "pub_id": one.asked.pub_id,
            "to": one.target,
            "skip": one.asked.skip,
            "left": one.left,
            "queues": [
                {
                    "store_id": store_id,
                    "queue_id": queue.queue_id,
                    "stood_at": queue.acked,
                    "moved_to": queue.target,
                    "position": queue.position,
                    "left": queue.left,
                    "superseded": queue.superseded,
                }
                for store_id, queue in one.queues
            ],
        }
        for one in found
    ]
