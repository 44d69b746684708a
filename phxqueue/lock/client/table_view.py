"""The table of locks and strings as a client sees it: reads, writes, and waiting for either to change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from phxqueue.lock.client.calls import Calls, Waiting
from phxqueue.lock.client.errors import InvalidRequest, told
from phxqueue.lock.client.locating import Locator
from phxqueue.lock.client.routes import Place, check_key
from phxqueue.lock.client.values import LockState, StringValue, lock_state, string_value
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    LOCKS,
    STRINGS,
    DeleteStringRequest,
    GetLockInfoRequest,
    GetStringRequest,
    ListKeysRequest,
    ListKeysResponse,
    ReleaseLockRequest,
    SetStringRequest,
    WatchRequest,
    WatchResponse,
)
from phxqueue.proto.methods import (
    DELETE_STRING,
    GET_LOCK_INFO,
    GET_STRING,
    LIST_KEYS,
    RELEASE_LOCK,
    SET_STRING,
    WATCH,
)

#: Versions are 64-bit numbers without sign.
_MAX_VERSION = (1 << 64) - 1


class TableView:
    """The table of locks and strings as one client sees it.

    Args:
        number: gives any number of 64 bits except 0.
    """

    def __init__(self, calls: Calls, locator: Locator, number: Callable[[], int]) -> None:
        self._calls = calls
        self._locator = locator
        self._number = number

    # ---- strings --------------------------------------------------------------------------------

    async def get(self, key: str) -> StringValue | None:
        """Read a string; None: there is none."""
        answer = await self._read(key, GET_STRING, GetStringRequest(key=key))
        return None if answer is None else string_value(answer.string_info)

    async def set(self, key: str, value: bytes, expected_version: int | None, lease_ms: int) -> int:
        """Write a string; return its version."""
        check_key(key)
        if not isinstance(value, bytes):
            raise InvalidRequest(f"value: {type(value).__name__}; it must be bytes")
        request = SetStringRequest(key=key, value=value, lease_time_ms=lease_ms, request_id=self._number())
        if expected_version is not None:
            request.expected_version = checked_version("expected_version", expected_version)
        answer = await self._write(key, SET_STRING, request, expected_version)
        version: int = answer.version
        return version

    async def delete(self, key: str, expected_version: int | None) -> bool:
        """Remove a string; False: there was none."""
        check_key(key)
        request = DeleteStringRequest(key=key)
        if expected_version is not None:
            request.expected_version = checked_version("expected_version", expected_version)
        try:
            await self._write(key, DELETE_STRING, request, expected_version)
        except _NotThere:
            return False
        return True

    async def _write(self, key: str, method: Any, request: Any, expected_version: int | None) -> Any:
        """A write that names a version can be repeated: it is carried out once at most. Any other is not repeated."""

        def write(place: Place) -> Awaitable[Any]:
            _address(request, place)
            if expected_version is None:
                return self._calls.once(place, key, method, request)
            return self._calls.repeat(place, method, request, self._calls.settings.call_timeout_s)

        try:
            return await self._locator.ask(key, write)
        except RpcError as error:
            if error.status is Status.NOT_FOUND and not error.maybe_executed:
                raise _NotThere from None
            raise told(error) from None

    # ---- locks of others ------------------------------------------------------------------------

    async def lock_state(self, name: str) -> LockState | None:
        """Who holds a lock; None: nobody."""
        answer = await self._read(name, GET_LOCK_INFO, GetLockInfoRequest(lock_key=name))
        return None if answer is None else lock_state(answer.lock_info)

    async def break_lock(self, name: str, client_id: str, token: int) -> bool:
        """Release a lock that another acquisition holds, if it is still that one. It is safe to repeat."""
        request = ReleaseLockRequest(lock_key=name, client_id=client_id, version=checked_version("token", token))
        try:
            await self._repeat(name, RELEASE_LOCK, request)
        except RpcError as error:
            if error.status in (Status.NOT_FOUND, Status.VERSION_MISMATCH):
                return error.maybe_executed  # gone since our first try, as was wanted
            raise told(error) from None
        return True

    # ---- both -----------------------------------------------------------------------------------

    async def watch_string(self, key: str, known_version: int, wait_s: float | None) -> StringValue | None:
        """A string, once its version is another one, or the time is over."""
        answer = await self._watch(key, STRINGS, known_version, wait_s)
        return string_value(answer.string_info) if answer.version else None

    async def watch_lock(self, name: str, known_token: int, wait_s: float | None) -> LockState | None:
        """A lock, once its token is another one, or the time is over."""
        answer = await self._watch(name, LOCKS, known_token, wait_s)
        return lock_state(answer.lock_info) if answer.version else None

    async def _watch(self, key: str, space: Any, known: int, wait_s: float | None) -> WatchResponse:
        place = self._locator.routes.place(key)
        checked_version("known version", known)
        waiting = Waiting(self._calls, wait_s)
        while True:
            asked_ms = waiting.ask_ms()
            request = WatchRequest(
                topic_id=place.topic_id,
                lock_id=place.lock_id,
                key=key,
                key_space=space,
                known_version=known,
                wait_ms=asked_ms,
            )
            try:
                await waiting.find(place, key)
                began_s = waiting.waited_s
                answer: WatchResponse = await waiting.ask(place, WATCH, request, asked_ms)
            except RpcError as error:
                found = await self._locator.moved(key, place, error)
                if found is None or waiting.given_up:
                    await waiting.after_error(error, changes=False)
                else:
                    place = found
                continue
            if answer.version != known or waiting.over:
                return answer
            await waiting.after_answer(early=(waiting.waited_s - began_s) * 2000 < asked_ms)

    async def locks(self, prefix: str) -> AsyncIterator[LockState]:
        """All locks that are held."""
        async for page in self._pages(LOCKS, prefix):
            for info in page.locks:
                yield lock_state(info)

    async def strings(self, prefix: str) -> AsyncIterator[StringValue]:
        """All strings, without their values."""
        async for page in self._pages(STRINGS, prefix):
            for info in page.strings:
                yield string_value(info)

    async def _pages(self, space: Any, prefix: str) -> AsyncIterator[ListKeysResponse]:
        for place in self._locator.routes.everywhere():
            after, more = "", True
            while more:
                request = ListKeysRequest(
                    topic_id=place.topic_id,
                    lock_id=place.lock_id,
                    paxos_group=place.group,
                    key_space=space,
                    prefix=prefix,
                    after=after,
                )
                try:
                    page: ListKeysResponse = await self._calls.repeat(
                        place, LIST_KEYS, request, self._calls.settings.call_timeout_s
                    )
                except RpcError as error:
                    raise told(error, changes=False) from None
                keys = [info.lock_key for info in page.locks] or [info.key for info in page.strings]
                yield page
                more = page.more and bool(keys)
                after = keys[-1] if keys else ""

    async def _read(self, key: str, method: Any, request: Any) -> Any:
        """The answer, or None: there is nothing."""
        try:
            return await self._repeat(key, method, request)
        except RpcError as error:
            if error.status is Status.NOT_FOUND:
                return None
            raise told(error, changes=False) from None

    async def _repeat(self, key: str, method: Any, request: Any) -> Any:
        """A call that may be carried out several times, wherever the key lives. Raises RpcError."""

        def call(place: Place) -> Awaitable[Any]:
            _address(request, place)
            return self._calls.repeat(place, method, request, self._calls.settings.call_timeout_s)

        return await self._locator.ask(key, call)


def _address(request: Any, place: Place) -> None:
    request.topic_id, request.lock_id = place.topic_id, place.lock_id


class _NotThere(Exception):
    """There is nothing to delete."""


def checked_version(field: str, version: int) -> int:
    """Refuse what can be no version. Raises InvalidRequest."""
    if not 0 <= version <= _MAX_VERSION:
        raise InvalidRequest(f"{field}: {version!r}; it must be an int from 0 to {_MAX_VERSION}")
    return version
