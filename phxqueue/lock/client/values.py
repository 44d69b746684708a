"""What the lock service tells of a key."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.proto.lock_pb2 import LockInfo, StringInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class LockState:
    """A lock that somebody holds.

    Attributes:
        token: its fencing token.
        client_id: who holds it.
        lease, remaining: seconds; None: without an end.
        waiters: how many wait for it.
    """

    name: str
    token: int
    client_id: str
    lease: float | None
    remaining: float | None
    waiters: int

    @property
    def holder(self) -> str:
        """The name of the client that holds it."""
        return self.client_id.rsplit(":", 2)[0]


def make_client_id(name: str, session: str, number: int) -> str:
    """Who holds a lock, by one acquisition of it: the client's name, which life of it, a number."""
    return f"{name}:{session}:{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StringValue:
    """A string that is stored.

    Attributes:
        version: rises with every write of the key.
        lease, remaining: seconds; None: without an end.
    """

    key: str
    value: bytes
    version: int
    lease: float | None
    remaining: float | None


def lock_state(info: LockInfo) -> LockState:
    """From the wire."""
    return LockState(
        name=info.lock_key,
        token=info.version,
        client_id=info.client_id,
        lease=_seconds(info.lease_time_ms, 0),
        remaining=_seconds(info.remaining_ms, -1),
        waiters=info.waiters,
    )


def string_value(info: StringInfo) -> StringValue:
    """From the wire."""
    return StringValue(
        key=info.key,
        value=info.value,
        version=info.version,
        lease=_seconds(info.lease_time_ms, 0),
        remaining=_seconds(info.remaining_ms, -1),
    )


def _seconds(milliseconds: int, none: int) -> float | None:
    return None if milliseconds == none else milliseconds / 1000
