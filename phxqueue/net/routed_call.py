"""One call that has to look for its master: what it does after each way a try can fail."""

from __future__ import annotations

import random as random_module
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.net.address import Address, AddressError
from phxqueue.net.observations import Observation, Sight, deadline_error, no_master_error
from phxqueue.net.route import Connection, Connections, Masters, Route, RoutingSettings
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.methods import Method

ResponseT = TypeVar("ResponseT", bound=Message)

RETRIED = frozenset(
    {
        Status.NOT_MASTER,
        Status.NO_MASTER,
        Status.UNAVAILABLE,
        Status.DEADLINE_EXCEEDED,
        Status.RESOURCE_EXHAUSTED,
    }
)
"""Statuses that another try may mend; all others end the call."""

ONLY_MASTERS_SAY = frozenset(
    {
        Status.NOT_FOUND,
        Status.ALREADY_EXISTS,
        Status.VERSION_MISMATCH,
        Status.FENCED,
        Status.OUT_OF_RANGE,
    }
)
"""Statuses that end a call and tell something of the served state: whoever gives them is the master."""

_NOT_ACCEPTED = frozenset({Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT})
"""Reasons not to get a connection that stay as they are until somebody changes the configuration."""


class _TryFailed(Exception):
    """One try at one node failed in a way that another try may mend."""

    def __init__(self, sight: Sight, error: RpcError) -> None:
        super().__init__(error.message)
        self.sight = sight
        self.error = error


