"""Clients of a few quiet queues that write down when each operation was called, when it returned, and with what.

What they write is checked against sequential models (phxqueue.testing.linearizability): the end of a queue, to which
items are appended, and the acknowledged cursor of its reading group.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.clients import open_master_client
from phxqueue.admin.gather import gather
from phxqueue.admin.node_status import NodeReport, ask_all
from phxqueue.net.routing import MasterClient, Route
from phxqueue.net.status import RpcError
from phxqueue.producer import EnqueueError, OutcomeUnknown, Producer, ProducerClosed
from phxqueue.producer.routes import store_route
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.testing.linearizability import Operation, Recorder
from tests.chaos.cluster import ChaosCluster
from tests.chaos.spec import WATCHED_GROUP, WATCHED_PUBS

APPENDERS, READERS = 2, 3
#: Pause between two operations of one client, on average: some thousand operations per queue and round.
PAUSE_S = 0.4
CALL_S = 5.0
WATCH_S, SETTLE_S = 0.25, 30.0
ELECTIONS = 8
"""Between two looks, at most, are counted: more do not make the history any looser."""


def key_of(queue_id: int, *more: int) -> str:
    return "/".join(map(str, (1, queue_id, *more)))


@dataclass
class Mastership:
    """Who was master of a group, and when that was last seen (by the call of the question)."""

    ballot: int = -1
    seen: float = 0.0


@dataclass
class Historian:
    """Runs the clients, collects what they saw.

    Attributes:
        complaints: what no order of operations could explain, found on the way.
    """

    reactor: Any
    cluster: ChaosCluster
    rng: random.Random
    recorder: Recorder = field(default_factory=lambda: Recorder(time.monotonic))
    complaints: list[str] = field(default_factory=list)
    failovers: list[Operation] = field(default_factory=list)
    _unknown: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # content -> (token, queue)
    _refused: dict[bytes, int] = field(default_factory=dict)
    _cursors: dict[tuple[int, int], bytes] = field(default_factory=dict)  # confirmed (queue, cursor) -> content
    _ends: dict[int, int] = field(default_factory=dict)  # highest end seen
    _masters: dict[int, Mastership] = field(default_factory=dict)
    _stopping: bool = False
    _running: Deferred[Any] | None = None

    async def start(self) -> None:
        """Connect everybody and begin, once every group has a master."""
        groups = self.cluster.topic.stores[0].paxos_groups
        while len(self._masters) < groups:
            await self._look_at_masters()
        clients = []
        for pub_id, queue_id in WATCHED_PUBS.items():
            for number in range(APPENDERS):
                producer = await self.cluster.producer()
                clients.append(self._append(producer, pub_id, queue_id, f"appender {queue_id}.{number}"))
            for number in range(READERS):
                client = open_master_client(self.reactor, self.cluster.cluster, self.cluster.topic, self.cluster.pool)
                clients.append(self._read(client, queue_id, f"reader {queue_id}.{number}"))
        self._running = Deferred.fromCoroutine(gather([*clients, self._watch_masters()]))

    async def stop(self) -> None:
        """Let every client finish its operation, and look at the masters once more."""
        self._stopping = True
        if self._running is not None:
            await self._running
        deadline = self.reactor.seconds() + SETTLE_S
        while not await self._look_at_masters() and self.reactor.seconds() < deadline:
            await self._pause(WATCH_S)

    async def close(self) -> None:
        """Stop at once, whatever is under way."""
        self._stopping = True
        if self._running is not None:
            self._running.addErrback(lambda failure: failure.trap(CancelledError))
            self._running.cancel()

    def operations(self) -> list[Operation]:
        """The history."""
        return [*self.recorder.operations(), *self.failovers]

    def _pause(self, seconds: float = PAUSE_S) -> Deferred[None]:
        return deferLater(self.reactor, self.rng.uniform(0.0, 2.0) * seconds, lambda: None)

    # ---- appending -------------------------------------------------------------------------------

    async def _append(self, producer: Producer, pub_id: int, queue_id: int, name: str) -> None:
        number = 0
        while not self._stopping:
            content = f"{name} {number}".encode()
            number += 1
            token = self.recorder.call("queue-end", key_of(queue_id), name, "append", count=1)
            try:
                receipt = await producer.enqueue(pub_id, 1, content)
            except ProducerClosed:
                return
            except OutcomeUnknown:
                self._unknown[content] = token, queue_id
            except EnqueueError:
                self.recorder.refused(token)
                self._refused[content] = queue_id
            else:
                self.recorder.returned(token, first=receipt.cursor)
                self._confirmed(queue_id, receipt.cursor, content)
            await self._pause()

    def _confirmed(self, queue_id: int, cursor: int, content: bytes) -> None:
        other = self._cursors.setdefault((queue_id, cursor), content)
        if other != content:
            self.complaints.append(f"queue {queue_id}: {content!r} and {other!r} were both given cursor {cursor}")

    # ---- reading -----------------------------------------------------------------------------------

    async def _read(self, client: MasterClient, queue_id: int, name: str) -> None:
        route = self._route(queue_id)
        cursor, end = ("cursor", key_of(queue_id, WATCHED_GROUP), name), ("queue-end", key_of(queue_id), name)
        acked = 0
        while not self._stopping:
            request = GetRequest(
                topic_id=self.cluster.topic.topic_id, store_id=1, queue_id=queue_id, consumer_group_id=WATCHED_GROUP
            )
            tokens = [self.recorder.call(*cursor, "read"), self.recorder.call(*end, "end")]
            ack = None
            if self.rng.random() < 0.4:
                request.prev_cursor = min(self._ends.get(queue_id, 0), acked + self.rng.randrange(4))
                ack = self.recorder.call(*cursor, "ack", position=request.prev_cursor)
            try:
                response: GetResponse = await client.call(route, GET, request, CALL_S)
            except RpcError:
                for token in tokens:
                    self.recorder.refused(token)
                if ack is not None:  # also when refused: a Get takes it in before it may have to wait for the disk
                    self.recorder.unknown(ack)
            else:
                acked = response.prev_cursor
                self.recorder.returned(tokens[0], position=response.prev_cursor)
                self.recorder.returned(tokens[1], end=response.end_cursor)
                self._ends[queue_id] = max(self._ends.get(queue_id, 0), response.end_cursor)
                if ack is not None:
                    self.recorder.returned(ack)
                if response.reset:
                    self.complaints.append(f"{name}: the store does not know position {request.prev_cursor} any more")
            await self._pause()

    def _route(self, queue_id: int) -> Route:
        topic = self.cluster.topic
        return store_route(topic, 1, topic.store(1).group_of_queue(queue_id))

    # ---- masters -------------------------------------------------------------------------------------

    async def _watch_masters(self) -> None:
        while not self._stopping:
            await self._look_at_masters()
            await self._pause(WATCH_S)

    async def _look_at_masters(self) -> bool:
        """Note every change of master as an operation that may take acknowledgements back.

        Returns whether every group has a master under a lease.
        """
        every = True
        asked = time.monotonic()
        reports = await ask_all(self.cluster.pool, self.cluster.topic, 1.0)
        answered = time.monotonic()
        for group_id in range(self.cluster.topic.stores[0].paxos_groups):
            claims = leaseholders(reports, group_id)
            if not claims:
                every = False
                continue
            known = self._masters.setdefault(group_id, Mastership(max(claims), asked))
            if max(claims) > known.ballot:
                elections = min((max(claims) >> 16) - (known.ballot >> 16), ELECTIONS)
                self.failovers += self._failovers(group_id, max(elections, 1), known.seen, answered)
            if max(claims) >= known.ballot:
                known.ballot, known.seen = max(claims), asked
        return every

    def _failovers(self, group_id: int, elections: int, call: float, returned: float) -> Iterator[Operation]:
        for queue_id in WATCHED_PUBS.values():
            if self.cluster.topic.store(1).group_of_queue(queue_id) == group_id:
                for _ in range(elections):
                    yield Operation(
                        object="cursor",
                        key=key_of(queue_id, WATCHED_GROUP),
                        client="masters",
                        name="failover",
                        arguments={"floor": 0},
                        call=call,
                        returned=returned,
                        result={},
                    )

    # ---- afterwards ------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Read the queues from their beginning: what became of the appends nobody knew about, and is the rest there?"""
        client = open_master_client(self.reactor, self.cluster.cluster, self.cluster.topic, self.cluster.pool)
        for queue_id in WATCHED_PUBS.values():
            found = dict(await read_whole_queue(client, self._route(queue_id), self.cluster, queue_id))
            self._compare(queue_id, found)
            for cursor, content in found.items():
                if content in self._unknown:
                    self.recorder.took_effect(self._unknown.pop(content)[0], first=cursor)
        for token, _ in self._unknown.values():
            self.recorder.refused(token)
        self._unknown.clear()

    def _compare(self, queue_id: int, found: dict[int, bytes]) -> None:
        first = min(found, default=0)
        for (queue, cursor), content in self._cursors.items():
            if queue == queue_id and cursor >= first and found.get(cursor) != content:
                self.complaints.append(
                    f"queue {queue_id}, cursor {cursor}: {content!r} was confirmed, {found.get(cursor)!r} is there"
                )
        for content, queue in self._refused.items():
            if queue == queue_id and content in found.values():
                self.complaints.append(f"queue {queue_id}: {content!r} was refused and is there")
        if len(set(found.values())) < len(found):
            self.complaints.append(f"queue {queue_id}: some item is there twice")


