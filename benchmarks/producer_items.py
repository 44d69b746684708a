"""What one item costs a producer in Python, against a store in the same process that confirms everything at once.

    python -m benchmarks.producer_items [--seconds S]

`enqueue`: so many coroutines each await one item after the other. `enqueue_many`: lists of 500, eight at a time.
Everything on the producer's side is in the figure: the caller's coroutine, validation, serialization, digest,
batching, building the request, reading the answer, receipts. The network and the store are not.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from phxqueue.config import NodeAddress, Pub, QueueInfo, Store, Topic
from phxqueue.producer import NewItem, Producer
from phxqueue.proto.store_pb2 import AddResponse

reactor: Any = global_reactor


class InstantStore:
    """Answers every Add at the next turn of the reactor, having serialized the request as the network would."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self.requests = 0
        self.bytes = 0

    def call(
        self, route: object, method: object, request: Any, deadline_s: float, *, try_timeout_s: float | None = None
    ) -> Deferred[AddResponse]:
        self.requests += 1
        self.bytes += len(request.SerializeToString())
        response = AddResponse()
        for batch in request.batches:
            header = batch.header
            first = self._ends.get(header.queue_id, 0)
            self._ends[header.queue_id] = first + header.count
            response.results.add(first_cursor=first, count=header.count)
        answer: Deferred[AddResponse] = Deferred()
        reactor.callLater(0, answer.callback, response)
        return answer


def make_topic(queues: int = 10) -> Topic:
    return Topic(
        topic_id=1000,
        topic_name="bench",
        handle_ids=(1,),
        queue_infos=(QueueInfo(queue_info_id=1, ranges=((0, queues - 1),)),),
        pubs=(Pub(pub_id=1, queue_info_ids=(1,), consumer_group_ids=(1,)),),
        stores=(Store(store_id=1, nodes=(NodeAddress(0, "127.0.0.1", 5100),)),),
    )


async def run_enqueue(producer: Producer, callers: int, seconds: float, uins: int) -> int:
    buffer = b"x" * 100
    end = time.perf_counter() + seconds
    done = 0

    async def caller(number: int) -> None:
        nonlocal done
        uin = number % uins + 1 if uins else 0
        while time.perf_counter() < end:
            await producer.enqueue(1, 1, buffer, uin)
            done += 1

    await gatherResults([ensureDeferred(caller(number)) for number in range(callers)])
    return done


async def run_many(producer: Producer, size: int, in_flight: int, seconds: float, uins: int) -> int:
    buffer = b"x" * 100
    items = [NewItem(1, 1, buffer, number % uins + 1 if uins else 0) for number in range(size)]
    end = time.perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            receipts = await producer.enqueue_many(items)
            if not receipts.all_stored:
                receipts.raise_for_errors()
            done += size

    await gatherResults([ensureDeferred(caller()) for _ in range(in_flight)])
    return done


async def measure(name: str, work: Callable[[Producer], Awaitable[int]]) -> None:
    store = InstantStore()
    producer = Producer(make_topic(), store, reactor)
    cpu, began = time.process_time(), time.perf_counter()
    done = await work(producer)
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - began
    await producer.close()
    print(
        f"{name:44} {done / elapsed:>9,.0f}/s  {cpu / done * 1e6:6.2f} µs CPU/item  "
        f"{done / store.requests:7.1f} items/request",
        flush=True,
    )


async def main(seconds: float) -> None:
    for callers in (1, 64, 512):
        for uins in (0, 100_000, 8):
            key = "no uin" if not uins else f"{min(uins, callers)} uins"
            await measure(
                f"enqueue, {callers} callers, {key}", lambda p, c=callers, u=uins: run_enqueue(p, c, seconds, u)
            )
    for uins in (0, 100_000, 8):
        key = "no uin" if not uins else f"{min(uins, 500)} uins"
        await measure(f"enqueue_many of 500, 8 at a time, {key}", lambda p, u=uins: run_many(p, 500, 8, seconds, u))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="per line")
    arguments = parser.parse_args()
    finished = ensureDeferred(main(arguments.seconds))
    failures: list[object] = []
    finished.addErrback(failures.append)
    finished.addBoth(lambda _: reactor.stop())
    reactor.run()
    if failures:
        raise SystemExit(str(failures[0]))
