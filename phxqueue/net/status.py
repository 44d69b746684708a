"""Every way a call can end: one enumeration, with what each status means and when a retry makes sense.

Statuses are part of the wire protocol (`Envelope.status`); numbers are never reused.
docs/wire-protocol.md repeats the table, and a test compares the two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Retry(enum.Enum):
    """What a caller may do after a status."""

    NEVER = "never"  # the same request will fail the same way: tell the user
    OTHER_NODE = "other node"  # surely not carried out here: ask another node of the same service
    SAME_AFTER_DELAY = "same node, after a delay"  # surely not carried out: wait retry_after_ms, ask again
    UNKNOWN_OUTCOME = "unknown outcome"  # perhaps carried out: repeat only what is idempotent


class Status(enum.IntEnum):
    """How a call ended."""

    OK = 0
    NOT_MASTER = 1
    NO_MASTER = 2
    NOT_FOUND = 3
    ALREADY_EXISTS = 4
    VERSION_MISMATCH = 5
    FENCED = 6
    INVALID_ARGUMENT = 7
    OUT_OF_RANGE = 8
    RESOURCE_EXHAUSTED = 9
    UNAUTHENTICATED = 10
    PERMISSION_DENIED = 11
    DEADLINE_EXCEEDED = 12
    UNAVAILABLE = 13
    DATA_LOSS = 14
    INTERNAL = 15

    @property
    def meaning(self) -> str:
        """One sentence for documents and for people."""
        return _FACTS[self].meaning

    @property
    def retry(self) -> Retry:
        """What a caller may do next."""
        return _FACTS[self].retry

    @classmethod
    def from_wire(cls, number: int) -> Status:
        """The status of that number; a number of a newer protocol reads as INTERNAL."""
        return _BY_NUMBER.get(number, cls.INTERNAL)


@dataclass(frozen=True, slots=True)
class _Facts:
    meaning: str
    retry: Retry


_FACTS: dict[Status, _Facts] = {
    Status.OK: _Facts("The call succeeded.", Retry.NEVER),
    Status.NOT_MASTER: _Facts(
        "This node is not the master of the group asked for; `redirect` names the master when it is known.",
        Retry.OTHER_NODE,
    ),
    Status.NO_MASTER: _Facts(
        "The group has no master at the moment (an election is running, or too few nodes are reachable).",
        Retry.OTHER_NODE,
    ),
    Status.NOT_FOUND: _Facts("The thing asked for does not exist.", Retry.NEVER),
    Status.ALREADY_EXISTS: _Facts("The thing to be made exists already.", Retry.NEVER),
    Status.VERSION_MISMATCH: _Facts("The thing has changed since the caller last read it.", Retry.NEVER),
    Status.FENCED: _Facts("A newer holder of the lock has been seen; this caller must stop.", Retry.NEVER),
    Status.INVALID_ARGUMENT: _Facts("The request itself is wrong; the message names the field.", Retry.NEVER),
    Status.OUT_OF_RANGE: _Facts("The position asked for is no longer, or not yet, in the queue.", Retry.NEVER),
    Status.RESOURCE_EXHAUSTED: _Facts(
        "A bound of the node is reached; nothing was done; ask again after `retry_after_ms`.",
        Retry.SAME_AFTER_DELAY,
    ),
    Status.UNAUTHENTICATED: _Facts("The peer has not proved who it is (certificate).", Retry.NEVER),
    Status.PERMISSION_DENIED: _Facts("The peer is known and may not do this.", Retry.NEVER),
    Status.DEADLINE_EXCEEDED: _Facts(
        "No answer in time; the work may or may not have been done.", Retry.UNKNOWN_OUTCOME
    ),
    Status.UNAVAILABLE: _Facts(
        "The node cannot be reached, went away before it answered, or is stopping.", Retry.UNKNOWN_OUTCOME
    ),
    Status.DATA_LOSS: _Facts("Stored data is damaged or missing and cannot be served.", Retry.NEVER),
    Status.INTERNAL: _Facts(
        "The node failed in a way it did not expect; its log has the details.", Retry.UNKNOWN_OUTCOME
    ),
}
_BY_NUMBER: dict[int, Status] = {int(status): status for status in Status}


class RpcError(Exception):
    """A call that did not succeed.

    Attributes:
        status: the kind of failure.
        message: what happened and what to do about it, a sentence for a person.
        retry_after_ms: RESOURCE_EXHAUSTED: how long to wait before the next try (0 = not said).
        redirect: NOT_MASTER: "host:port" of the master, or "".
        maybe_executed: whether the request may have been carried out although it failed. By default
            what the status implies; False where the sender knows better (the connection was refused,
            so nothing was ever sent).
    """

    def __init__(
        self,
        status: Status,
        message: str,
        *,
        retry_after_ms: int = 0,
        redirect: str = "",
        maybe_executed: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_ms = retry_after_ms
        self.redirect = redirect
        self.maybe_executed = status.retry is Retry.UNKNOWN_OUTCOME if maybe_executed is None else maybe_executed

    def __str__(self) -> str:
        text = f"{self.status.name}: {self.message or self.status.meaning}"
        if self.redirect:
            text += f" (master: {self.redirect})"
        if self.retry_after_ms:
            text += f" (try again in {self.retry_after_ms} ms)"
        return text

    def __repr__(self) -> str:
        return f"RpcError({self.status.name}, {self.message!r})"