def leaseholders(reports: Sequence[NodeReport], group_id: int) -> list[int]:
    """The ballots of those who hold the lease of a group.

    A master that cannot reach anybody says that it is master until it has given up, long after its lease ended and
    perhaps after another has served: what it says does not show that nothing has changed.
    """
    groups = [report.group(group_id) for report in reports]
    return [group.ballot for group in groups if group is not None and group.is_master and group.lease_remaining_s > 0]


async def read_whole_queue(
    client: MasterClient, route: Route, cluster: ChaosCluster, queue_id: int, first: int = 0
) -> list[tuple[int, bytes]]:
    """Every item of a queue with its cursor, from `first` on, moving nothing.

    Raises:
        RpcError: OUT_OF_RANGE when the queue begins behind `first` by now.
    """
    found: list[tuple[int, bytes]] = []
    request = GetRequest(
        topic_id=cluster.topic.topic_id, store_id=1, queue_id=queue_id, random=True, limit=1000, next_cursor=first
    )
    while True:
        response: GetResponse = await client.call(route, GET, request, 10.0)
        for batch in response.batches:
            items = QItems.FromString(batch.items).items
            found += [(batch.first_cursor + place, item.buffer) for place, item in enumerate(items)]
        if response.next_cursor >= response.end_cursor:
            return found
        if response.next_cursor == request.next_cursor:
            raise AssertionError(f"queue {queue_id} cannot be read beyond {response.next_cursor}")
        request.next_cursor = response.next_cursor
