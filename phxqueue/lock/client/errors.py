"""How calls of the lock client fail: not held, surely not done, or unknown.

LockError
  LockTimeout           the lock was not free within the time to wait; nothing is held
  NotHeld               a lock that this process does not hold (any more)
    LockLost            its lease has run out, or somebody has taken it by force: stop the work it protects
  Refused               surely NOT carried out
    InvalidRequest      the call itself is wrong; trying again cannot help
      UnknownTopic, NoLockGroup
    NotPermitted        the cluster does not let us
    VersionMismatch     the string is not as the caller last saw it
    Overloaded          a bound of the server, or of the client (TooManyLocks), is reached
    Unavailable         no master could be reached in time
    ClientClosed
  OutcomeUnknown        perhaps carried out: read what is there
"""

from __future__ import annotations

from phxqueue.net.status import RpcError, Status


class LockError(Exception):
    """A call of the lock client that did not do what it was asked.

    Attributes:
        status: the kind of failure, in the words of the wire protocol.
        message: what happened and what to do, a sentence for a person.
    """

    status = Status.INTERNAL

    def __init__(self, message: str, status: Status | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status


class LockTimeout(LockError):
    """Others held the lock for as long as we were to wait. Nothing is held."""

    status = Status.DEADLINE_EXCEEDED


class NotHeld(LockError):
    """The lock was released, so its token is good for nothing."""

    status = Status.FENCED


class LockLost(NotHeld):
    """The lease has run out before it could be renewed, or somebody has taken or released the lock by force."""


class Refused(LockError):
    """Surely not carried out."""


class InvalidRequest(Refused):
    """The call is wrong; the message names the field, what it was and what is allowed."""

    status = Status.INVALID_ARGUMENT


class UnknownTopic(InvalidRequest):
    """No such topic in the cluster's configuration."""

    status = Status.NOT_FOUND


class NoLockGroup(InvalidRequest):
    """The topic has no lock group with a scale above 0."""

    status = Status.NOT_FOUND


class NotPermitted(Refused):
    """The cluster knows us and does not let us, or does not know us."""

    status = Status.PERMISSION_DENIED


class VersionMismatch(Refused):
    """The string has another version than `expected_version`: somebody else has written meanwhile."""

    status = Status.VERSION_MISMATCH


class Overloaded(Refused):
    """A bound of the lock node is reached."""

    status = Status.RESOURCE_EXHAUSTED


class TooManyLocks(Overloaded):
    """This client holds, or waits for, as many locks as it may."""


class Unavailable(Refused):
    """No master could be reached, or not in time."""

    status = Status.UNAVAILABLE


class ClientClosed(Refused):
    """close() has been called."""

    status = Status.UNAVAILABLE


class OutcomeUnknown(LockError):
    """Perhaps carried out. The client does not repeat it: somebody may have read, and changed, the result meanwhile."""

    status = Status.DEADLINE_EXCEEDED


_REFUSALS: dict[Status, type[Refused]] = {
    Status.INVALID_ARGUMENT: InvalidRequest,
    Status.UNAUTHENTICATED: NotPermitted,
    Status.PERMISSION_DENIED: NotPermitted,
    Status.VERSION_MISMATCH: VersionMismatch,
    Status.NOT_FOUND: VersionMismatch,
    Status.RESOURCE_EXHAUSTED: Overloaded,
}


def told(error: RpcError, *, changes: bool = True) -> LockError:
    """The exception for a call that failed.

    Args:
        changes: whether the call would have changed anything; one that only reads has no unknown outcome.
    """
    if changes and error.maybe_executed:
        return OutcomeUnknown(f"{error.message}: it may have been carried out or not; read what is there", error.status)
    return _REFUSALS.get(error.status, Unavailable)(error.message or error.status.meaning, error.status)
