"""What a million delayed items cost the state machine: memory, the hot path beside them, and firing. In one process."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from phxqueue.daemon.memory import resident_bytes
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import FireTimers, StoreCommand
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import TIMER_VERSION

NOW_MS = 1_700_000_000_000
SPREAD_MS = 24 * 3600 * 1000
PER_ENTRY = 100
HOT_ENTRIES = 2000
FIRED_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class DelayedCost:
    """What was found. Times in seconds of processor, sizes in bytes."""

    items: int
    resident: int
    add: float
    hot_before: float
    hot_beside: float
    fire: float

    def lines(self) -> list[str]:
        """Rows of a Markdown table."""
        return [
            "| delayed items | |",
            "|---|---|",
            f"| waiting, each due at another time of a day | {self.items:,} |",
            f"| memory of their table | {self.resident / 1e6:.0f} MB |",
            f"| taking one in | {self.add * 1e6:.1f} µs |",
            f"| an entry of {PER_ENTRY} batches without delay, with none waiting | {self.hot_before * 1e6:.0f} µs |",
            f"| the same, beside them | {self.hot_beside * 1e6:.0f} µs |",
            f"| firing {FIRED_AT_ONCE:,} of them (one command) | {self.fire * 1000:.0f} ms |",
        ]


def measure_delayed(items: int) -> DelayedCost:
    """Fill a state machine with so many of them."""
    machine, source = StoreQueues(), random.Random(1)
    hot_before = _hot(machine)
    before = resident_bytes()
    adding = 0.0
    for _ in range(items // PER_ENTRY):
        entry = _entry([NOW_MS + 60_000 + source.randrange(SPREAD_MS) for _ in range(PER_ENTRY)])
        adding += _apply(machine, entry)
    resident = resident_bytes() - before
    hot_beside = _hot(machine)
    fire = FireTimers(due_ms=NOW_MS + 2 * SPREAD_MS, most=FIRED_AT_ONCE)
    firing = _apply(machine, StoreCommand(version=TIMER_VERSION, timestamp_ms=NOW_MS, fire=fire).SerializeToString())
    return DelayedCost(items, resident, adding / items, hot_before, hot_beside, firing)


def _hot(machine: StoreQueues) -> float:
    entry = _entry([0] * PER_ENTRY)
    return min(sum(_apply(machine, entry) for _ in range(HOT_ENTRIES // 10)) for _ in range(10)) / (HOT_ENTRIES // 10)


def _apply(machine: StoreQueues, entry: bytes) -> float:
    began = time.process_time()
    machine.apply(machine.applied + 1, 0, entry)
    return time.process_time() - began


def _entry(due: list[int]) -> bytes:
    batches = [
        ItemBatch(
            header=BatchHeader(
                queue_id=number % 16, pub_id=1, consumer_group_ids=3, count=1, digest_sum=number, deliver_at_ms=due_ms
            ),
            items=b"x" * 100,
        )
        for number, due_ms in enumerate(due)
    ]
    return StoreCommand(version=TIMER_VERSION, timestamp_ms=NOW_MS, batches=batches).SerializeToString()
