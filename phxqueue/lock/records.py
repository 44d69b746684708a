"""The values of the lock table: what is under a key, and what became of an operation on it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LOCKS, STRINGS, KeySpace

__all__ = ["LOCKS", "STRINGS", "WHOLE_TABLE", "KeySpace", "Lock", "Outcome", "Record", "Silence", "String", "TableKey"]

TableKey = tuple[int, str]
"""(key space, key)"""
WHOLE_TABLE: TableKey = (LOCKS, "")
"""Operations that change no single key are queued under this one: no key is empty."""


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that is held. `lease_ms` 0: until it is released.

    `stamp`: of the operation by which its lease began, or began again, last: the version, and later that operation's
    own number. What ends the lease names it, so it is void when a renewal was on its way before it.
    """

    version: int
    client_id: str
    lease_ms: int
    stamp: int


@dataclass(frozen=True, slots=True)
class String:
    """A value under a key. `lease_ms` 0: for ever. `request_id`: of the write that made it; 0: none."""

    version: int
    value: bytes
    lease_ms: int
    request_id: int = 0

    @property
    def stamp(self) -> int:
        """As a lock's: every write is another version."""
        return self.version


Record = Lock | String


@dataclass(slots=True)
class Silence:
    """A lock whose lease has not been renewed for a while, as the log of this term says.

    Attributes:
        passed_ms: of its lease, when that was proposed.
        begun: a time at which its lease had begun already, by the clock of this node; None: this node did not see the
            entry when it came.
    """

    passed_ms: int
    begun: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation.

    Attributes:
        status: OK, or why nothing has changed: ALREADY_EXISTS (another client holds the lock), VERSION_MISMATCH,
            NOT_FOUND, INVALID_ARGUMENT.
        record: what is under the key now; None: nothing.
    """

    status: Status
    record: Record | None = None
