"""What the master of one Paxos group knows and may say: the replicated table, and the leases by its own clock."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.config.settings import LockLimits
from phxqueue.lock.leases import Leases
from phxqueue.lock.proposals import Done, Proposals
from phxqueue.lock.records import LOCKS, Lock, Record, String, TableKey
from phxqueue.lock.table import LockTable
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import LockInfo, LockOperation, StringInfo
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.served_group import ServedGroup

#: Operations that make the table larger.
_GROWING = frozenset({LockOperation.ACQUIRE, LockOperation.SET})
#: Disks do not empty themselves within milliseconds.
_DISK_RETRY_MS = 1000


class Keeping:
    """The table of one Paxos group with the leases of what is in it.

    Args:
        accepting: False while the disk is below its low-water mark: nothing new is taken in then.
    """

    def __init__(
        self,
        group: ServedGroup,
        proposals: Proposals,
        limits: LockLimits,
        clock: Clock,
        accepting: Callable[[], bool],
    ) -> None:
        self.table: LockTable = group.state_machine
        self.leases = Leases()
        self.quiet = Leases()  # how long nothing may be heard of a holder before that is noted
        self.beginning = False  # some leases of this term have not begun yet, and have no end here
        self._group = group
        self._proposals = proposals
        self._limits = limits
        self._clock = clock
        self._accepting = accepting

    def serving(self) -> bool:
        """Whether the table as it is here may be told to clients: under a valid lease, in a term of our own."""
        return self._proposals.term is not None and self._group.serving()

    def settled(self, key: TableKey) -> bool:
        """Whether what is under a key may be told, and will still be so when the answer has been given.

        Not so while an operation on it is under way: a lease renewed now might be followed by the entry that removes
        it. Such requests go through the log, behind that operation.
        """
        return self.serving() and not self._proposals.busy(key)

    def renewable(self, name: str) -> bool:
        """Whether the lease of a lock may begin again without an entry.

        Not so while the lock is noted as silent: the next master would not know, and believe what is noted. Nor while
        leases have yet to begin: this one might be dated back afterwards.
        """
        return self.settled((LOCKS, name)) and not self.beginning and name not in self.table.silent

    def change(self, key: TableKey, operation: LockOperation, done: Done) -> None:
        """Have an operation carried out; see Proposals.offer."""
        self._proposals.offer(key, operation, done)

    def check_room(self, operation: LockOperation) -> None:
        """Refuse a client's operation for which there is no room. Raises RpcError (RESOURCE_EXHAUSTED)."""
        self._proposals.check_room()
        if operation.kind not in _GROWING:
            return
        table, limits = self.table, self._limits
        known = operation.key in (table.locks if operation.kind == LockOperation.ACQUIRE else table.strings)
        if not self._accepting():
            raise self._exhausted(
                "the disk of this node has less than journal.min_free_bytes free; nothing new is taken in until there "
                "is room again",
                _DISK_RETRY_MS,
            )
        if not known and len(table) >= limits.table_keys:
            raise self._exhausted(f"the table has {len(table)} keys (limits.table_keys {limits.table_keys})")
        if table.size + operation.ByteSize() > limits.table_bytes:
            raise self._exhausted(f"the table has {table.size} bytes (limits.table_bytes {limits.table_bytes})")

    def _exhausted(self, what: str, retry_after_ms: int = 0) -> RpcError:
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"group {self._group.group_id} of the lock group: {what}",
            retry_after_ms=retry_after_ms or self._limits.retry_after_ms,
        )

    def renewed(self, key: TableKey) -> None:
        """Let the lease of a lock that is renewable run its full length again."""
        now = self._clock.seconds()
        self.leases.renew(key, now)
        self.quiet.renew(key, now)

    # ---- what clients are told ------------------------------------------------------------------

    def lock_info(self, name: str, lock: Lock, waiters: int = 0) -> LockInfo:
        """A held lock, with what is left of its lease."""
        return LockInfo(
            lock_key=name,
            version=lock.version,
            client_id=lock.client_id,
            lease_time_ms=lock.lease_ms,
            remaining_ms=self._remaining_ms((LOCKS, name), lock.lease_ms),
            waiters=waiters,
        )

    def string_info(self, key: TableKey, string: String, *, with_value: bool = True) -> StringInfo:
        """A string, with what is left of its lease."""
        return StringInfo(
            key=key[1],
            version=string.version,
            value=string.value if with_value else b"",
            lease_time_ms=string.lease_ms,
            remaining_ms=self._remaining_ms(key, string.lease_ms),
        )

    def _remaining_ms(self, key: TableKey, lease_ms: int) -> int:
        if not lease_ms:
            return -1
        remaining = self.leases.remaining(key, self._clock.seconds())
        if remaining is None:
            return lease_ms if self.beginning else 0
        return int(remaining * 1000)


def not_found(key: TableKey) -> RpcError:
    """There is nothing under a key."""
    what = "nobody holds lock" if key[0] == LOCKS else "there is no string"
    return RpcError(Status.NOT_FOUND, f"{what} {key[1]!r}")


def mismatch(key: TableKey, record: Record | None) -> RpcError:
    """What is under a key has another version (or holder) than the request says."""
    if record is None:
        return RpcError(Status.VERSION_MISMATCH, f"{not_found(key).message}: its version is 0")
    if isinstance(record, Lock):
        text = f"lock {key[1]!r} is held by {record.client_id!r} with version {record.version}"
    else:
        text = f"string {key[1]!r} has version {record.version}"
    return RpcError(Status.VERSION_MISMATCH, text)


def failure_of(key: TableKey, status: Status, record: Record | None) -> RpcError:
    """The error for an operation that the table refused."""
    return not_found(key) if status is Status.NOT_FOUND else mismatch(key, record)
