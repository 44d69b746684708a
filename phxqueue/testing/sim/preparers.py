"""Clients that prepare half messages and decide them: at once, twice, against each other, when asked, or never."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, QItem, QItems
from phxqueue.proto.methods import ADD, DECIDE_HALF, POLL_CHECK_BACKS
from phxqueue.proto.store_pb2 import (
    AddRequest,
    AddResponse,
    DecideHalfRequest,
    DecideHalfResponse,
    HalfState,
    PollCheckBacksRequest,
    PollCheckBacksResponse,
)
from phxqueue.testing.sim.asking import Asking
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.halves import COMMITTED, EXPIRED, ROLLED_BACK
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID

BATCHES = 10
NAME = "simulated"
COMMIT, ROLL_BACK, FIGHT = 0.35, 0.2, 0.15
"""Probabilities that a half message is committed, rolled back, or both at the same time; the others are asked about."""
AGAIN = 0.3
"""Probability, per decision, that it is sent once more when it was answered."""
_OUTCOMES = {HalfState.COMMITTED: COMMITTED, HalfState.ROLLED_BACK: ROLLED_BACK, HalfState.EXPIRED: EXPIRED}


class Preparer:
    """One client: one half message after another."""

    def __init__(self, cluster: Cluster, books: Books, producer_ids: Iterator[int]) -> None:
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._id = next(producer_ids)
        self._left = BATCHES
        self._deciding = 0
        self._queue_id = 0
        self._items: list[bytes] = []

    @property
    def done(self) -> bool:
        """Whether everything is prepared, and what this client decides has an outcome."""
        return not self._left and not self._deciding

    def start(self) -> None:
        """Prepare the next one, if there is one left."""
        if not self._left:
            return
        workload, random = self._books.workload, self._random
        self._queue_id = random.choice(workload.queues)
        lane = (self._id, self._left)
        self._items = [b"half %d/%d/%d" % (*lane, number) for number in range(random.choice((1, 1, 3)))]
        for number, item in enumerate(self._items):
            self._books.offered(lane, number, item, workload.mask)
        self._books.halves.offered(self._name, self._items)
        self._books.recording.append(f"preparer {lane}", self._queue_id, self._items)
        header = BatchHeader(
            queue_id=self._queue_id,
            pub_id=PUB_ID,
            consumer_group_ids=workload.mask,
            count=len(self._items),
            producer_id=self._id,
            sequence=BATCHES + 1 - self._left,
            prepared_by=NAME,
        )
        items = QItems(items=[QItem(buffer=item) for item in self._items]).SerializeToString()
        request = AddRequest(topic_id=TOPIC_ID, store_id=STORE_ID, batches=[ItemBatch(header=header, items=items)])
        Asking(self._cluster, ADD, request, self._prepared).send()

    @property
    def _name(self) -> int:
        return self._id * 1000 + self._left

    def _prepared(self, response: AddResponse) -> None:
        [outcome] = response.results
        if outcome.status != Status.OK or outcome.count != len(self._items) or not outcome.prepared:
            raise Violation(f"a good half message of {len(self._items)} items was answered {outcome}")
        draw = self._random.random()
        decisions: tuple[HalfState.ValueType, ...] = ()
        if draw < COMMIT:
            decisions = (HalfState.COMMITTED,)
        elif draw < COMMIT + ROLL_BACK:
            decisions = (HalfState.ROLLED_BACK,)
        elif draw < COMMIT + ROLL_BACK + FIGHT:
            decisions = (HalfState.COMMITTED, HalfState.ROLLED_BACK)
        for decision in decisions:
            self._deciding += 1
            decide = Deciding(
                self._cluster, self._books, self._queue_id, outcome.half_number, self._name, decision, self._decided
            )
            self._cluster.world.call_later(self._random.uniform(0, 1.0), decide.send)
        self._left -= 1
        self._cluster.world.call_later(self._random.uniform(0, 0.4), self.start)

    def _decided(self) -> None:
        self._deciding -= 1


class Deciding:
    """One decision, sent until its outcome is known, and perhaps once more."""

    def __init__(
        self,
        cluster: Cluster,
        books: Books,
        queue_id: int,
        half_number: int,
        name: int,
        decision: HalfState.ValueType,
        done: Callable[[], None] | None,
    ) -> None:
        self._cluster = cluster
        self._books = books
        self._name = name
        self._done = done
        self._again = cluster.world.random.random() < AGAIN
        self._request = DecideHalfRequest(
            topic_id=TOPIC_ID, store_id=STORE_ID, queue_id=queue_id, half_number=half_number, decision=decision
        )

    def send(self) -> None:
        """Ask."""
        if self._request.decision == HalfState.COMMITTED:
            self._books.halves.commits(self._name)
        ends = frozenset({Status.NOT_FOUND})
        Asking(self._cluster, DECIDE_HALF, self._request, self._told, ends=ends).send()

    def _told(self, result: DecideHalfResponse | RpcError) -> None:
        if isinstance(result, RpcError):
            raise Violation(f"half message {self._name}: {result}")
        outcome = _OUTCOMES[result.state]
        self._books.note("decided", self._name, outcome, result.first_cursor)
        self._books.halves.decided(self._name, outcome, result.first_cursor, result.count)
        if self._again:
            self._again = False
            self.send()
        elif self._done is not None:
            self._done()


class Answerer:
    """A producer that is asked by one node about half messages; commits every other one, and forgets the rest."""

    def __init__(self, cluster: Cluster, books: Books, node_id: int) -> None:
        self._cluster = cluster
        self._books = books
        self._node_id = node_id
        self.asked = 0

    def start(self) -> None:
        """Poll."""
        caller = Caller(self._cluster)
        caller._target = self._node_id
        request = PollCheckBacksRequest(topic_id=TOPIC_ID, store_id=STORE_ID, name=NAME, wait_ms=200)
        caller.call(POLL_CHECK_BACKS, request, self._answered)

    def _answered(self, result: Answer) -> None:
        world = self._cluster.world
        if isinstance(result, PollCheckBacksResponse):
            for half in result.halves:
                self.asked += 1
                item = QItems.FromString(half.items).items[0].buffer
                name = self._books.halves.name_of(item)
                if name % 2:
                    decision = HalfState.COMMITTED
                    Deciding(self._cluster, self._books, half.queue_id, half.half_number, name, decision, None).send()
        world.call_later(world.random.uniform(0.05, 0.3), self.start)
