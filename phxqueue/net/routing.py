"""Finds the master of a replica set and keeps calls going to it, through failovers.

A call goes to the master last known for its route. When that fails in a way that another node may
mend, the call takes part in a `Search` (search.py) until it is answered, fails for good, its time is
over, or there has been no master for `no_master_patience_s`.

Every retry repeats the request as it is, also after a time-out, when the first try may have been
carried out: requests must be idempotent (a producer's batches carry a sequence number for that).
"""

from __future__ import annotations

import random as random_module
from typing import TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from phxqueue.net.address import Address
from phxqueue.net.route import DEFAULT_ROUTING, Caller, Connection, Connections, Masters, Route, RoutingSettings
from phxqueue.net.routed_call import RETRIED, RoutedCall
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import Method

__all__ = ["Caller", "Connection", "Connections", "MasterClient", "Route", "RoutingSettings"]

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class MasterClient:
    """Calls the master of a route, wherever it is at the moment.

    Args:
        pool: connections.
        clock: time (the reactor; a `task.Clock` in tests).
        random: of the order in which nodes are asked, and of jitter; seed it to repeat a run.
        settings: bounds.
    """

    def __init__(
        self,
        pool: Connections,
        clock: IReactorTime,
        random: random_module.Random,
        *,
        settings: RoutingSettings = DEFAULT_ROUTING,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._random = random
        self._settings = settings
        self._masters = Masters(clock, random, settings)

    def call(
        self,
        route: Route,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        deadline_s: float,
        *,
        try_timeout_s: float | None = None,
        searching: RequestT | None = None,
    ) -> Deferred[ResponseT]:
        """Call the master of `route`; it takes `deadline_s` seconds at most, whatever happens.

        Args:
            try_timeout_s: instead of the settings' (a long poll needs its waiting time on top).
            searching: sent instead of the request while the master is not known, or when less than `try_timeout_s` is
                left. For a long poll, the same without waiting: what is answered at once finds the master for all calls
                that wait for it, one long poll after another would keep them waiting.

        Fails with `RpcError`: what the master says when a retry is of no use; RESOURCE_EXHAUSTED when
        it stays overloaded; UNAVAILABLE when there is no master; DEADLINE_EXCEEDED. `maybe_executed`
        tells whether any try may have been carried out. Or with CancelledError, when cancelled.
        """
        try_s = self._settings.try_timeout_s if try_timeout_s is None else try_timeout_s
        master = self._masters.known(route)
        if master is not None:
            connection = self._pool.existing(master)
            if connection is not None:
                started = self._clock.seconds()
                call: Deferred[ResponseT] = connection.call(method, request, min(try_s, deadline_s))

                def failed(failure: Failure) -> Deferred[ResponseT]:
                    error = failure.value
                    if not isinstance(error, RpcError) or error.status not in RETRIED:
                        return fail(failure)
                    routed = self._routed(route, method, request, searching, deadline_s, try_s, started)
                    return Deferred.fromCoroutine(routed.run((master, error, connection)))

                return call.addErrback(failed)
        routed = self._routed(route, method, request, searching, deadline_s, try_s, self._clock.seconds())
        return Deferred.fromCoroutine(routed.run())

    def call_once(
        self, route: Route, method: Method[RequestT, ResponseT], request: RequestT, timeout_s: float
    ) -> Deferred[ResponseT]:
        """Call the master last known, one time: for requests that must not be repeated as they are.

        Fails with `RpcError`: whatever the node says; NO_MASTER when no master is known, or there is no connection to
        it (any answer to a `call` of the route finds it). Or with CancelledError, when cancelled.
        """
        master = self._masters.known(route)
        connection = None if master is None else self._pool.existing(master)
        if master is None or connection is None:
            text = f"{route.what}: its master has to be found first"
            return fail(RpcError(Status.NO_MASTER, text))
        address = master
        call: Deferred[ResponseT] = connection.call(method, request, timeout_s)

        def failed(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, RpcError) and error.status in RETRIED - {Status.RESOURCE_EXHAUSTED}:
                self._masters.forget(route, address)
            return failure

        return call.addErrback(failed)

    def connected(self, route: Route) -> bool:
        """Whether `call_once` has somebody to ask."""
        master = self._masters.known(route)
        return master is not None and self._pool.existing(master) is not None

    def master(self, route: Route) -> Address | None:
        """The master last known, if it is still a candidate."""
        return self._masters.known(route)

    def _routed(
        self,
        route: Route,
        method: Method[RequestT, ResponseT],
        request: RequestT,
        searching: RequestT | None,
        deadline_s: float,
        try_s: float,
        started: float,
    ) -> RoutedCall[ResponseT]:
        return RoutedCall(
            self._masters,
            self._pool,
            self._clock,
            self._random,
            self._settings,
            route=route,
            method=method,
            request=request,
            searching=searching,
            started=started,
            deadline_s=deadline_s,
            try_s=try_s,
        )