class RoutedCall(Generic[ResponseT]):
    """One call that has to look for its master."""

    def __init__(
        self,
        masters: Masters,
        pool: Connections,
        clock: IReactorTime,
        random: random_module.Random,
        settings: RoutingSettings,
        *,
        route: Route,
        method: Method[Any, ResponseT],
        request: Message,
        searching: Message | None,
        started: float,
        deadline_s: float,
        try_s: float,
    ) -> None:
        self._masters = masters
        self._pool = pool
        self._clock = clock
        self._random = random
        self._settings = settings
        self._route = route
        self._method = method
        self._request = request
        self._searching = request if searching is None else searching  # sent while nothing may keep it waiting
        self._started = started
        self._deadline_s = deadline_s
        self._end = started + deadline_s
        self._try_s = try_s
        self._least_try_s = min(settings.least_try_s, deadline_s / 10)
        self._tried = False
        self._maybe_executed = False
        self._hint: Address | None = None  # whom to ask first in the next round
        self._search = masters.join_search(route)
        self._rounds_before = self._search.rounds
        self._took_turn = False

    async def run(self, failed: tuple[Address, RpcError, Connection] | None = None) -> ResponseT:
        """The response, or RpcError. `failed`: a first try that was made already."""
        try:
            if failed is not None:
                address, error, connection = failed
                first = self._judge(address, error, nothing_heard=connection.last_heard <= self._started)
                await self._after_failure(address, first)
            while True:
                response = await self._next_step()
                if response is not None:
                    return response
                self._check_patience()
        except RpcError as error:
            error.maybe_executed |= self._maybe_executed
            raise
        finally:
            self._masters.leave_search(self._route, self._search)

    async def _next_step(self) -> ResponseT | None:
        """Ask the known master, or search for it, or wait for those who search."""
        master = self._masters.known(self._route)
        if master is not None:
            try:
                return await self._try(master)
            except _TryFailed as failure:
                await self._after_failure(master, failure)
                return None
        if self._search.scout is None and not self._search.pausing:
            return await self._scout()
        await self._wait_for_change()
        return None

    # ---- rounds ----------------------------------------------------------------------------------------

    async def _scout(self) -> ResponseT | None:
        """Ask the nodes, each once and whom they point to. None: none of them is the master."""
        search = self._search
        turn = object()
        search.scout = turn
        began = self._clock.seconds()
        sights: dict[Address, Sight] = {}
        errors: list[RpcError] = []
        redirects = 0
        order = self._order()
        try:
            while order:
                address = order.pop(0)
                try:
                    return await self._try(address, turn)
                except _TryFailed as failure:
                    sights[address] = failure.sight
                    errors.append(failure.error)
                    if failure.sight is Sight.BUSY:
                        search.hand_over(turn)
                        await self._after_failure(address, failure)
                        return None
                    redirect = self._redirect_of(failure.error)
                    if redirect is not None and redirects < self._settings.max_redirects:
                        redirects += 1
                        if sights.get(redirect) in (None, Sight.NO_MASTER, Sight.NOT_MASTER):
                            order = [redirect, *(other for other in order if other != redirect)]
            if all(error.status in _NOT_ACCEPTED for error in errors):
                raise RpcError(errors[0].status, errors[0].message)  # asking again changes no certificate
            self._took_turn = True
            search.round_failed(turn, began, list(sights.values()))
            return None
        finally:
            search.hand_over(turn)

    def _order(self) -> list[Address]:
        """Whom to ask, in which order: a hint first, nodes that hang or keep others waiting last."""
        candidates = list(self._route.candidates)
        self._random.shuffle(candidates)
        hint, self._hint = self._hint, None
        search = self._search
        candidates.sort(key=lambda address: (address != hint, search.is_silent(address), search.asking[address]))
        return candidates

    async def _wait_for_change(self) -> None:
        try:
            await self._search.change(self._end - self._clock.seconds())
        except DeferredTimeoutError:
            raise self._deadline_error() from None

    async def _after_failure(self, address: Address, failure: _TryFailed) -> None:
        """After a failed try outside a round: whom to ask next, or how long to wait."""
        error = failure.error
        if failure.sight is not Sight.BUSY:
            self._masters.forget(self._route, address)
            self._hint = self._redirect_of(error)
            return
        self._masters.remember(self._route, address)
        wait = min(error.retry_after_ms / 1000, self._settings.max_retry_after_s)
        wait = max(wait, self._settings.backoff_first_s) * self._random.uniform(1.0, 1.5)
        if self._clock.seconds() + wait >= self._end - self._reserve_s:
            error.maybe_executed = self._maybe_executed
            raise error
        await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        waking: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer: IDelayedCall = self._clock.callLater(seconds, lambda: waking.callback(None))
        await waking

    @property
    def _reserve_s(self) -> float:
        """How much of the time is left unused, so that a call which nobody has carried out ends as just that."""
        return self._least_try_s if self._tried and not self._maybe_executed else 0.0

    # ---- one try ---------------------------------------------------------------------------------------

    async def _try(self, address: Address, turn: object | None = None) -> ResponseT:
        """Ask one node. Raises _TryFailed, or RpcError when no other try can help."""
        left = self._end - self._clock.seconds()
        if left <= self._reserve_s:
            raise self._deadline_error()
        search = self._search
        handover: IDelayedCall | None = None
        if turn is not None:
            handover = self._clock.callLater(self._settings.handover_s, search.hand_over, turn)
        search.asking[address] += 1
        try:
            # Nor is there a wait that the deadline leaves no time for: it would be broken off, and told as a failure.
            request = self._request if turn is None and left >= self._try_s else self._searching
            response = await self._ask(address, request, min(left, self._try_s))
        except RpcError as error:
            if error.status in ONLY_MASTERS_SAY:
                self._found(address)
            raise
        finally:
            search.asking[address] -= 1
            if handover is not None and handover.active():
                handover.cancel()
        self._found(address)
        return response

    def _found(self, master: Address) -> None:
        self._masters.remember(self._route, master)
        self._search.found()

    async def _ask(self, address: Address, request: Message, seconds: float) -> ResponseT:
        began = self._clock.seconds()
        if self._search.is_silent(address):
            seconds = min(seconds, self._settings.silent_try_timeout_s)
        try:
            caller: Connection = self._pool.existing(address) or await self._connect(address, seconds)
        except RpcError as error:
            if error.status in _NOT_ACCEPTED:
                sight = Sight.REFUSED_US
            else:
                sight = Sight.SILENT if error.status == Status.DEADLINE_EXCEEDED else Sight.UNREACHABLE
            raise self._noted(address, sight, error) from None
        asked = self._clock.seconds()
        try:
            return await caller.call(self._method, request, max(began + seconds - asked, 0.001))
        except RpcError as error:
            if error.status not in RETRIED:
                raise
            raise self._judge(address, error, nothing_heard=caller.last_heard <= asked) from None

    async def _connect(self, address: Address, seconds: float) -> Any:
        try:
            return await self._pool.connection(address).addTimeout(seconds, self._clock)
        except DeferredTimeoutError:
            text = f"{address}: no connection within {seconds:g} s"
            raise RpcError(Status.DEADLINE_EXCEEDED, text, maybe_executed=False) from None

    def _judge(self, address: Address, error: RpcError, *, nothing_heard: bool) -> _TryFailed:
        if error.status == Status.RESOURCE_EXHAUSTED:
            sight = Sight.BUSY
        elif error.status == Status.NO_MASTER:
            sight = Sight.NO_MASTER
        elif error.status == Status.NOT_MASTER:
            sight = Sight.NOT_MASTER
            error = self._checked_redirect(address, error)
        elif error.status == Status.DEADLINE_EXCEEDED:
            sight = Sight.SILENT if nothing_heard else Sight.SLOW
        else:
            sight = Sight.UNREACHABLE
        return self._noted(address, sight, error)

    def _noted(self, address: Address, sight: Sight, error: RpcError) -> _TryFailed:
        self._tried = True
        self._maybe_executed |= error.maybe_executed
        self._search.noted(address, Observation(sight, error))
        return _TryFailed(sight, error)

    def _checked_redirect(self, address: Address, error: RpcError) -> RpcError:
        """Refuse to be sent anywhere but to a candidate: a node with another configuration, or worse."""
        if not error.redirect:
            return error
        try:
            known = Address.parse(error.redirect) in self._route.candidates
        except AddressError:
            known = False
        if known:
            return error
        text = (
            f"says the master is {error.redirect!r}, which is no node of {self._route.what} in our configuration; "
            "compare its configuration with ours"
        )
        return RpcError(Status.NOT_MASTER, text)

    def _redirect_of(self, error: RpcError) -> Address | None:
        return Address.parse(error.redirect) if error.status == Status.NOT_MASTER and error.redirect else None

    # ---- giving up -------------------------------------------------------------------------------------

    def _check_patience(self) -> None:
        now = self._clock.seconds()
        search = self._search
        since = search.leaderless_since
        looked = self._took_turn or search.rounds > self._rounds_before
        if since is not None and looked and now - since >= self._settings.no_master_patience_s:
            raise self._no_master_error(now - since)
        if now >= self._end:
            raise self._deadline_error() if since is None else self._no_master_error(now - since)

    def _no_master_error(self, searched_s: float) -> RpcError:
        route = self._route
        return no_master_error(
            route.what, route.candidates, self._search.seen, searched_s, maybe_executed=self._maybe_executed
        )

    def _deadline_error(self) -> RpcError:
        route = self._route
        return deadline_error(
            route.what,
            self._method.name,
            self._deadline_s,
            route.candidates,
            self._search.seen,
            maybe_executed=self._maybe_executed,
        )
