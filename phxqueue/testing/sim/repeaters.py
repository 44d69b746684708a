"""Requests that come again long after they were answered, as they do from a network that held a copy of them back."""

from __future__ import annotations

from collections.abc import Sequence

from phxqueue.net.status import Status
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse, AddResult
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.checkers.repeats import check_repeated
from phxqueue.testing.sim.cluster import Cluster

SHARE = 0.3
"""Of the requests that were stored."""
LONGEST = 3.0
"""How much later they come, in seconds."""


class Repeater:
    """One request that was stored: sends it once more, until it is answered."""

    def __init__(
        self, cluster: Cluster, request: AddRequest, first: Sequence[AddResult], refusals: frozenset[Status]
    ) -> None:
        self._cluster = cluster
        self._request = request
        self._first = first
        self._caller = Caller(cluster, refusals)

    def start(self) -> None:
        """Some time from now."""
        world = self._cluster.world
        world.call_later(world.random.uniform(0, LONGEST), self._send)

    def _send(self) -> None:
        self._caller.call(ADD, self._request, self._answered)

    def _answered(self, result: Answer) -> None:
        if isinstance(result, AddResponse):
            check_repeated(self._first, result.results)
        else:
            world = self._cluster.world
            world.call_later(world.random.uniform(0.05, 0.5), self._send)
