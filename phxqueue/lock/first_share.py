"""The first share of the keys that a Paxos group serves, agreed among the lock groups of a topic when they first start.

Files may differ, so no group believes its own. Whoever has no share yet asks all other groups that its file knows:

- If any of them has a share, that is taken over, whatever the file says: so a group that is added later, whatever its
  id and scale, serves nothing until `phxqueue locks spread` gives it something.
- If all of them say that they have none, one place decides, by an entry of its log: Paxos group 0 of the lock group
  with the lowest id. Its share is what its file says. All others take over what is in that log.
- As long as one of them does not answer, that one place waits: it might have a share.

`phxqueue locks spread` goes the same way when it gives the first share: to that place first, and no further when that
has another one. So there is one first share, and every later one comes from it (shares.py).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger

from phxqueue.config import LockGroup, Topic
from phxqueue.lock.client.routes import LockRoutes, Place
from phxqueue.lock.shares import Share
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError
from phxqueue.proto.lock_pb2 import GetShareRequest
from phxqueue.proto.methods import GET_SHARE
from phxqueue.replica.interfaces import Clock, DelayedCall

#: Longest that the others are waited for in one round, in seconds, and the pauses between rounds, which double.
_ASK_S = 3.0
_PAUSE_FIRST_S = 0.1
_PAUSE_LAST_S = 2.0
#: After so many rounds in vain an operator is told, once.
_TELL_AFTER = 4

Number = tuple[int, int]
"""A Paxos group of the topic: lock_id and its number there."""


def first_place(locks: Sequence[LockGroup]) -> Number:
    """The place that decides."""
    return min(lock.lock_id for lock in locks), 0


def agreed(locks: Sequence[LockGroup], me: Number, told: Mapping[Number, Share | None]) -> Share | None:
    """The share that a Paxos group without one may take; None: it has to ask again. Pure.

    Args:
        locks: the lock groups of our file.
        told: what those that have answered have; None: nothing yet.
    """
    known = [share for share in told.values() if share is not None]
    if known:
        return max(known, key=lambda share: share.generation)
    everybody = {(lock.lock_id, group) for lock in locks for group in range(lock.paxos_groups)}
    if me != first_place(locks) or everybody - told.keys() - {me}:
        return None
    weights = tuple(sorted((lock.lock_id, lock.scale) for lock in locks if lock.scale))
    return Share(1, weights) if weights else None


class FirstShare:
    """Asks until there is a share, while this node is master of the Paxos group.

    Args:
        me: the Paxos group.
        caller: finds the masters of the others.
        known: whether there is a share by now.
        adopt: puts one into the log; the Deferred fails with RpcError.
    """

    def __init__(
        self,
        me: Number,
        topic: Topic,
        caller: Caller,
        clock: Clock,
        *,
        known: Callable[[], bool],
        adopt: Callable[[Share], Deferred[Any]],
    ) -> None:
        self._me = me
        self._topic = topic
        self._others = [place for place in LockRoutes(topic).everywhere() if (place.lock_id, place.group) != me]
        self._caller = caller
        self._clock = clock
        self._known = known
        self._adopt = adopt
        self._running: Deferred[None] | None = None
        self._log = Logger(namespace="phxqueue.lock.first_share")

    def begin(self) -> None:
        """A term has begun: if there is no share, ask for one."""
        self.end()
        if not self._known():
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(lambda failure: failure.trap(CancelledError) and None)
            self._running.addErrback(lambda failure: self._log.failure("asking for the first share failed", failure))

    def end(self) -> None:
        """Mastership is gone, or the node stops."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    async def _run(self) -> None:
        pause, rounds = _PAUSE_FIRST_S, 0
        while not self._known():
            told, errors = await self._ask_all()
            share = agreed(self._topic.locks, self._me, told)
            if share is not None and not self._known():
                await self._take(share)
                continue
            rounds += 1
            if rounds == _TELL_AFTER and errors:
                self._log.warn(
                    "lock group {lock_id} group {group} has no share of the keys and serves none: which it gets "
                    "depends on others that do not answer ({why}); asking on",
                    lock_id=self._me[0],
                    group=self._me[1],
                    why="; ".join(errors),
                )
            await self._wait(pause)
            pause = min(2 * pause, _PAUSE_LAST_S)

    async def _ask_all(self) -> tuple[dict[Number, Share | None], list[str]]:
        told: dict[Number, Share | None] = {}
        errors: list[str] = []

        async def ask(place: Place) -> None:
            request = GetShareRequest(topic_id=place.topic_id, lock_id=place.lock_id, paxos_group=place.group)
            try:
                answer = await self._caller.call(place.route, GET_SHARE, request, _ASK_S)
            except RpcError as error:
                errors.append(f"lock group {place.lock_id} group {place.group}: {error.message}")
            else:
                share = Share.of(answer.share) if answer.HasField("share") else None
                told[place.lock_id, place.group] = share

        await _together([ask(place) for place in self._others])
        return told, errors

    async def _take(self, share: Share) -> None:
        try:
            await self._adopt(share)
        except RpcError as error:  # mastership is gone, or somebody was faster: then it is known by now
            self._log.debug("the first share could not be written: {error}", error=error)
            await self._wait(_PAUSE_FIRST_S)
        else:
            self._log.info(
                "lock group {lock_id} group {group} serves its share of the keys: {share} (generation {generation})",
                lock_id=self._me[0],
                group=self._me[1],
                share=str(share),
                generation=share.generation,
            )

    async def _wait(self, seconds: float) -> None:
        waking: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer: DelayedCall = self._clock.callLater(seconds, waking.callback, None)
        await waking


async def _together(work: list[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; cancelled, cancel all of it."""
    running: list[Any] = [Deferred.fromCoroutine(each) for each in work]
    try:
        for succeeded, result in await DeferredList(running, consumeErrors=True):
            if not succeeded:
                result.raiseException()
    except CancelledError:
        for each in running:
            each.cancel()
        raise
