"""What clients do in one run: how many of them, in how many queues and groups, with how much at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from phxqueue.net.status import Status

TOPIC_ID = 1
STORE_ID = 1
PUB_ID = 1
PLAIN_QUEUES = (0, 1, 2)
DELAYED_QUEUE = 3
DELAY = 0.8
"""Of the delayed queue, in seconds."""
GRACE = 2.0
"""How long a group is kept that is in the files no more, in seconds."""
SILENT = 5
"""One consumer of so many does not say of which generation its cursors are, as a client that knows none."""


def tells_generation(key: tuple[int, int]) -> bool:
    """Whether the consumer of a (queue id, consumer group id) does."""
    return (key[0] * 64 + key[1]) % SILENT != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Drawn from the seed, so that seeds differ in what is tried and not only in what goes wrong.

    queues, groups: ids of queues and consumer groups in use.
    producers, lanes, batches: every producer has so many lanes, every lane sends so many batches, one at a time.
    batch_items, item_bytes: the sizes to choose from.
    think: longest pause between two batches of a lane, in seconds.
    wall_skew: by how much the nodes' clocks are off, in seconds.
    entry_batches, sync_interval_ms: the store's settings for batches per entry and for replicating cursors.
    retention_bytes: what a queue keeps of what everybody has acknowledged.
    delayers: clients that enqueue delayed batches, and cancel some.
    chains: clients that enqueue what will walk an attempt chain.
    relocate_bytes: log that is kept before it is looked at what keeps it.
    repeaters: whether producers repeat, late, requests that have long been answered.
    promisers: clients of half messages, and of batches that belong together; with them come some of idempotency keys.
    replayers: operators who have groups read again.
    founders: operators who create a consumer group, and perhaps delete it.
    leavers: operators who take the last group out of the files, and put it back.
    reporting: whether producers report what was confirmed to them.
    """

    queues: tuple[int, ...] = PLAIN_QUEUES
    groups: tuple[int, ...] = (1,)
    producers: int = 3
    lanes: int = 2
    batches: int = 30
    batch_items: tuple[int, ...] = (1, 1, 2, 5, 20)
    item_bytes: tuple[int, ...] = (0, 20, 100)
    think: float = 0.15
    wall_skew: float = 0.05
    entry_batches: int = 100
    sync_interval_ms: int = 100
    retention_bytes: int = 1 << 30
    delayers: int = 0
    chains: int = 0
    relocate_bytes: int = 1 << 30
    repeaters: bool = False
    replayers: int = 0
    founders: int = 0
    leavers: int = 0
    promisers: int = 0
    reporting: bool = False

    @property
    def mask(self) -> int:
        """The bits of all groups."""
        return sum(1 << (group - 1) for group in self.groups)

    @property
    def refusals(self) -> frozenset[Status]:
        """What a good request may be answered because of the files."""
        return frozenset({Status.INVALID_ARGUMENT} if self.leavers else ())

    def delay(self, queue_id: int) -> float:
        """How long items rest in a queue, in seconds."""
        return DELAY if queue_id == DELAYED_QUEUE else 0.0


def draw(random: Random, busy: bool = False) -> Workload:
    """Choose one. `busy`: one that always has many entries in flight."""
    return replace(_draw(random, busy), retention_bytes=random.choice((0, 0, 500, 1 << 30)))


def _draw(random: Random, busy: bool) -> Workload:
    kind = "pipelined" if busy else random.choice(("even", "even", "pipelined", "large", "groups", "delayed"))
    skew = random.choice((0.05, 0.05, 5.0))
    sync = random.choice((50, 200))
    if kind == "pipelined":  # many small entries in flight
        return Workload(
            producers=2,
            lanes=10,
            batches=24 if busy else 16,
            batch_items=(1, 2),
            think=0.15 if busy else 0.3,
            entry_batches=1,
            wall_skew=skew,
            sync_interval_ms=sync,
        )
    if kind == "large":  # promises and learned ranges of several pages
        return Workload(
            producers=2,
            lanes=5,
            batches=16,
            batch_items=(2, 5, 10),
            item_bytes=(50, 400),
            entry_batches=2,
            wall_skew=skew,
            sync_interval_ms=sync,
        )
    if kind == "groups":
        return Workload(queues=(0, 1), groups=(1, 2, 7), wall_skew=skew, sync_interval_ms=sync)
    if kind == "delayed":
        return Workload(
            queues=(0, DELAYED_QUEUE), groups=(1, 64), wall_skew=min(skew, 0.2), sync_interval_ms=sync, batches=25
        )
    return Workload(wall_skew=skew, sync_interval_ms=sync)
