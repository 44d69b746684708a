"""Finds keys that have moved to another lock group since the configuration was read.

The shares of the lock groups are what their logs say (phxqueue.lock.shares); the configuration only says where to
begin. A group that does not serve a key refuses it; then it is asked for the shares, and whoever has the key by these
is asked instead. So a change of shares costs running clients a pause, and holders keep what they hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from phxqueue.lock.client.calls import Calls
from phxqueue.lock.client.errors import NoLockGroup
from phxqueue.lock.client.routes import LockRoutes, Place
from phxqueue.lock.shares import Share
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import GetShareRequest
from phxqueue.proto.methods import GET_SHARE

ResultT = TypeVar("ResultT")

#: A group that has not heard yet of the shares which others serve by already is asked again after so many seconds.
_BEHIND_S = 0.1


class Locator:
    """Where keys live.

    Attributes:
        routes: as far as is known; a newer configuration may be put in its place.
    """

    def __init__(self, calls: Calls, routes: LockRoutes) -> None:
        self.routes = routes
        self._calls = calls

    async def ask(self, key: str, do: Callable[[Place], Awaitable[ResultT]], place: Place | None = None) -> ResultT:
        """Do something where a key lives, `place` first if it is given. Raises RpcError, LockError."""
        clock = self._calls.clock
        end = clock.seconds() + self._calls.settings.call_timeout_s
        place = place or self.routes.place(key)
        while True:
            try:
                return await do(place)
            except RpcError as error:
                found = await self.moved(key, place, error)
                if found is None or clock.seconds() >= end:
                    raise
                place = found

    async def moved(self, key: str, place: Place, error: RpcError) -> Place | None:
        """Whom to ask instead of `place`, which has refused; it may be the same again. None: the refusal stands."""
        if error.status is not Status.INVALID_ARGUMENT or error.maybe_executed:
            return None
        try:
            if self.routes.place(key) == place:
                return await self._look(key, place)
            return self.routes.place(key)
        except (RpcError, NoLockGroup):
            return None

    async def _look(self, key: str, place: Place) -> Place | None:
        question = GetShareRequest(topic_id=place.topic_id, lock_id=place.lock_id, paxos_group=place.group)
        answer = await self._calls.repeat(place, GET_SHARE, question, self._calls.settings.call_timeout_s)
        share = Share.of(answer.share) if answer.HasField("share") else None
        known = self.routes.share
        if known is not None and (share is None or share.generation < known.generation):
            await self._calls.pause(_BEHIND_S)
            return place
        if share is not None:
            self.routes.learn(share)
        found = self.routes.place(key)
        return None if found == place else found
