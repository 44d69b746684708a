"""What ten million retained items cost the state machine: memory, checkpoints, and the start of a node. In one process.

The entries are made up but are what a master would propose: 100 items a batch, four batches an entry, many producers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from phxqueue.daemon.memory import resident_bytes
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import StoreCommand
from phxqueue.store.queues import StoreQueues

BATCH_ITEMS = 100
BATCHES_PER_ENTRY = 4
PRODUCERS = 64
QUEUES = 16
ENTRIES_PER_SECOND = 2000
CHECKPOINT_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class StateCost:
    """What was found. Times in seconds, sizes in bytes."""

    items: int
    resident: int
    longest_checkpoint: float
    state: int
    segments: int
    restore: float
    restore_steps: int
    longest_restore_step: float

    def lines(self) -> list[str]:
        """Rows of a Markdown table."""
        return [
            "| state machine | |",
            "|---|---|",
            f"| items retained, in batches of {BATCH_ITEMS} | {self.items:,} |",
            f"| memory of its state | {self.resident / 1e6:.0f} MB |",
            f"| longest checkpoint (the reactor stands still) | {self.longest_checkpoint * 1000:.1f} ms |",
            f"| state written by each | {self.state / 1e3:.0f} kB |",
            f"| segments, written once | {self.segments / 1e6:.1f} MB |",
            f"| restored in | {self.restore:.2f} s |",
            f"| steps of that, the longest | {self.restore_steps:,}, {self.longest_restore_step * 1000:.1f} ms |",
        ]


def measure_state(items: int) -> StateCost:
    """Fill a state machine with so many items, checkpoint it on the way as a node does, and restore it."""
    machine = StoreQueues()
    before = resident_bytes()
    stored: dict[bytes, bytes] = {}
    longest, state = 0.0, b""
    entries = items // (BATCH_ITEMS * BATCHES_PER_ENTRY)
    for number in range(entries):
        machine.apply(number, 0, _entry(number))
        if number % CHECKPOINT_ENTRIES == CHECKPOINT_ENTRIES - 1 or number == entries - 1:
            began = time.perf_counter()
            checkpoint = machine.checkpoint()
            longest = max(longest, time.perf_counter() - began)
            stored.update(checkpoint.segments)
            for key in checkpoint.dropped:
                del stored[key]
            state = checkpoint.state
    resident = resident_bytes() - before - sum(map(len, stored.values()))
    copy = StoreQueues()
    restore = _restore(copy, state, stored)
    if copy.state_hash() != machine.state_hash():
        raise AssertionError("what was restored differs")
    return StateCost(
        entries * BATCH_ITEMS * BATCHES_PER_ENTRY,
        resident,
        longest,
        len(state),
        sum(map(len, stored.values())),
        *restore,
    )


def _restore(copy: StoreQueues, state: bytes, stored: dict[bytes, bytes]) -> tuple[float, int, float]:
    """As a node that fetched the checkpoint does, but without a rest; returns how long, steps, and the longest."""
    work, steps, longest = copy.restoring(state, stored.items()), 0, 0.0
    began = before = time.perf_counter()
    while True:
        try:
            next(work)
        except StopIteration as end:
            end.value()
            return time.perf_counter() - began, steps + 1, max(longest, time.perf_counter() - before)
        now = time.perf_counter()
        steps, longest, before = steps + 1, max(longest, now - before), now


def _entry(number: int) -> bytes:
    batches = []
    for place in range(BATCHES_PER_ENTRY):
        sequence = number * BATCHES_PER_ENTRY + place
        header = BatchHeader(
            queue_id=sequence % QUEUES,
            pub_id=1,
            consumer_group_ids=1,
            count=BATCH_ITEMS,
            digest_sum=sequence,
            producer_id=1 + sequence % PRODUCERS,
            sequence=1 + sequence // PRODUCERS,
        )
        batches.append(ItemBatch(header=header))
    at_ms = 1_700_000_000_000 + number * 1000 // ENTRIES_PER_SECOND
    return StoreCommand(version=1, timestamp_ms=at_ms, batches=batches).SerializeToString()
