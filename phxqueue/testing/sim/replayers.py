"""Operators who have consumer groups read again; they ask until they know, and sometimes once more."""

from __future__ import annotations

from random import Random

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import REPLAY
from phxqueue.proto.store_pb2 import ReplayRequest, ReplayResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import PUB_ID, STORE_ID, TOPIC_ID
from phxqueue.testing.sim.world import WallClocks

REPLAYS = 4
AGAIN = 0.5
"""Probability, per replay, that it is asked for again after it was answered."""
SKIP = 0.3
"""Probability, per replay, that it may pass over items."""
_REFUSED = frozenset({Status.OUT_OF_RANGE, Status.INVALID_ARGUMENT})
"""What a good replay may be answered: its target is trimmed, or lies ahead of the group."""


class Replayer:
    """One operator: one replay after another."""

    def __init__(self, cluster: Cluster, books: Books, whims: Random) -> None:
        self._whims = whims  # which replays may skip: drawn apart, so that the others are what they are without skips
        self._cluster = cluster
        self._books = books
        self._random = cluster.world.random
        self._caller = Caller(cluster, _REFUSED)
        self._left = REPLAYS
        self._repeat = False
        self._request = ReplayRequest()

    @property
    def done(self) -> bool:
        """Whether every replay has an outcome."""
        return not self._left

    def start(self) -> None:
        """Ask for the next one, if there is one left."""
        if not self._left:
            return
        random, workload = self._random, self._books.workload
        queue_id = random.choice(workload.queues)
        request = self._request = ReplayRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            paxos_group=queue_id % self._cluster.shape.paxos_groups,
            id=f"replay {self._left}",
            consumer_group_id=random.choice(workload.groups),
            pub_id=PUB_ID,
        )
        kind = random.random()
        if kind < 0.4:
            request.queue_id = queue_id
            request.to_cursor = random.randrange(len(self._books.reference.queues.get(queue_id, ())) + 1)
        elif kind < 0.7:
            request.to_time_ms = int((WallClocks.EPOCH + random.uniform(0, self._cluster.world.now)) * 1000)
        else:
            request.to_earliest = True
        request.skip = self._whims.random() < SKIP
        self._repeat = random.random() < AGAIN
        self._send()

    def _send(self) -> None:
        self._caller.call(REPLAY, self._request, self._answered)

    def _answered(self, result: Answer) -> None:
        world, random = self._cluster.world, self._random
        if isinstance(result, ReplayResponse):
            replay = result.replay
            if replay.id != self._request.id or replay.consumer_group_id != self._request.consumer_group_id:
                raise Violation(f"who asked for {self._request.id} was answered about {replay}")
            outcome = {queue.queue_id: (queue.target, queue.acked) for queue in replay.queues}
            self._books.note("replay", replay.id, outcome)
            self._books.replays.answered(replay.id, outcome)
            if self._repeat:
                self._repeat = False
                world.call_later(random.uniform(0, 1.0), self._send)
                return
        elif not isinstance(result, RpcError) or result.status not in _REFUSED:
            world.call_later(random.uniform(0.005, 0.05), self._send)
            return
        self._left -= 1
        world.call_later(random.uniform(0.1, 0.8), self.start)
