"""Consumers of the simulation: each reads one queue for one consumer group and acknowledges by its next Get."""

from __future__ import annotations

from functools import partial

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.store.state import FENCE_VERSION
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers.cursors import Stand
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.sleepers import Sleeper
from phxqueue.testing.sim.workload import STORE_ID, TOPIC_ID, tells_generation

FORGET = 0.02
"""Probability, per answer, that the consumer dies and another takes over, knowing nothing."""
STALE = 0.01
"""Probability, per Get, that it asks for an old position, as a consumer that lost its lock would."""
WAIT_MS = 200


class LedgerConsumer:
    """Reads a queue from where its group stands; writes down what it got.

    Attributes:
        received: every item got so far, by cursor.
        position: everything below was got and (by the next Get) acknowledged.
    """

    def __init__(self, cluster: Cluster, books: Books, queue_id: int, group: int) -> None:
        self.received: dict[int, bytes] = {}
        self.position = 0
        self.key = (queue_id, group)
        self.stopped = False
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._caller = Caller(cluster, books.workload.refusals)
        self._wanted: int | None = None
        self._generation: int | None = None  # of the group in the queue; None: it does not say
        self._tells = tells_generation(self.key)
        self._acknowledge: int | None = None
        self._stopping = False
        self._lock_version = 1
        self._fenced_below = 0  # the highest lock version that was answered

    @property
    def generation(self) -> int:
        """Of the group in the queue, as last told."""
        return self._generation or 0

    def start(self) -> None:
        """Begin."""
        self._get()

    def stop(self) -> None:
        """Acknowledge what was got, then make no further calls."""
        self._stopping = True

    def _get(self) -> None:
        limit = 0 if self._stopping else self._random.choice((10, 50))
        request = GetRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            queue_id=self.key[0],
            limit=limit,
            consumer_group_id=self.key[1],
            wait_ms=WAIT_MS,
            fencing_token=self._lock_version,
        )
        acknowledge = self.position if self._stopping else self._acknowledge
        if acknowledge is not None:
            request.prev_cursor = acknowledge
            self._books.cursors.asked(self.key, acknowledge, self.generation)
        if self._tells and self._generation is not None:
            request.generation = self._generation
        wanted = self._wanted
        if wanted and self._random.random() < STALE:
            wanted = self._random.randrange(wanted)
        if wanted is not None:
            request.next_cursor = wanted
        floors = self._books.get_floors(self.key)
        token = self._books.recording.get(self.key, acknowledge)
        keeper = self._keeper()

        def answered(result: Answer) -> None:
            if isinstance(result, GetResponse):
                if keeper is not None and keeper == self._keeper():
                    self._fenced_below = request.fencing_token
                self._books.recording.got(token, result.end_cursor, result.prev_cursor)
            else:
                self._books.recording.not_got(token)
            self._answered(result, limit, wanted, floors)

        self._caller.call(GET, request, answered)

    def _answered(self, result: Answer, limit: int, wanted: int | None, floors: tuple[int, Stand]) -> None:
        if not isinstance(result, GetResponse):
            self._cluster.world.call_later(self._random.uniform(0.01, 0.1), self._get)
            return
        if limit == 0:
            self._books.reads.read(self.key[0], floors[0], result.end_cursor)
            self._books.cursors.answered(self.key, floors[1], (result.generation, result.prev_cursor))
            self.stopped = True
            return
        self.received.update(self._books.got(self.key, floors, wanted, result))
        anew = result.generation != self.generation
        self.position = result.next_cursor if anew else max(self.position, result.next_cursor)
        self._generation = result.generation
        self._acknowledge = self._wanted = result.next_cursor
        if self._random.random() < FORGET:
            self._hand_over()
        self._cluster.world.call_later(self._random.uniform(0, 0.02), self._get)

    def _hand_over(self) -> None:
        """Another consumer takes the lock over; the former one may only have been asleep."""
        former, position = self._lock_version, self._acknowledge or 0
        passed = partial(self._has_passed, former)
        sleeper = Sleeper(
            self._cluster, self._books, self.key, former, position, passed, self.generation, tells=self._tells
        )
        self._cluster.world.call_later(self._random.choice((0.05, 0.5, 2.0)) * self._random.random(), sleeper.wake)
        self._lock_version += 1
        self._acknowledge = self._wanted = None

    def _keeper(self) -> tuple[int, int] | None:
        """The mastership that replicates tokens; None: its master has yet to hear which program every node runs."""
        group_id = self.key[0] % self._cluster.shape.paxos_groups
        master = self._cluster.master(group_id)
        group = None if master is None else self._cluster.group(master, group_id)
        if master is None or group is None or group.lowest_version < FENCE_VERSION:
            return None
        return master, group.core.ballot

    def _has_passed(self, lock_version: int) -> bool:
        return self._fenced_below > lock_version


class Newcomer:
    """A consumer that knows nothing asks where its group stands."""

    def __init__(self, cluster: Cluster, books: Books, key: tuple[int, int]) -> None:
        self.key = key
        self.told: int | None = None
        self._cluster = cluster
        self._books = books
        self._caller = Caller(cluster)

    def ask(self) -> None:
        """Begin; `told` is the answer."""
        request = GetRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=self.key[0], consumer_group_id=self.key[1], limit=0
        )
        floor = self._books.cursors.replicated_floor(self.key)
        self._caller.call(GET, request, lambda result: self._answered(result, floor))

    def _answered(self, result: Answer, floor: Stand) -> None:
        if isinstance(result, GetResponse):
            stand = result.generation, result.prev_cursor
            self._books.cursors.answered(self.key, floor, stand)
            self.told = self._books.cursors.place(self.key, stand)
        else:
            self._cluster.world.call_later(0.02, self.ask)


class Auditor:
    """Reads a queue from its first item to its end as whoever has no group does: by peeking.

    What has been trimmed must have been acknowledged by everybody; it stands in `items` as it was stored.
    """

    def __init__(self, cluster: Cluster, books: Books, queue_id: int) -> None:
        self.queue_id = queue_id
        self.items: list[bytes] = []
        self.done = False
        self._cluster = cluster
        self._books = books
        self._caller = Caller(cluster)

    def start(self) -> None:
        """Begin."""
        self._get()

    def _get(self) -> None:
        request = GetRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            queue_id=self.queue_id,
            limit=200,
            random=True,
        )
        if self.items:
            request.next_cursor = len(self.items)
        floor = self._books.reads.acknowledged_end(self.queue_id)
        self._caller.call(GET, request, lambda result: self._answered(result, floor))

    def _answered(self, result: Answer, floor: int) -> None:
        if isinstance(result, GetResponse):
            self._books.reads.read(self.queue_id, floor, result.end_cursor)
            if not self.items:
                first = response_start(result)
                self.items = self._books.reference.trimmed(self.queue_id, first)
            start = len(self.items)
            self._books.reference.check_read(self.queue_id, 0, start, result.next_cursor, result.batches)
            for batch in result.batches:
                for cursor, item in enumerate(QItems.FromString(batch.items).items, batch.first_cursor):
                    if cursor >= start:
                        self.items.append(item.buffer)
            if len(self.items) >= result.end_cursor:
                self.done = True
                return
        elif isinstance(result, RpcError) and result.status is Status.OUT_OF_RANGE:
            self.items = []  # trimmed meanwhile: begin again
        pause = 0.01 if isinstance(result, RpcError) or result is None else 0.0
        self._cluster.world.call_later(pause, self._get)


def response_start(response: GetResponse) -> int:
    """Where a peek that named no cursor began: at the first item there is."""
    return response.batches[0].first_cursor if response.batches else response.next_cursor
