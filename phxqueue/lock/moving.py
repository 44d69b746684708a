"""Which keys the master of one Paxos group answers for, and the steps by which that changes. See shares.py.

Where each key belongs takes microseconds, and there may be many: they are gone through in portions, and the reactor has
its turn between, for a master that is silent for its lease is none any more.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from phxqueue.config import LockNode
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.operations import expire_operation, invalid
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, STRINGS, WHOLE_TABLE, Lock, TableKey
from phxqueue.lock.shares import Share, Shares, Territory
from phxqueue.lock.table import LockTable
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    ChangeShareResponse,
    ExportKeysResponse,
    GetShareResponse,
    LockOperation,
    MovedRecord,
    ShareChange,
)
from phxqueue.replica.interfaces import Clock

#: When who asks for a key on its way should come again.
RETRY_MS = 50
#: When who asks for a key before the lock groups have agreed should come again.
_FIRST_SHARE_MS = 200
#: Most bytes of records in one answer; a larger one travels alone.
PAGE_BYTES = 256 * 1024
#: Keys gone through in one turn of the reactor.
PORTION_KEYS = 1000


class Moving:
    """The territory of one Paxos group.

    Args:
        clock: for the turns between portions.
        check_proposing: refuses when this node is not master (any more); raises RpcError.
        closed: called when keys are about to be closed: nobody may wait for them any longer.
        opened: called when a new share holds: every lease runs its full length again.
    """

    def __init__(
        self,
        node: LockNode,
        table: LockTable,
        keeping: Keeping,
        clock: Clock,
        *,
        check_proposing: Callable[[], None],
        closed: Callable[[], None],
        opened: Callable[[], None],
    ) -> None:
        self._node = node
        self._lock_id = node.lock.lock_id
        self._table = table
        self._keeping = keeping
        self._clock = clock
        self._check_proposing = check_proposing
        self._closed = closed
        self._opened = opened
        self._closing: Share | None = None  # proposed, and not known to be applied or not
        self._territory = Territory(self._lock_id, Shares())
        self._left: tuple[Shares, list[TableKey]] | None = None  # what leaves, by which shares

    def first_share(self) -> LockOperation | None:
        """What goes with the beginning of a term: a lock group that is the only one takes all keys by itself.

        One of several has to agree with the others (first_share.py), because they may be serving its keys.
        """
        locks = self._node.topic.locks
        if self._table.shares.share is not None or len(locks) > 1 or not locks[0].scale:
            return None
        share = Share(1, ((self._lock_id, locks[0].scale),))
        return LockOperation(kind=LockOperation.SHARE, share_change=_adoption(share))

    def adopt(self, share: Share) -> Deferred[ChangeShareResponse]:
        """Serve by the first share. Fails with RpcError; VERSION_MISMATCH: there is another one."""
        return self.change(_adoption(share))

    def reset(self) -> None:
        """Mastership begins or ends."""
        self._closing = self._left = None

    @property
    def territory(self) -> Territory:
        """The keys as they are, those that are about to be closed as closed."""
        shares = self._table.shares
        if self._closing is not None and shares.moving is None and shares.share is not None:
            shares = Shares(shares.share, self._closing)
        if shares != self._territory.shares:
            self._territory = Territory(self._lock_id, shares)
        return self._territory

    def is_open(self, key: TableKey) -> bool:
        """Whether a key is served here and now."""
        return key == WHOLE_TABLE or self.territory.is_open(key[1])

    def refusal(self, key: TableKey) -> RpcError | None:
        """Why a key is not served here; None: it is."""
        territory, name = self.territory, key[1]
        if self.is_open(key):
            return None
        target = territory.leaves_to(name)
        if target is not None:
            return RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"{name!r} is moving to lock group {target}: ask again",
                retry_after_ms=RETRY_MS,
            )
        if territory.shares.share is None:
            return RpcError(
                Status.RESOURCE_EXHAUSTED,
                f"lock group {self._lock_id} has no share of the keys yet: at the first start it waits for a majority "
                "of every lock group of the topic, to agree with them (`phxqueue status` shows who is down); ask again",
                retry_after_ms=_FIRST_SHARE_MS,
            )
        owner = territory.owner(name)
        where = "no lock group" if owner is None else f"lock group {owner}"
        return invalid(
            f"key: {name!r} belongs to {where} (shares {territory.shares.share}, generation "
            f"{territory.shares.share.generation}); the scale of each lock group in the caller's lockconfig.conf has "
            "to say the same"
        )

    # ---- calls ------------------------------------------------------------------------------------

    def share(self) -> GetShareResponse:
        """The shares as they are."""
        shares = self._table.shares
        return GetShareResponse(
            share=None if shares.share is None else shares.share.message(),
            moving=None if shares.moving is None else shares.moving.message(),
            highest_version=self._table.highest_version,
        )

    def export(self, skip: int) -> Deferred[ExportKeysResponse]:
        """The records of closed keys, which do not change. Fails with RpcError when nothing is moving."""
        return Deferred.fromCoroutine(self._export(skip))

    async def _export(self, skip: int) -> ExportKeysResponse:
        shares = self._table.shares
        leaving = await self._leaving() if shares.moving is not None else []
        if shares.moving is None or self._table.shares is not shares:
            raise RpcError(Status.VERSION_MISMATCH, f"nothing is moving in lock group {self._lock_id}")
        response, size = ExportKeysResponse(), 0
        for place in range(skip, len(leaving)):
            record = self._moved(leaving[place])
            size += record.ByteSize()
            if response.records and size > PAGE_BYTES:
                response.more = True
                break
            response.records.append(record)
        return response

    async def _leaving(self) -> list[TableKey]:
        """The closed keys, sorted. Nothing about them changes as long as these very shares are there."""
        shares = self._table.shares
        if self._left is None or self._left[0] is not shares:
            territory = self.territory
            self._left = shares, sorted(await self._among(lambda name: territory.leaves_to(name) is not None))
        return self._left[1]

    async def _among(self, wanted: Callable[[str], bool]) -> list[TableKey]:
        """The keys that are wanted."""
        keys, found = _keys(self._table), list[TableKey]()
        for begin in range(0, len(keys), PORTION_KEYS):
            if begin:
                await self._turn()
            found += [key for key in keys[begin : begin + PORTION_KEYS] if wanted(key[1])]
        return found

    async def _turn(self) -> None:
        """Let the reactor do something else. Raises RpcError when this node is master no more."""
        turn: Deferred[None] = Deferred()
        self._clock.callLater(0, turn.callback, None)
        await turn
        self._check_proposing()

    def _moved(self, key: TableKey) -> MovedRecord:
        record = self._table.record(key)
        assert record is not None
        moved = MovedRecord(key_space=LOCKS if key[0] == LOCKS else STRINGS, key=key[1], version=record.version)
        moved.lease_ms = record.lease_ms
        if isinstance(record, Lock):
            moved.value = record.client_id.encode()
        else:
            moved.value, moved.request_id = record.value, record.request_id
        return moved

    def change(self, change: ShareChange) -> Deferred[ChangeShareResponse]:
        """Take one step, behind everything that is under way."""
        steps = ShareChange.Step
        if change.step not in steps.values():
            raise invalid(f"step: {change.step} is none of {', '.join(steps.keys())}")
        if change.step == steps.PREPARE and self._table.shares.moving is None:
            if self._closing is not None:
                raise RpcError(Status.RESOURCE_EXHAUSTED, "another change is under way", retry_after_ms=RETRY_MS)
            self._closing = Share.of(change.share)
            self._closed()
        return Deferred.fromCoroutine(self._change(change))

    async def _change(self, change: ShareChange) -> ChangeShareResponse:
        steps = ShareChange.Step
        shares = self._table.shares
        if change.step == steps.ADOPT and shares.share is None:
            # What a table that was restored from a backup holds of keys that belong elsewhere by now.
            await self._drop(await self._strangers(Shares(Share.of(change.share))), shares)
        elif change.step == steps.COMMIT and self._moves(change):
            await self._drop(await self._leaving(), shares)
        elif change.step == steps.ABANDON and self._moves(change):
            await self._drop(await self._strangers(shares), shares)  # what was imported
        answer: Deferred[ChangeShareResponse] = Deferred()
        operation = LockOperation(kind=LockOperation.SHARE, share_change=change)
        self._keeping.change(WHOLE_TABLE, operation, lambda result: self._changed(change, answer, result))
        return await answer

    def _moves(self, change: ShareChange) -> bool:
        moving = self._table.shares.moving
        return moving is not None and moving.generation == change.share.generation

    async def _strangers(self, shares: Shares) -> list[TableKey]:
        """What is here, and is not ours by those shares."""
        territory = Territory(self._lock_id, shares)
        return await self._among(lambda name: territory.owner(name) != self._lock_id)

    async def _drop(self, keys: list[TableKey], shares: Shares) -> None:
        """Remove what belongs to others, ahead of the step after which nobody here looks at it.

        Not once the shares are others: somebody was faster, and the keys may mean something again.
        """
        for place, key in enumerate(keys):
            if place and not place % PORTION_KEYS:
                await self._turn()
            record = self._table.record(key)
            if self._table.shares is shares and record is not None:
                self._keeping.change(key, expire_operation(key[0] == LOCKS, key[1], record.stamp), lambda result: None)

    def _changed(self, change: ShareChange, answer: Deferred[ChangeShareResponse], result: Result) -> None:
        if self._table.shares.moving is None:
            self._left = None
        if change.step == ShareChange.PREPARE:
            self._closing = None
        if isinstance(result, RpcError):
            answer.errback(result)
        elif result.status is Status.OK:
            if change.step in (ShareChange.COMMIT, ShareChange.ABANDON):
                self._opened()
            answer.callback(ChangeShareResponse())
        else:
            shares = self._table.shares
            now = "none" if shares.share is None else f"{shares.share} in generation {shares.share.generation}"
            then = "" if shares.moving is None else f", moving to {shares.moving}"
            answer.errback(
                RpcError(Status.VERSION_MISMATCH, f"the shares of lock group {self._lock_id} are {now}{then}")
            )


def _adoption(share: Share) -> ShareChange:
    return ShareChange(step=ShareChange.ADOPT, share=share.message())


def _keys(table: LockTable) -> list[TableKey]:
    keys: list[TableKey] = [(LOCKS, name) for name in table.locks]
    keys += [(STRINGS, name) for name in table.strings]
    return keys
