"""What the store itself costs, without Paxos, disk and network: `python benchmarks/store_apply.py`.

Times are CPU time, the best of several runs. Even so a busy machine (caches, clock speed) changes them by a factor:
compare only runs made one after the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from phxqueue.config import Cluster, ConsumerGroup, NodeAddress, Pub, QueueInfo, Store, StoreNode, Topic
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch
from phxqueue.proto.store_pb2 import AddRequest, GetRequest, StoreCommand
from phxqueue.store.batcher import Batcher, BatcherLimits, frame_batch
from phxqueue.store.queues import StoreQueues
from phxqueue.store.service import StoreService

NOW_MS = 1_700_000_000_000
ITEM = 150  # bytes of a serialized item with a 100-byte buffer


def batch(queue_id: int, sequence: int, items: int = 1) -> ItemBatch:
    header = BatchHeader(
        queue_id=queue_id,
        pub_id=1,
        consumer_group_ids=1,
        count=items,
        first_atime_ms=NOW_MS,
        last_atime_ms=NOW_MS,
        digest_sum=2**63 + sequence,
        producer_id=2**63 + 1,
        sequence=sequence,
    )
    return ItemBatch(header=header, items=bytes(ITEM * items))


def commands(entries: int, batches: int, items: int = 1, queues: int = 1) -> list[bytes]:
    sequence, made = 0, []
    for entry in range(entries):
        command = StoreCommand(version=1, timestamp_ms=NOW_MS + entry)
        for _ in range(batches):
            sequence += 1
            command.batches.append(batch(sequence % queues, sequence, items))
        made.append(command.SerializeToString())
    return made


def best(runs: int, prepare: Callable[[], Any], work: Callable[[Any], object]) -> float:
    """Seconds of the fastest run."""
    times = []
    for _ in range(runs):
        prepared = prepare()
        began = time.process_time()
        work(prepared)
        times.append(time.process_time() - began)
    return min(times)


def report(what: str, seconds: float, per: dict[str, int]) -> None:
    print(f"  {what:<58}" + "  ".join(f"{seconds / count * 1e6:9.2f} µs/{name}" for name, count in per.items()))


class InstantGroup:
    """Chooses everything at once."""

    group_id = 0

    def __init__(self) -> None:
        self.state_machine = StoreQueues()
        self.on_applied: list[Callable[[int, bytes], None]] = []
        self.on_mastership: list[Callable[[bool], None]] = []
        self.on_window_free: list[Callable[[], None]] = []
        self.window_free = True
        self.log: list[bytes] = []

    def serving(self) -> bool:
        return True

    proposing = serving

    def master_node(self) -> int | None:
        return 0

    def unreachable_reason(self) -> str:
        return ""

    def propose(self, payload: bytes) -> Deferred[Any]:
        instance = len(self.log)
        self.log.append(payload)
        outcome = succeed(self.state_machine.apply(instance, 0, payload))
        for applied in self.on_applied:
            applied(instance, payload)
        return outcome

    def cached(self, instance: int) -> bytes | None:
        return self.log[instance]

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        return succeed([self.log[instance] for instance in instances])


def service() -> tuple[StoreService, Clock, InstantGroup]:
    clock, group = Clock(), InstantGroup()
    store = Store(store_id=1, nodes=(NodeAddress(0, "127.0.0.1", 5100, 5200),))
    topic = Topic(
        topic_id=1,
        topic_name="bench",
        queue_infos=(QueueInfo(queue_info_id=1, ranges=((0, 99),)),),
        pubs=(Pub(pub_id=1, queue_info_ids=(1,), consumer_group_ids=(1,)),),
        consumer_groups=(ConsumerGroup(consumer_group_id=1),),
        stores=(store,),
    )
    node = StoreNode(
        cluster=Cluster(topics=(topic,)), topic=topic, store=store, node=store.nodes[0], data_dir=Path("bench")
    )
    return StoreService(node, {0: group}, clock, accepting=lambda: True, wall=clock.seconds), clock, group


def bench_apply() -> None:
    print("apply: one entry on every replica")
    for entries, batches, items, queues in (
        (3000, 1, 1, 1),
        (300, 64, 1, 1),
        (50, 500, 1, 1),
        (300, 64, 1, 8),
        (1000, 1, 500, 1),
    ):
        payloads = commands(entries, batches, items, queues)

        def run(machine: StoreQueues, payloads: list[bytes] = payloads) -> None:
            for instance, payload in enumerate(payloads):
                machine.apply(instance, 0, payload)

        seconds = best(5, StoreQueues, run)
        what = f"{batches} batch(es) of {items} item(s), {queues} queue(s)"
        report(what, seconds, {"entry": entries, "batch": entries * batches, "item": entries * batches * items})


def bench_batcher() -> None:
    print("building an entry of 64 parsed batches")
    parsed = [AddRequest.FromString(AddRequest(batches=[batch(1, n)]).SerializeToString()) for n in range(64)]

    def concatenate(_: object) -> None:
        for _ in range(200):
            batcher: Batcher[int] = Batcher(BatcherLimits())
            for request in parsed:
                batcher.offer(frame_batch(request.batches[0].SerializeToString()), 1, 0, 0.0)
            batcher.take(0, 0.0, NOW_MS)

    def extend(_: object) -> None:
        for _ in range(200):
            command = StoreCommand(version=1, timestamp_ms=NOW_MS)
            for request in parsed:
                command.batches.extend(request.batches)
            command.SerializeToString()

    report("the batcher: concatenating serialized batches", best(5, lambda: None, concatenate), {"batch": 200 * 64})
    report("instead: extend() of the command's batches", best(5, lambda: None, extend), {"batch": 200 * 64})


def bench_add() -> None:
    print("Add and Get through the service, consensus taking no time")
    for in_flight, items in ((1, 1), (64, 1), (512, 1), (8, 500)):
        rounds = max(6400 // in_flight // items, 20)
        requests = [
            AddRequest(topic_id=1, store_id=1, batches=[batch(1, 1 + n, items)]).SerializeToString()
            for n in range(in_flight * rounds)
        ]

        def run(
            made: tuple[StoreService, Clock, InstantGroup],
            requests: list[bytes] = requests,
            in_flight: int = in_flight,
        ) -> None:
            store, clock, _ = made
            answers: list[bytes] = []
            context: Any = None
            for first in range(0, len(requests), in_flight):
                for raw in requests[first : first + in_flight]:
                    answer = store.add(AddRequest.FromString(raw), context)
                    assert isinstance(answer, Deferred)
                    answer.addCallback(lambda response: answers.append(response.SerializeToString()))
                clock.advance(0)
            assert len(answers) == len(requests)

        seconds = best(5, service, run)
        what = f"Add, {in_flight} request(s) at a time, {items} item(s) each"
        report(what, seconds, {"request": len(requests), "item": len(requests) * items})
    for entries, batches, items in ((200, 1, 1), (200, 64, 1), (20, 500, 1), (100, 1, 500)):
        payloads = commands(entries, batches, items)

        def prepare(payloads: list[bytes] = payloads) -> StoreService:
            store, _, group = service()
            for payload in payloads:
                group.propose(payload)
            return store

        def read(store: StoreService, per_get: int = batches * items) -> None:
            position, context = 0, None
            while True:
                request = GetRequest(topic_id=1, store_id=1, queue_id=0, consumer_group_id=1, limit=per_get)
                request.next_cursor = position
                request.prev_cursor = position
                response = store.get(request, context)  # type: ignore[arg-type]
                assert not isinstance(response, Deferred)
                response.SerializeToString()
                if not response.batches:
                    return
                position = response.next_cursor

        seconds = best(3, prepare, read)
        what = f"Get, a row of {batches} batch(es) of {items} item(s) at a time"
        report(what, seconds, {"Get": entries, "item": entries * batches * items})


def bench_index() -> None:
    rows, items = 100_000, 100
    print(f"index of {rows} rows, {rows * items} items")
    machine = StoreQueues()
    for instance, payload in enumerate(commands(rows, 1, items)):
        machine.apply(instance, 0, payload)
    index = machine.queues[0]
    columns = (index.firsts, index.instances, index.masks, index.timestamps, index.digests, index.sizes, index.flags)
    print(f"  memory: {sum(column.__sizeof__() for column in columns) / rows:.1f} bytes/row")
    began = time.process_time()
    checkpoint = machine.checkpoint()
    print(f"  checkpoint, everything new: {(time.process_time() - began) * 1e3:.1f} ms")
    size = sum(len(value) for _, value in checkpoint.segments)
    print(
        f"  {len(checkpoint.segments)} segments of {size / len(checkpoint.segments):.0f} bytes, "
        f"state {len(checkpoint.state)} bytes (idempotence window of {len(machine.window)} outcomes)"
    )
    began = time.process_time()
    machine.checkpoint()
    print(f"  checkpoint, nothing new: {(time.process_time() - began) * 1e3:.1f} ms")

    def restore(copy: StoreQueues) -> None:
        copy.restore(checkpoint.state, checkpoint.segments)

    print(f"  restore: {best(3, StoreQueues, restore) * 1e3:.1f} ms")
    print(f"  state_hash: {best(3, lambda: None, lambda _: machine.state_hash()) * 1e3:.1f} ms")


if __name__ == "__main__":
    bench_apply()
    bench_batcher()
    bench_add()
    bench_index()
