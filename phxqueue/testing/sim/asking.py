"""A request that a client sends until it knows what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import Method
from phxqueue.testing.sim.calls import Answer, Caller
from phxqueue.testing.sim.cluster import Cluster


class Asking:
    """One request.

    Args:
        told: called with the response, or with the RpcError that ends it.
        ends: statuses that end it.
        deaths: probability, per answer that did not come, that the client dies; `told` is called with None then.
    """

    def __init__(
        self,
        cluster: Cluster,
        method: Method[Any, Any],
        request: Message,
        told: Callable[[Any], None],
        *,
        ends: frozenset[Status] = frozenset(),
        deaths: float = 0.0,
    ) -> None:
        self._cluster = cluster
        self._method = method
        self._request = request
        self._told = told
        self._ends = ends
        self._deaths = deaths
        self._caller = Caller(cluster, ends)

    def send(self) -> None:
        """Ask."""
        self._caller.call(self._method, self._request, self._answered)

    def _answered(self, result: Answer) -> None:
        random, world = self._cluster.world.random, self._cluster.world
        if isinstance(result, Message) or (isinstance(result, RpcError) and result.status in self._ends):
            self._told(result)
        elif result is None and self._deaths and random.random() < self._deaths:
            self._told(None)
        else:
            world.call_later(random.uniform(0.005, 0.05), self.send)
