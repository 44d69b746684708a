"""Gives the lock groups of a topic new shares of the keys, while they serve. See phxqueue.lock.shares for the steps.

Whatever stops it half-way, the next run with the same weights goes on from there; nothing that is done is done again,
and no key is ever open in two places. Closed keys stay closed until it is finished, or given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phxqueue.config import Topic
from phxqueue.lock.client.errors import LockError
from phxqueue.lock.client.routes import LockRoutes, Place
from phxqueue.lock.placement import Placement, paxos_group
from phxqueue.lock.shares import Share
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError
from phxqueue.proto.lock_pb2 import (
    ChangeShareRequest,
    ExportKeysRequest,
    GetShareRequest,
    LockShare,
    MovedRecord,
    ShareChange,
)
from phxqueue.proto.methods import CHANGE_SHARE, EXPORT_KEYS, GET_SHARE, Method

#: Longest that one step at one Paxos group may take, in seconds: failovers are waited for.
STEP_S = 30.0


class SpreadError(LockError):
    """The shares cannot be changed so, or not now; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What one Paxos group knows of the shares."""

    place: Place
    share: Share | None
    moving: Share | None
    highest_version: int


class Spreading:
    """One change of shares.

    Args:
        tell: told what is done, for people.
    """

    def __init__(self, caller: Caller, topic: Topic, tell: Callable[[str], None] = lambda text: None) -> None:
        self._caller = caller
        self._groups = {lock.lock_id: lock.paxos_groups for lock in topic.locks}
        self._places = list(LockRoutes(topic).everywhere())
        self._by_number = {(place.lock_id, place.group): place for place in self._places}
        self._topic_id = topic.topic_id
        self._tell = tell

    async def look(self) -> list[Standing]:
        """Ask every Paxos group of every lock group. Raises SpreadError."""
        return [await self._look(place) for place in self._places]

    async def run(self, weights: Mapping[int, int]) -> Share:
        """Bring all lock groups to these weights; return the share that holds then. Raises SpreadError."""
        wanted = tuple(sorted(weights.items()))
        standings = await self.look()
        share, target = self._plan(standings, wanted)
        if target is None:
            return share
        await self._adopt(standings, share)
        if share == target:
            return share
        standings = await self.look()
        behind = [one.place for one in standings if one.share != target]
        for place in behind:
            await self._change(place, ShareChange.PREPARE, target.message())
        if len(behind) == len(standings):  # else somebody has been committed, so everything was imported before
            await self._move(standings, target)
        for place in behind:
            await self._change(place, ShareChange.COMMIT, LockShare(generation=target.generation))
        self._tell(f"the shares are {target} now (generation {target.generation})")
        return target

    async def abandon(self) -> Share:
        """Give an unfinished change up, if no group has begun to serve by it. Raises SpreadError."""
        standings = await self.look()
        shares = {one.share for one in standings}
        moving = {one.moving.generation for one in standings if one.moving is not None}
        if len(shares) != 1 or not moving:
            raise SpreadError("there is no change that could be given up: finish it with the same shares")
        for place in self._places:
            await self._change(place, ShareChange.ABANDON, LockShare(generation=max(moving)))
        [share] = shares
        assert share is not None
        self._tell(f"the shares stay {share} (generation {share.generation})")
        return share

    def _plan(self, standings: Sequence[Standing], wanted: tuple[tuple[int, int], ...]) -> tuple[Share, Share | None]:
        """The share that everybody should have, and the one to change to; None: nothing is to be done."""
        unknown = [lock_id for lock_id, _ in wanted if lock_id not in self._groups]
        if unknown or not any(scale for _, scale in wanted):
            known = ", ".join(map(str, self._groups))
            raise SpreadError(f"give lock groups of lockconfig.conf ({known}) a scale, at least one above 0")
        shares = {one.share for one in standings if one.share is not None}
        moving = {one.moving for one in standings if one.moving is not None}
        if not shares:
            first = Share(1, wanted)
            return first, first
        self._check_all_known(shares | moving)
        if len(shares | moving) == 1:
            [share] = shares
            if share.weights == wanted:
                return share, share if any(one.share is None for one in standings) else None
            return share, Share(share.generation + 1, wanted)
        target = max(shares | moving, key=lambda one: one.generation)
        if target.weights != wanted:
            raise SpreadError(
                f"a change to {target} is not finished: finish it with these shares first, or give it up with --abandon"
            )
        return min(shares, key=lambda one: one.generation), target

    def _check_all_known(self, shares: set[Share]) -> None:
        missing = {lock_id for share in shares for lock_id, scale in share.weights if scale} - set(self._groups)
        if missing:
            raise SpreadError(
                f"lock group {', '.join(map(str, sorted(missing)))} has keys and is not in lockconfig.conf: it has to "
                "stay there, and run, until its keys have moved"
            )

    async def _adopt(self, standings: Sequence[Standing], share: Share) -> None:
        # The first of them is the place where the first share is agreed (phxqueue.lock.first_share): if that has got
        # another one meanwhile it refuses, and nobody else is told.
        for one in standings:
            if one.share is None:
                await self._change(one.place, ShareChange.ADOPT, share.message())
                self._tell(f"lock group {one.place.lock_id} group {one.place.group} knows the shares: {share}")

    async def _move(self, standings: Sequence[Standing], target: Share) -> None:
        """Copy what is under closed keys to where it goes."""
        # Asked again: only now, with the keys closed, no higher version can come.
        above = max([one.highest_version for one in await self.look()])
        placement = Placement(target.weights)
        for place in self._places:
            await self._import(place, target, (), above)
        count = 0
        for one in standings:
            async for records in self._exported(one.place):
                by_place: dict[tuple[int, int], list[MovedRecord]] = {}
                for record in records:
                    lock_id = placement.lock_id(record.key)
                    assert lock_id is not None
                    number = lock_id, paxos_group(record.key, self._groups[lock_id])
                    by_place.setdefault(number, []).append(record)
                for number, portion in by_place.items():
                    await self._import(self._by_number[number], target, portion, above)
                count += len(records)
        self._tell(f"{count} locks and strings moved")

    async def _exported(self, place: Place) -> Any:
        skip, more = 0, True
        while more:
            request = ExportKeysRequest(
                topic_id=self._topic_id, lock_id=place.lock_id, paxos_group=place.group, skip=skip
            )
            page = await self._call(place, EXPORT_KEYS, request)
            skip, more = skip + len(page.records), page.more
            yield list(page.records)

    async def _import(self, place: Place, target: Share, records: Sequence[MovedRecord], above: int) -> None:
        generation = LockShare(generation=target.generation)
        await self._change(place, ShareChange.IMPORT, generation, records=records, above_version=above)

    async def _look(self, place: Place) -> Standing:
        request = GetShareRequest(topic_id=self._topic_id, lock_id=place.lock_id, paxos_group=place.group)
        answer = await self._call(place, GET_SHARE, request)
        share = Share.of(answer.share) if answer.HasField("share") else None
        moving = Share.of(answer.moving) if answer.HasField("moving") else None
        return Standing(place, share, moving, answer.highest_version)

    async def _change(self, place: Place, step: ShareChange.Step.ValueType, share: LockShare, **more: Any) -> None:
        change = ShareChange(step=step, share=share, **more)
        request = ChangeShareRequest(
            topic_id=self._topic_id, lock_id=place.lock_id, paxos_group=place.group, change=change
        )
        await self._call(place, CHANGE_SHARE, request)

    async def _call(self, place: Place, method: Method[Any, Any], request: Any) -> Any:
        try:
            return await self._caller.call(place.route, method, request, STEP_S)
        except RpcError as error:
            raise SpreadError(
                f"lock group {place.lock_id} group {place.group}: {error.message}; run it again to go on"
            ) from error
