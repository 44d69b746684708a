"""A process that reads queues as fast as it can, parses every item and acknowledges: the consumer of the speed table.

It says once that it reads, then ten times a second how far it is, as one JSON object a line. With ``--latency`` it also
measures from the time that stands at the head of each message (nanoseconds of the wall clock) to its arrival here.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall

from phxqueue.admin import edge
from phxqueue.admin.gather import gather
from phxqueue.admin.histogram import PERCENTILES, Histogram
from phxqueue.config import Topic, load_cluster
from phxqueue.net.routing import MasterClient
from phxqueue.net.status import Retry, RpcError
from phxqueue.producer.connecting import connection_pool, routing_settings
from phxqueue.producer.routes import store_route
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse

REPORT_INTERVAL_S = 0.1
WAIT_MS = 5000
LIMIT_ITEMS = 10_000
LIMIT_BYTES = 4 << 20
TIMESTAMP = struct.Struct(">Q")


class Tally:
    """What has been read so far."""

    def __init__(self, measure: bool) -> None:
        self.items = 0
        self.bytes = 0
        self.answers = 0
        self.latencies = Histogram()
        self._measure = measure

    def take(self, response: GetResponse, seen: int) -> None:
        """Parse and count everything in an answer from cursor `seen` on."""
        self.answers += 1
        now = time.time_ns()
        for batch in response.batches:
            if batch.first_cursor < seen:
                continue  # it came before, and its acknowledgement was lost with a master
            items = QItems.FromString(batch.items).items
            self.items += len(items)
            self.bytes += len(batch.items)
            if self._measure:
                for item in items:
                    (sent,) = TIMESTAMP.unpack_from(item.buffer)
                    self.latencies.record((now - sent) / 1e9)

    def report(self) -> dict[str, Any]:
        return {
            "items": self.items,
            "bytes": self.bytes,
            "answers": self.answers,
            "latency_us": {str(share): self.latencies.percentile(share) for share in PERCENTILES},
        }


async def read_queue(
    client: MasterClient, topic: Topic, store_id: int, queue_id: int, group: int, tally: Tally
) -> None:
    """Read one queue for ever."""
    route = store_route(topic, store_id, topic.store(store_id).group_of_queue(queue_id))
    position: int | None = None
    seen = 0
    while True:
        request = GetRequest(
            topic_id=topic.topic_id,
            store_id=store_id,
            queue_id=queue_id,
            consumer_group_id=group,
            limit=LIMIT_ITEMS,
            limit_bytes=LIMIT_BYTES,
            wait_ms=WAIT_MS,
        )
        if position is not None:
            request.prev_cursor = request.next_cursor = position
        try:
            response = await client.call(route, GET, request, WAIT_MS / 1000 + 10, try_timeout_s=WAIT_MS / 1000 + 2)
        except RpcError as error:
            if error.status.retry is Retry.NEVER:
                raise
            continue  # the store is electing: the client has waited for it already
        tally.take(response, seen)
        position = response.next_cursor
        seen = max(seen, position)


def _print_report(tally: Tally) -> None:
    print(json.dumps(tally.report()), flush=True)


async def read_all(reactor: Any, config: Path, group: int, measure: bool) -> None:
    """Read every queue of a group until we are told to stop."""
    cluster = load_cluster(config)
    topic = cluster.topics[0]
    pool = connection_pool(reactor, cluster, topic)
    client = MasterClient(pool, reactor, random.Random(), settings=routing_settings(cluster.net, topic))
    tally = Tally(measure)
    reporting = LoopingCall(_print_report, tally)
    reporting.start(REPORT_INTERVAL_S)
    queues = topic.queues_of_group(group)
    try:
        await gather(read_queue(client, topic, *queue, group, tally) for queue in queues)
    finally:
        reporting.stop()
        _print_report(tally)
        await pool.close()


def main() -> None:
    """Command line of this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--group", type=int, default=1)
    parser.add_argument("--latency", action="store_true")
    options = parser.parse_args()
    try:
        edge.run(lambda reactor: read_all(reactor, options.config, options.group, options.latency))
    except edge.Interrupted:
        sys.exit(0)


if __name__ == "__main__":
    main()
