"""Calls to the master of a key: repeated until they are answered, or made once at most, or waiting at the server.

What is idempotent goes through `MasterClient.call`, which repeats it through failovers. What is not (an unconditional
write: repeated, it would undo what somebody else has written after it) is repeated only when it surely was not carried
out. What waits at the server says, in each try, how long it has waited already, so every try is a request of its own.
"""

from __future__ import annotations

import math
import random as random_module
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.lock.client.errors import told
from phxqueue.lock.client.routes import Place
from phxqueue.lock.client.settings import LockClientSettings
from phxqueue.net.routed_call import RETRIED
from phxqueue.net.routing import Caller, Route
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import WatchRequest
from phxqueue.proto.methods import WATCH

#: Pause, in seconds, before what was answered much too early, or failed, is tried again; it doubles, up to the last.
_PAUSE_FIRST_S = 0.01
_PAUSE_LAST_S = 1.0


class LockCaller(Caller, Protocol):
    """What a lock client needs of a MasterClient."""

    def call_once(self, route: Route, method: Any, request: Any, timeout_s: float) -> Deferred[Any]:
        """Call the master last known, one time."""

    def connected(self, route: Route) -> bool:
        """Whether `call_once` has somebody to ask."""


class Calls:
    """The calls of one client."""

    def __init__(
        self, caller: LockCaller, clock: IReactorTime, random: random_module.Random, settings: LockClientSettings
    ) -> None:
        self.clock = clock
        self.settings = settings
        self._caller = caller
        self._random = random

    def repeat(
        self, place: Place, method: Any, request: Any, deadline_s: float, *, try_timeout_s: float | None = None
    ) -> Deferred[Any]:
        """A call that may be carried out several times. Fails with RpcError."""
        return self._caller.call(place.route, method, request, deadline_s, try_timeout_s=try_timeout_s)

    async def once(self, place: Place, key: str, method: Any, request: Any) -> Any:
        """A call that is carried out once at most.

        Raises:
            RpcError: `maybe_executed` tells whether it may have been.
        """
        seconds = self.clock.seconds
        end = seconds() + self.settings.call_timeout_s
        pauses = Pauses(self)
        while True:
            try:
                await self.find(place, key, end - seconds())
                return await self.ask(place, method, request, end - seconds())
            except RpcError as error:
                if error.maybe_executed or error.status not in RETRIED or seconds() >= end:
                    raise
                await pauses.after(error, end - seconds())

    def ask(self, place: Place, method: Any, request: Any, timeout_s: float) -> Deferred[Any]:
        """One try at the master that was found. Fails with RpcError."""
        return self._caller.call_once(place.route, method, request, timeout_s)

    async def find(self, place: Place, key: str, search_s: float, *, surely: bool = False) -> bool:
        """Find the master, by a question that only it answers, and at once; return whether that had to be asked.

        Calls that wait at the server could find it, too, but only one after the other: whoever asks has to see that it
        is kept waiting before the next one follows.

        Args:
            surely: ask whoever is taken for the master as well.

        Raises:
            RpcError: nobody answered.
        """
        if not surely and self._caller.connected(place.route):
            return False
        question = WatchRequest(topic_id=place.topic_id, lock_id=place.lock_id, key=key)
        try:
            await self._caller.call(place.route, WATCH, question, search_s)
        except RpcError as error:
            error.maybe_executed = False  # what was meant to be done has not been tried
            raise
        return True

    async def pause(self, seconds: float) -> None:
        """Wait about so long."""
        waking: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer: IDelayedCall = self.clock.callLater(seconds * self._random.uniform(0.5, 1.0), waking.callback, None)
        await waking


class Pauses:
    """The pauses between the tries of one call, growing as long as nothing good is heard."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._next = _PAUSE_FIRST_S

    def reset(self) -> None:
        """Something good was heard."""
        self._next = _PAUSE_FIRST_S

    async def after(self, error: RpcError | None, most: float) -> None:
        """Wait before the next try, as long as an overloaded server says, `most` seconds at most."""
        pause, self._next = self._next, min(self._next * 2, _PAUSE_LAST_S)
        if error is not None and error.status is Status.RESOURCE_EXHAUSTED:
            pause = max(pause, error.retry_after_ms / 500)  # of which at least a half is waited
        await self._calls.pause(max(0.0, min(pause, most)))


class Waiting:
    """The time of something that waits at the server, over as many calls as it takes.

    Args:
        wait_s: how long to wait; None: until it comes.
    """

    def __init__(self, calls: Calls, wait_s: float | None) -> None:
        self._calls = calls
        self._clock = calls.clock
        self._settings = calls.settings
        self._wait_s = math.inf if wait_s is None else wait_s
        self._began = self._heard_at = self._clock.seconds()
        self._pauses = Pauses(calls)
        self._trouble: RpcError | None = None

    @property
    def waited_s(self) -> float:
        """So far."""
        return self._clock.seconds() - self._began

    @property
    def over(self) -> bool:
        """Whether the time to wait is over."""
        return self.waited_s >= self._wait_s

    @property
    def given_up(self) -> bool:
        """Whether a try that fails now is the last one."""
        return self._clock.seconds() >= self._give_up_at

    def ask_ms(self) -> int:
        """How long the server may keep the next call waiting."""
        return math.ceil(max(0.0, min(self._wait_s - self.waited_s, self._settings.wait_call_s)) * 1000)

    async def find(self, place: Place, key: str) -> None:
        """Find the master, before anything is asked. Raises RpcError.

        After a failure it has to answer: masters may follow each other faster than a call that waits takes, and who
        waits without an end gives up only when there is none.
        """
        left = max(_PAUSE_FIRST_S, self._give_up_at - self._clock.seconds())
        if await self._calls.find(place, key, left, surely=self._trouble is not None):
            self._heard_at = self._clock.seconds()

    def ask(self, place: Place, method: Any, request: Any, asked_ms: int) -> Deferred[Any]:
        """One try at the master that was found. Fails with RpcError."""
        return self._calls.ask(place, method, request, asked_ms / 1000 + self._settings.answer_slack_s)

    async def after_answer(self, early: bool) -> None:
        """An answer came, but not the one waited for; `early`: long before the time that was asked for."""
        self._heard_at = self._clock.seconds()
        self._trouble = None
        if early:
            await self._pauses.after(None, _PAUSE_LAST_S)
        else:
            self._pauses.reset()

    async def after_error(self, error: RpcError, *, changes: bool) -> None:
        """A try failed: wait, then try again; or raise what the caller is to be told."""
        now = self._clock.seconds()
        if error.status is Status.RESOURCE_EXHAUSTED:
            self._heard_at = now
        if error.status is Status.DEADLINE_EXCEEDED and not error.maybe_executed and self._trouble is not None:
            error = self._trouble  # what a search found out before the last one was cut short
        self._trouble = error
        if error.status not in RETRIED or now >= self._give_up_at:
            raise told(error, changes=changes)
        await self._pauses.after(error, self._give_up_at - now)

    @property
    def _give_up_at(self) -> float:
        if self._wait_s == math.inf:
            return self._heard_at + self._settings.patience_s
        return self._began + (self._wait_s or self._settings.call_timeout_s)
