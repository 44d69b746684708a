"""What a caller is told whose command was proposed: its outcome, or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.replica.errors import NotServing, Overloaded, ReplicaError
from phxqueue.store.group import StoreGroup
from phxqueue.store.outcomes import Refusal


def only_outcome(outcomes: Sequence[Any] | Refusal) -> Any:
    """What became of a command that asks for one thing.

    Raises:
        RpcError: every replica has refused it alike.
    """
    [outcome] = [outcomes] if isinstance(outcomes, Refusal) else outcomes
    if isinstance(outcome, Refusal):
        raise RpcError(outcome.status, outcome.message, maybe_executed=False)
    return outcome


def window_full(group: StoreGroup, retry_after_ms: int) -> RpcError:
    """Nothing was proposed: too much is under way."""
    return RpcError(
        Status.RESOURCE_EXHAUSTED,
        f"group {group.group_id} of the store has its window full: try again",
        retry_after_ms=retry_after_ms,
    )


def no_outcome(
    failure: Failure, group: StoreGroup, refuse: Callable[[], RpcError], retry_after_ms: int, unknown: str
) -> RpcError:
    """Why a command has no outcome; a failure that is none of the Paxos group's is raised again.

    Args:
        refuse: makes the error for requests that meet a group which is not served here (any more).
        unknown: what is not known when it may still be chosen, and what to do.
    """
    failure.trap(ReplicaError)
    if failure.check(NotServing):
        return refuse()
    if failure.check(Overloaded):
        return window_full(group, retry_after_ms)
    return RpcError(Status.UNAVAILABLE, f"{failure.getErrorMessage()}: {unknown}")
