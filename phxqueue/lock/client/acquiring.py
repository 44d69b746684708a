"""One acquisition, from the first request to the lock, or to the certainty that nothing is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from phxqueue.lock.client.calls import Calls, Waiting
from phxqueue.lock.client.errors import LockTimeout
from phxqueue.lock.client.lease import ClientLease
from phxqueue.lock.client.locating import Locator
from phxqueue.lock.client.routes import Place
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    AcquireLockResponse,
    GetLockInfoRequest,
    LockInfo,
    ReleaseLockRequest,
)
from phxqueue.proto.methods import ACQUIRE_LOCK, GET_LOCK_INFO, RELEASE_LOCK


@dataclass(frozen=True, slots=True)
class Granted:
    """The lock is held."""

    token: int
    lease: ClientLease


class Acquisition:
    """Gets one lock.

    Args:
        locator: where the lock lives.
        client_id: of this acquisition alone: by it the server knows a request that is repeated.
        lease_ms: 0: without an end.
        force: take it from whoever holds it.
        wait_s: how long to wait for it; None: until it comes.
        on_refusal: called with what the service says each time it has us come again (RESOURCE_EXHAUSTED).
        lease_clock: seconds, as leases are counted.
    """

    log = Logger()

    def __init__(
        self,
        calls: Calls,
        locator: Locator,
        name: str,
        client_id: str,
        lease_ms: int,
        *,
        force: bool,
        wait_s: float | None,
        on_refusal: Callable[[str], object] | None,
        lease_clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.client_id = client_id
        self.place: Place = locator.routes.place(name)
        self._calls = calls
        self._locator = locator
        self._lease_ms = lease_ms
        self._force = force
        self._waiting = Waiting(calls, wait_s)
        self._on_refusal = on_refusal
        self._lease_clock = lease_clock
        self._perhaps_granted = False

    @property
    def perhaps_granted(self) -> bool:
        """Whether the server may hold the lock for us although we have not been told: then `abandon` it."""
        return self._perhaps_granted

    async def run(self) -> Granted:
        """Wait for the lock.

        Raises:
            LockError: LockTimeout when others hold it for all the time; or what else is wrong.
        """
        waiting = self._waiting
        while True:
            asked_ms = waiting.ask_ms()
            try:
                await waiting.find(self.place, self.name)
                sent_at = self._lease_clock()
                began_s = waiting.waited_s
                response = await self._ask(asked_ms)
            except RpcError as error:
                found = await self._locator.moved(self.name, self.place, error)
                if found is None or waiting.given_up:
                    if not waiting.given_up:
                        self._tell(error)
                    await waiting.after_error(error, changes=self._perhaps_granted)
                else:
                    self.place = found
                continue
            if response.acquired:
                return self._granted(response, sent_at)
            if waiting.over:
                raise LockTimeout(f"lock {self.name!r} {_state_of(response.lock_info)}")
            await waiting.after_answer(early=(waiting.waited_s - began_s) * 2000 < asked_ms)

    def _tell(self, error: RpcError) -> None:
        if self._on_refusal is not None and error.status is Status.RESOURCE_EXHAUSTED:
            self._on_refusal(error.message)

    async def _ask(self, asked_ms: int) -> AcquireLockResponse:
        request = AcquireLockRequest(
            topic_id=self.place.topic_id,
            lock_id=self.place.lock_id,
            lock_key=self.name,
            client_id=self.client_id,
            lease_time_ms=self._lease_ms,
            infinite=not self._lease_ms,
            force=self._force,
            wait_ms=asked_ms,
            waited_ms=int(self._waiting.waited_s * 1000),
        )
        before, self._perhaps_granted = self._perhaps_granted, True  # also when we are cancelled meanwhile
        try:
            response: AcquireLockResponse = await self._waiting.ask(self.place, ACQUIRE_LOCK, request, asked_ms)
        except RpcError as error:
            self._perhaps_granted = before or error.maybe_executed
            raise
        self._perhaps_granted = before  # an earlier try may still stand in the queue, unknown to all but the server
        return response

    def _granted(self, response: AcquireLockResponse, sent_at: float) -> Granted:
        length = self._lease_ms / 1000 if self._lease_ms else None
        drift = self._calls.settings.clock_drift
        lease = ClientLease.granted(length, drift, sent_at, response.waited_ms / 1000)
        self._perhaps_granted = False
        return Granted(response.lock_info.version, lease)

    async def abandon(self) -> None:
        """Give back what may have been granted meanwhile: nobody is there any more to hold it."""
        self._perhaps_granted = False
        try:
            await self._locator.ask(self.name, self._give_back, self.place)
        except RpcError as error:
            if error.status not in (Status.NOT_FOUND, Status.VERSION_MISMATCH):  # it is nobody's, or somebody else's
                self.log.warn(
                    "lock {name} may have been granted to {client_id} after that had given up, and could not be given "
                    "back: {error}. It is free again {when}",
                    name=self.name,
                    client_id=self.client_id,
                    error=error,
                    when="when its lease has run out" if self._lease_ms else "when it is released by force",
                )

    async def _give_back(self, place: Place) -> None:
        question = GetLockInfoRequest(topic_id=place.topic_id, lock_id=place.lock_id, lock_key=self.name)
        patience_s = self._calls.settings.patience_s
        answer = await self._calls.repeat(place, GET_LOCK_INFO, question, patience_s)
        info: LockInfo = answer.lock_info
        if info.client_id == self.client_id:
            request = ReleaseLockRequest(
                topic_id=place.topic_id,
                lock_id=place.lock_id,
                lock_key=self.name,
                client_id=self.client_id,
                version=info.version,
            )
            await self._calls.repeat(place, RELEASE_LOCK, request, patience_s)


def _state_of(info: LockInfo) -> str:
    """What the server says of a lock that others hold."""
    if not info.version:
        return "has others waiting for it, who come first"
    text = f"is held by {info.client_id!r} with token {info.version}"
    text += f", lease {info.remaining_ms / 1000:.1f} s more" if info.remaining_ms >= 0 else ", without an end"
    return text + (f"; {info.waiters} wait for it" if info.waiters else "")
