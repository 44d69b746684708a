"""Consumers that stood still, have lost their lock without noticing, and go on: nobody may listen to them."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse
from phxqueue.testing.sim.books import Books
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster
from phxqueue.testing.sim.workload import STORE_ID, TOPIC_ID


class Sleeper:
    """Acknowledges, once, what it had got.

    Args:
        token: the version of the lock it held.
        acknowledge: the position it acknowledges.
        passed: whether a reader with a later token has been answered: from then on this one must be refused.
        generation: of the group in the queue when it got it; `tells`: whether it says so.
    """

    def __init__(
        self, cluster: Cluster, books: Books, key: tuple[int, int], token: int, acknowledge: int,
        passed: Callable[[], bool], generation: int, *, tells: bool,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._books = books
        self._key = key
        self._token = token
        self._acknowledge = acknowledge
        self._passed = passed
        self._generation = generation
        self._tells = tells
        self._caller = Caller(cluster, tolerated=books.workload.refusals | {Status.FENCED})

    def wake(self) -> None:
        """Go on as if nothing had happened."""
        books, key = self._books, self._key
        request = GetRequest(
            topic_id=TOPIC_ID,
            store_id=STORE_ID,
            queue_id=key[0],
            consumer_group_id=key[1],
            limit=0,
            prev_cursor=self._acknowledge,
            fencing_token=self._token,
        )
        if self._tells:
            request.generation = self._generation
        books.cursors.asked(key, self._acknowledge, self._generation)
        must_fail = self._passed() and self._cluster.versions_never_mixed
        floors = books.get_floors(key)
        record = books.recording.get(key, self._acknowledge)

        def answered(result: Answer) -> None:
            if not isinstance(result, GetResponse):
                books.recording.not_got(record)
                again = isinstance(result, RpcError) and result.status in (Status.NOT_MASTER, Status.NO_MASTER)
                if again:
                    self._cluster.world.call_later(0.02, self.wake)
            elif must_fail:
                raise Violation(f"a reader of {key} with token {self._token} was answered, and a later one had been")
            else:
                books.recording.got(record, result.end_cursor, result.prev_cursor)
                books.cursors.answered(key, floors[1], (result.generation, result.prev_cursor))

        self._caller.call(GET, request, answered)
