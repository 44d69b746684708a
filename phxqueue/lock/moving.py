"""Which keys the master of one Paxos group answers for, and the steps by which that changes. See shares.py."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from phxqueue.config import LockNode
from phxqueue.lock.keeping import Keeping
from phxqueue.lock.operations import expire_operation, invalid
from phxqueue.lock.proposals import Result
from phxqueue.lock.records import LOCKS, STRINGS, Lock, TableKey
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

#: When who asks for a key on its way should come again.
RETRY_MS = 50
#: When who asks for a key before the lock groups have agreed should come again.
_FIRST_SHARE_MS = 200
#: Most bytes of records in one answer; a larger one travels alone.
PAGE_BYTES = 256 * 1024
_SHARE_KEY: TableKey = (LOCKS, "")
"""What share changes are queued under: no key is empty."""


class Moving:
    """The territory of one Paxos group.

    Args:
        closed: called when keys are about to be closed: nobody may wait for them any longer.
        opened: called when a new share holds: every lease runs its full length again.
    """

    def __init__(
        self, node: LockNode, table: LockTable, keeping: Keeping, closed: Callable[[], None], opened: Callable[[], None]
    ) -> None:
        self._node = node
        self._lock_id = node.lock.lock_id
        self._table = table
        self._keeping = keeping
        self._closed = closed
        self._opened = opened
        self._closing: Share | None = None  # proposed, and not known to be applied or not
        self._territory = Territory(self._lock_id, Shares())

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
        self._closing = None

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
        return key == _SHARE_KEY or self.territory.is_open(key[1])

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
                "of every lock group of the topic, to agree with them; ask again",
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

    def export(self, skip: int) -> ExportKeysResponse:
        """The records of closed keys, which do not change. Raises RpcError when nothing is moving."""
        if self._table.shares.moving is None:
            raise RpcError(Status.VERSION_MISMATCH, f"nothing is moving in lock group {self._lock_id}")
        response, size = ExportKeysResponse(), 0
        for key in self._leaving()[skip:]:
            record = self._moved(key)
            size += record.ByteSize()
            if response.records and size > PAGE_BYTES:
                response.more = True
                break
            response.records.append(record)
        return response

    def _leaving(self) -> list[TableKey]:
        territory = self.territory
        return sorted(key for key in _keys(self._table) if territory.leaves_to(key[1]) is not None)

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
        elif change.step == steps.ADOPT and self._table.shares.share is None:
            self._drop(self._strangers(Share.of(change.share)))
        elif change.step == steps.COMMIT and self._moves(change):
            self._drop(self._leaving())
        elif change.step == steps.ABANDON and self._moves(change):
            self._drop(self._arrived())
        answer: Deferred[ChangeShareResponse] = Deferred()
        operation = LockOperation(kind=LockOperation.SHARE, share_change=change)
        self._keeping.change(_SHARE_KEY, operation, lambda result: self._changed(change, answer, result))
        return answer

    def _moves(self, change: ShareChange) -> bool:
        moving = self._table.shares.moving
        return moving is not None and moving.generation == change.share.generation

    def _arrived(self) -> list[TableKey]:
        """What was imported, and is not ours by the share that holds."""
        territory = self.territory
        return [key for key in _keys(self._table) if territory.owner(key[1]) != self._lock_id]

    def _strangers(self, share: Share) -> list[TableKey]:
        """What a table that was restored from a backup holds of keys that belong elsewhere by now."""
        territory = Territory(self._lock_id, Shares(share))
        return [key for key in _keys(self._table) if territory.owner(key[1]) != self._lock_id]

    def _drop(self, keys: list[TableKey]) -> None:
        """Remove what belongs to others, ahead of the step after which nobody here looks at it."""
        for key in keys:
            record = self._table.record(key)
            assert record is not None
            self._keeping.change(key, expire_operation(key[0] == LOCKS, key[1], record.stamp), lambda result: None)

    def _changed(self, change: ShareChange, answer: Deferred[ChangeShareResponse], result: Result) -> None:
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
