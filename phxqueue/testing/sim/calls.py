"""Calls of clients: they find the master, and every request and every answer may be lost on its way."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.identity import ANONYMOUS
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import Method
from phxqueue.proto.store_pb2 import GetRequest
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.cluster import Cluster, Process

Answer = Message | RpcError | None
"""None: no answer came in time."""

_EXPECTED = frozenset(
    {Status.NOT_MASTER, Status.NO_MASTER, Status.UNAVAILABLE, Status.RESOURCE_EXHAUSTED, Status.DATA_LOSS}
)
"""What a good request may be refused with while things go wrong."""


class SimContext:
    """What a handler may know of a simulated call."""

    peer = ANONYMOUS
    deadline: float | None = None

    def __init__(self, connection: object) -> None:
        self.connection = connection
        self.cancelled = False
        self.pending: Deferred[Any] | None = None
        self._on_cancel: Callable[[], None] | None = None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Remember whom to tell when nobody wants the answer any more."""
        self._on_cancel = callback

    def cancel(self) -> None:
        """The caller has given up; as the RPC framework does it."""
        self.cancelled = True
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.cancel()
        if self._on_cancel is not None:
            self._on_cancel()


class _Call:
    """One try, at one node; `client`: whose connection to it."""

    def __init__(self, cluster: Cluster, node_id: int, client: object, finish: Callable[[Answer], None]) -> None:
        self.node_id = node_id
        self._cluster = cluster
        self._context = SimContext(client)
        self._process: Process | None = None
        self._finish: Callable[[Answer], None] | None = finish

    def start(self, method: Method[Any, Any], wire: bytes, timeout: float) -> None:
        """Send the request."""
        world, network = self._cluster.world, self._cluster.network
        self._timeout = world.call_later(timeout, self._give_up)
        if not network.lost():
            world.call_later(network.delay(), self._arrive, method, wire)

    def _end(self, result: Answer) -> None:
        finish, self._finish = self._finish, None
        if finish is None:
            return
        self._timeout.cancel()
        if self._process is not None:
            self._process.lost_calls.pop(self._connection_lost, None)
        finish(result)

    def _give_up(self) -> None:
        if self._process is not None and not self._cluster.network.lost():
            process, context = self._process, self._context
            self._cluster.world.call_later(self._cluster.network.delay(), process.clock.receive, context.cancel)
        self._end(None)

    def _connection_lost(self) -> None:
        self._end(RpcError(Status.UNAVAILABLE, "connection lost"))

    def _arrive(self, method: Method[Any, Any], wire: bytes) -> None:
        process = self._cluster.processes.get(self.node_id)
        if process is None or process.service is None:
            self._reply(RpcError(Status.UNAVAILABLE, "connection refused", maybe_executed=False))
            return
        if self._finish is not None:
            self._process = process
            process.lost_calls[self._connection_lost] = None
        process.clock.receive(self._handle, process, method, wire)
        if self._finish is None:  # given up before it arrived: on one connection the cancel comes right behind
            process.clock.receive(self._context.cancel)

    def _handle(self, process: Process, method: Method[Any, Any], wire: bytes) -> None:
        assert process.service is not None
        if self._context.cancelled:
            return
        handler: Callable[[Any, Any], Any] = process.service.table[method.number].handler
        try:
            result = handler(method.request.FromString(wire), self._context)
        except RpcError as error:
            self._reply(error)
            return
        if iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            self._context.pending = result
            result.addBoth(self._reply).addErrback(self._cluster.report)
        else:
            self._reply(result)

    def _reply(self, result: Any) -> None:
        if self._context.cancelled:
            return
        if isinstance(result, Failure):
            if result.check(RpcError) is None:
                result.raiseException()
            result = result.value
        network = self._cluster.network
        if not network.lost():
            self._cluster.world.call_later(network.delay(), self._end, result)


class Caller:
    """Makes one call at a time; goes to the node a redirect names, else to the next one after a failure.

    Args:
        tolerated: what else a good request may be answered, at any time.
    """

    def __init__(self, cluster: Cluster, tolerated: frozenset[Status] = frozenset()) -> None:
        self._cluster = cluster
        self._tolerated = tolerated
        self._target = 0

    def call(
        self, method: Method[Any, Any], request: Message, answered: Callable[[Any], None], timeout: float = 0.0
    ) -> None:
        """Call the node believed to be master; `answered` gets the response, an RpcError or None.

        Args:
            timeout: seconds; 0: some time that is sometimes too short.
        """

        def finish(result: Answer) -> None:
            trimmed = isinstance(result, RpcError) and result.status is Status.OUT_OF_RANGE
            peek = isinstance(request, GetRequest) and request.random
            expected = not isinstance(result, RpcError) or result.status in (_EXPECTED | self._tolerated)
            if not expected and not (trimmed and peek):
                raise Violation(f"a good {method.name} was refused: {result}")
            self._learn(result)
            answered(result)

        timeout = timeout or self._cluster.world.random.choice((0.3, 1.0))
        _Call(self._cluster, self._target, self, finish).start(method, request.SerializeToString(), timeout)

    def _learn(self, result: Answer) -> None:
        if isinstance(result, RpcError) and result.redirect:
            self._target = int(result.redirect.rsplit(":", 1)[1])
        elif result is None or (
            isinstance(result, RpcError) and result.status not in (Status.RESOURCE_EXHAUSTED, *self._tolerated)
        ):
            self._target = (self._target + 1) % len(self._cluster.node_ids)
