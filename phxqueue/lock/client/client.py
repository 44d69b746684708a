"""The lock client: locks that are held, and strings with compare-and-swap. See docs/api.md for how to use it."""

from __future__ import annotations

import os
import random as random_module
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.config import Cluster, Topic
from phxqueue.lock.client.acquiring import Acquisition
from phxqueue.lock.client.calls import Calls, LockCaller
from phxqueue.lock.client.clock import LEASE_CLOCK
from phxqueue.lock.client.durations import checked_lease, checked_wait
from phxqueue.lock.client.errors import ClientClosed, LockError, LockTimeout, TooManyLocks
from phxqueue.lock.client.held import Held, LockContext
from phxqueue.lock.client.holding import Holding
from phxqueue.lock.client.locating import Locator
from phxqueue.lock.client.renewing import Renewals
from phxqueue.lock.client.rounds import Rounds
from phxqueue.lock.client.routes import LockRoutes
from phxqueue.lock.client.settings import LockClientSettings
from phxqueue.lock.client.table_view import TableView
from phxqueue.lock.client.values import LockState, StringValue, make_client_id

ResultT = TypeVar("ResultT")


class LockClient:
    """A client of the lock groups of one topic.

    Make one with `await LockClient.connect(...)`, use it from the reactor's thread, and `await client.close()` it (or
    use it as an async context manager). One per process is enough.

    Leases and waiting times are in seconds. A lease of None is without an end: such a lock is held until somebody
    releases it, also when its holder has died.

    Args:
        topic: its configuration.
        caller: makes calls (net.routing.MasterClient).
        clock: the reactor.
        settings: bounds and times; None: what the topic's configuration says.
        name: how the lock service's users see this client; None: host and process.
        lease_clock: seconds, as leases are counted.
        on_close: called after close() has given back what was held; the Deferred is waited for.
    """

    log = Logger()

    def __init__(
        self,
        topic: Topic,
        caller: LockCaller,
        clock: IReactorTime,
        *,
        settings: LockClientSettings | None = None,
        name: str | None = None,
        random: random_module.Random | None = None,
        lease_clock: Callable[[], float] = LEASE_CLOCK,
        on_close: Callable[[], Deferred[None]] | None = None,
    ) -> None:
        self.settings = settings or LockClientSettings.from_topic(topic.settings)
        self.name = f"{socket.gethostname()}:{os.getpid()}" if name is None else name
        self._random = random or random_module.Random()
        self._clock = clock
        self._lease_clock = lease_clock
        self._on_close = on_close
        self._calls = Calls(caller, clock, self._random, self.settings)
        self._locator = Locator(self._calls, LockRoutes(topic))
        self._table = TableView(self._calls, self._locator, self._draw)
        self._renewals = Renewals(self._calls)
        self._rounds = Rounds(clock, self.settings.renewal_tick_s)
        self._session = os.urandom(6).hex()
        self._numbers = count(1)
        self._holdings: set[Holding] = set()
        self._acquiring: dict[Deferred[Held], None] = {}
        self._watching: dict[Deferred[Any], None] = {}
        self._abandoning: dict[Deferred[None], None] = {}
        self._closing = False
        self._closed: Deferred[None] | None = None

    @classmethod
    async def connect(
        cls,
        cluster: str | Path | Cluster,
        topic: str | int,
        tls: Any = None,
        *,
        settings: LockClientSettings | None = None,
        name: str | None = None,
        reactor: Any = None,
    ) -> LockClient:
        """A client for the lock groups of a topic.

        Nothing is sent yet: connections are made when they are needed, and made again when they are lost.

        Args:
            cluster: the path of globalconfig.conf, or a configuration that is loaded already.
            topic: name or id.
            tls: TlsPaths or a ClientTls; None: what the cluster's configuration says (TLS with the client certificate
                beside globalconfig.conf, unless TLS is off).
            settings: bounds and times; None: what the topic's configuration says.
            name: how the lock service's users see this client; None: host and process.
            reactor: None: the global one.

        Raises:
            ConfigError: the configuration cannot be used; every problem is listed.
            UnknownTopic: naming the topics there are.
            TlsError: a certificate or key cannot be used.
        """
        from phxqueue.lock.client.connecting import connect

        return connect(cls, cluster, topic, tls, settings, name, reactor)

    # ---- locks ----------------------------------------------------------------------------------

    def lock(self, name: str, lease: float | None = 30.0, wait: float | None = None) -> LockContext:
        """For `async with`: hold a lock for the length of a block. See `acquire` and `LockContext`."""
        return LockContext(lambda: self.acquire(name, lease, wait))

    def acquire(
        self,
        name: str,
        lease: float | None = 30.0,
        wait: float | None = None,
        *,
        force: bool = False,
        on_refusal: Callable[[str], object] | None = None,
    ) -> Deferred[Held]:
        """Get a lock, waiting in turn behind those who came before.

        Cancelling the Deferred ends the wait; should the lock have been granted at that moment, it is given back.

        Args:
            lease: for how long the service keeps it for us if it does not hear from us; it is renewed in time.
            wait: how long to wait; None: until it comes (through failovers, but not without end when no node of the
                lock group can be reached).
            force: take it from whoever holds it. He learns it at his next renewal; only what checks fencing tokens
                is safe from him until then.
            on_refusal: called with what the service says each time it grants no locks just now and has us come again
                (the lock group was restored, keys are moving, a bound is reached). Must not raise.

        Fails with LockTimeout: others held it for all of `wait`; Unavailable; another LockError.
        """
        try:
            acquisition = self._acquisition(name, lease, wait, force, on_refusal)
        except LockError as error:
            return fail(error)
        acquired: Deferred[Held] = Deferred.fromCoroutine(self._acquire(acquisition))
        if not acquired.called:
            self._acquiring[acquired] = None
            acquired.addBoth(self._acquired, acquired)
        return acquired

    def try_acquire(self, name: str, lease: float | None = 30.0) -> Deferred[Held | None]:
        """Get a lock if it is free, else None. Fails like `acquire`."""
        acquired: Deferred[Any] = self.acquire(name, lease, 0.0)
        return acquired.addErrback(_none_for, LockTimeout)

    def lock_state(self, name: str) -> Deferred[LockState | None]:
        """Who holds a lock; None: nobody. What is answered was so at some moment after the call."""
        return self._do(self._table.lock_state(name))

    def break_lock(self, name: str, client_id: str, token: int) -> Deferred[bool]:
        """Release a lock that somebody else holds, if it is still that acquisition; False: it is not (any more)."""
        return self._do(self._table.break_lock(name, client_id, token))

    def watch_lock(self, name: str, known_token: int = 0, wait: float | None = None) -> Deferred[LockState | None]:
        """Who holds a lock, as soon as its token is not the known one (0: nobody holds it), or `wait` is over."""
        return self._watch(self._table.watch_lock, name, known_token, wait)

    async def locks(self, prefix: str = "") -> AsyncIterator[LockState]:
        """All locks that are held, one Paxos group after the other; by key within a group. No snapshot."""
        self._check_open()
        async for state in self._table.locks(prefix):
            yield state

    # ---- strings --------------------------------------------------------------------------------

    def get(self, key: str) -> Deferred[StringValue | None]:
        """Read a string; None: there is none. What is answered was so at some moment after the call."""
        return self._do(self._table.get(key))

    def set(
        self, key: str, value: bytes, *, expected_version: int | None = None, lease: float | None = None
    ) -> Deferred[int]:
        """Write a string; return its new version.

        Args:
            expected_version: write only if it has this version; 0: only if there is none. Such a write is repeated
                until its outcome is known. Any other is sent again only if it surely was not carried out.
            lease: after so many seconds it is gone; None: it stays.

        Fails with VersionMismatch, OutcomeUnknown, or another LockError.
        """
        try:
            lease_ms = checked_lease(lease)
        except LockError as error:
            return fail(error)
        return self._do(self._table.set(key, value, expected_version, lease_ms))

    def delete(self, key: str, *, expected_version: int | None = None) -> Deferred[bool]:
        """Remove a string; False: there was none. `expected_version` and failures: see `set`."""
        return self._do(self._table.delete(key, expected_version))

    def watch(self, key: str, known_version: int = 0, wait: float | None = None) -> Deferred[StringValue | None]:
        """A string, as soon as its version is not the known one (0: there is none), or when `wait` is over.

        Versions in between may be missed; the last one never is.
        """
        return self._watch(self._table.watch_string, key, known_version, wait)

    async def strings(self, prefix: str = "") -> AsyncIterator[StringValue]:
        """All strings, without their values, one Paxos group after the other; by key within a group. No snapshot."""
        self._check_open()
        async for value in self._table.strings(prefix):
            yield value

    # ---- the client itself ----------------------------------------------------------------------

    @property
    def topic(self) -> Topic:
        """The configuration in use."""
        return self._locator.routes.topic

    @property
    def held(self) -> int:
        """How many locks this client holds."""
        return len(self._holdings)

    def reconfigure(self, topic: Topic) -> None:
        """Go on with a newer configuration of the same topic. Locks that are held stay where they are."""
        if topic.topic_id != self.topic.topic_id:
            raise ValueError(f"this client is for topic {self.topic.topic_id}, not {topic.topic_id}")
        self._locator.routes = LockRoutes(topic, self._locator.routes.share)

    def close(self) -> Deferred[None]:
        """Give back everything that is held, end every wait, and disconnect; takes `close_timeout_s` at most."""
        waiter: Deferred[None] = Deferred()
        if self._closed is None:
            self._closed = Deferred.fromCoroutine(self._close())
        self._closed.addBoth(lambda result: _pass_on(result, waiter))
        return waiter

    async def __aenter__(self) -> LockClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- inside ---------------------------------------------------------------------------------

    def _acquisition(
        self,
        name: str,
        lease: float | None,
        wait: float | None,
        force: bool,
        on_refusal: Callable[[str], object] | None,
    ) -> Acquisition:
        self._check_open()
        under_way = len(self._holdings) + len(self._acquiring) + len(self._abandoning)
        if under_way >= self.settings.max_locks:
            raise TooManyLocks(
                f"this client holds {len(self._holdings)} locks and waits for {len(self._acquiring)} "
                "(lock_client_max_locks in topicconfig.conf)"
            )
        self._check_waiting()
        return Acquisition(
            self._calls,
            self._locator,
            name,
            make_client_id(self.name, self._session, next(self._numbers)),
            checked_lease(lease),
            force=force,
            wait_s=checked_wait(wait),
            on_refusal=on_refusal,
            lease_clock=self._lease_clock,
        )

    async def _acquire(self, acquisition: Acquisition) -> Held:
        try:
            granted = await acquisition.run()
        finally:
            if acquisition.perhaps_granted:
                self._abandon(acquisition)
        holding = Holding(
            self._calls,
            self._locator,
            self._renewals,
            self._rounds,
            acquisition.place,
            acquisition.name,
            acquisition.client_id,
            granted,
            self._lease_clock,
            self._holdings.discard,
        )
        self._holdings.add(holding)
        return Held(holding)

    def _acquired(self, result: Any, acquired: Deferred[Held]) -> Any:
        self._acquiring.pop(acquired, None)
        return result

    def _abandon(self, acquisition: Acquisition) -> None:
        """See to it, in the background, that the server does not keep for us what we no longer want."""
        abandoning: Deferred[None] = Deferred.fromCoroutine(acquisition.abandon())
        if not abandoning.called:
            self._abandoning[abandoning] = None
        abandoning.addErrback(lambda failure: failure.trap(CancelledError) and None)
        abandoning.addErrback(lambda failure: self.log.failure("giving back a lock failed", failure))
        abandoning.addBoth(lambda _: self._abandoning.pop(abandoning, None))

    def _watch(
        self,
        watch: Callable[[str, int, float | None], Coroutine[Any, Any, ResultT]],
        key: str,
        known: int,
        wait: float | None,
    ) -> Deferred[ResultT]:
        try:
            self._check_waiting()
            work = watch(key, known, checked_wait(wait))
        except LockError as error:
            return fail(error)
        watching = self._do(work)
        if not watching.called:
            self._watching[watching] = None
            watching.addBoth(self._watched, watching)
        return watching

    def _watched(self, result: Any, watching: Deferred[Any]) -> Any:
        self._watching.pop(watching, None)
        return result

    def _check_waiting(self) -> None:
        if len(self._acquiring) + len(self._watching) >= self.settings.max_waiting:
            raise TooManyLocks(
                f"this client waits for {len(self._acquiring)} locks and {len(self._watching)} changes "
                "(lock_client_max_waiting in topicconfig.conf)"
            )

    def _do(self, work: Coroutine[Any, Any, ResultT]) -> Deferred[ResultT]:
        try:
            self._check_open()
        except LockError as error:
            work.close()
            return fail(error)
        return Deferred.fromCoroutine(work)

    def _check_open(self) -> None:
        if self._closed is not None or self._closing:
            raise ClientClosed("the lock client is closed: make a new one")

    def _draw(self) -> int:
        return self._random.getrandbits(64) or 1

    async def _close(self) -> None:
        self._closing = True
        for waiting in (*self._acquiring, *self._watching):
            waiting.cancel()
        ends: list[Deferred[Any]] = [holding.release() for holding in list(self._holdings)]
        for abandoning in list(self._abandoning):
            end: Deferred[None] = Deferred()
            abandoning.addBoth(_pass_on, end)
            ends.append(end)
        # `consumeErrors`: whatever could not be given back has been logged, and its lease ends it.
        everything = DeferredList(ends, consumeErrors=True)
        try:
            await everything.addTimeout(self.settings.close_timeout_s, self._clock)
        except TimeoutError:
            for abandoning in list(self._abandoning):
                abandoning.cancel()
        if self._on_close is not None:
            await self._on_close()


def _none_for(failure: Failure, kind: type[Exception]) -> None:
    failure.trap(kind)


def _pass_on(result: Any, waiter: Deferred[Any]) -> None:
    if not waiter.called:
        waiter.callback(result)
