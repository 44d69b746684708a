"""What reconciliation costs: the same work for pubs that are reconciled and one that is not, in turns.

One cluster, one producer, one consumer daemon; only the pub differs, and with it `reconcile`. Every round sends the
same number of items to each pub in turn (in changing order) and waits until they are acknowledged. What is compared is
the processor time of all processes per item: a machine with other things to do changes that much less than the rate.
"""

from __future__ import annotations

import os
import random
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_pool
from phxqueue.admin.gather import gather
from phxqueue.admin.node_status import ask_all, backlogs
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.producer import NewItem, Producer
from phxqueue.proto.digest import item_digest

#: `reconcile` of pubs 1, 2 and 3, which have one queue each: 0, 1 and 2.
MODES = ("off", "alarm", "strict")
HANDLER = "phxqueue.consumer.echo:QuietHandler"


@dataclass(slots=True)
class Cost:
    """Of one mode. For each round: processor seconds of each process per item, and items a second."""

    cpu: list[dict[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    @property
    def per_item(self) -> list[float]:
        """Seconds of all processes together, by round."""
        return [sum(one.values()) for one in self.cpu]

    def of(self, process: str) -> float:
        """The median of one process."""
        return statistics.median(one[process] for one in self.cpu)


def three_pubs() -> ClusterSpec:
    """A store of three nodes, a consumer, and a pub for each mode."""
    return ClusterSpec(
        groups=(1,),
        consumers=1,
        handlers={1: HANDLER},
        retries=0,
        pub={"reconcile": MODES[0]},
        further={
            "queue_infos": [{"queue_info_id": 10 + number, "ranges": [str(number)], "count": 1} for number in (1, 2)],
            "pubs": [
                {
                    "pub_id": 1 + number,
                    "queue_info_ids": [10 + number],
                    "consumer_group_ids": [1],
                    "reconcile": MODES[number],
                }
                for number in (1, 2)
            ],
        },
    )


async def reconciling(
    reactor: Any, directory: Path, rounds: int, items: int, batch: int, size: int, tell: Callable[[str], None]
) -> dict[str, Cost]:
    """Measure all modes in turns; one more round comes first and does not count."""
    cluster = ProcessCluster(reactor, directory, three_pubs())
    costs = {mode: Cost() for mode in MODES}
    pool = open_pool(reactor, cluster.cluster, cluster.topic, cluster.cluster.tls)
    try:
        await cluster.start()
        pids = {f"store {number}": child.pid for number, child in enumerate(cluster.stores)}
        pids |= {"consumer": cluster.consumers[0].pid, "producer": os.getpid()}
        producer = await Producer.connect(cluster.cluster, topic=cluster.topic.topic_name)
        try:
            for number in range(rounds + 1):
                order = random.sample(MODES, len(MODES))
                for mode in order:
                    queue = MODES.index(mode)

                    async def finished(queue: int = queue) -> bool:
                        rows = backlogs(await ask_all(pool, cluster.topic))
                        return any(row.queue_id == queue and row.items == 0 for row in rows)

                    before, began = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
                    await send(producer, queue + 1, items, batch, size)
                    while not await finished():
                        await deferLater(reactor, 0.05, lambda: None)
                    took = time.monotonic() - began
                    if number:
                        used = {name: (cpu_seconds(pid) - before[name]) / items for name, pid in pids.items()}
                        costs[mode].cpu.append(used)
                        costs[mode].rates.append(items / took)
                tell(f"round {number} of {rounds}: {', '.join(order)}")
        finally:
            await producer.close()
    finally:
        await pool.close()
        await cluster.close()
    return costs


async def send(producer: Producer, pub_id: int, items: int, batch: int, size: int) -> None:
    """Enqueue so many items, 8 batches at a time."""
    left = items

    async def sender() -> None:
        nonlocal left
        while left > 0:
            count = min(batch, left)
            left -= count
            receipts = await producer.enqueue_many([NewItem(pub_id, 1, os.urandom(size)) for _ in range(count)])
            assert receipts.all_stored

    await gather(sender() for _ in range(8))


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process, to the nanosecond."""
    spent = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def digest_seconds(size: int) -> float:
    """One digest of an item of this size."""
    content = os.urandom(size)
    return (
        min(timeit.repeat(lambda: item_digest(7, 11, content), timer=time.process_time, number=20_000, repeat=5))
        / 20_000
    )


def lines(costs: dict[str, Cost], digest_s: float) -> Sequence[str]:
    """The table: medians, and ratios of what was measured in the same round."""
    base = costs["off"]
    names = list(base.cpu[0])
    found = [
        f"| reconcile | CPU per item | to `off`, by round: median (least to most) | rate | {' | '.join(names)} |",
        f"|---|---|---|---|{'---|' * len(names)}",
    ]
    for mode, cost in costs.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(cost.per_item, base.per_item, strict=True))
        spread = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        shares = " | ".join(f"{cost.of(name) * 1e6:.1f} µs" for name in names)
        found.append(
            f"| {mode} | {statistics.median(cost.per_item) * 1e6:.1f} µs | {spread} | "
            f"{statistics.median(cost.rates):,.0f}/s | {shares} |"
        )
    share = 2 * digest_s / (statistics.median(base.per_item) - 2 * digest_s)
    told = (
        f"`off` compares nothing, but producer and consumer make digests all the same: 2 × {digest_s * 1e6:.2f} µs an "
        f"item, {share:.1%} of what the item costs without them."
    )
    found += ["", told]
    return found
