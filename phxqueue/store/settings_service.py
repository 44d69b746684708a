"""The master's side of a topic's settings: answers what they are, and has changes chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.store_pb2 import (
    GetSettingsRequest,
    GetSettingsResponse,
    SetSettingRequest,
    SetSettingResponse,
    StoreCommand,
)
from phxqueue.replica.errors import NotServing, Overloaded, ReplicaError
from phxqueue.store.group import StoreGroup
from phxqueue.store.outcomes import Refusal
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import SETTINGS_VERSION


class SettingsService:
    """Of one Paxos group.

    Args:
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        *,
        timestamp_ms: Callable[[], int],
        retry_after_ms: int,
        refuse: Callable[[], RpcError],
    ) -> None:
        self._group = group
        self._machine = machine
        self._timestamp_ms = timestamp_ms
        self._retry_after_ms = retry_after_ms
        self._refuse = refuse

    def get(self, request: GetSettingsRequest) -> GetSettingsResponse:
        """All settings, or only that nothing has changed since the caller's revision."""
        table = self._machine.settings
        response = GetSettingsResponse(revision=table.revision)
        if not request.HasField("known_revision") or request.known_revision != table.revision:
            for key, value in sorted(table.values.items()):
                response.settings[key] = value
        else:
            response.unchanged = True
        return response

    def set(self, request: SetSettingRequest) -> Deferred[SetSettingResponse]:
        """Have a change chosen; when the answer is there it is durable on a majority.

        Raises:
            RpcError: UNAVAILABLE, a node knows no settings yet; RESOURCE_EXHAUSTED, too much is under way.
        """
        group, machine = self._group, self._machine
        if machine.version < SETTINGS_VERSION and group.lowest_version < SETTINGS_VERSION:
            raise RpcError(
                Status.UNAVAILABLE,
                "a node of this store runs a version of PhxQueue that knows no settings: upgrade all of them",
                maybe_executed=False,
            )
        if not group.window_free:
            raise self._overloaded()
        command = StoreCommand(version=SETTINGS_VERSION, timestamp_ms=self._timestamp_ms())
        command.settings.append(request.change)
        chosen = group.propose(command.SerializeToString())
        chosen.addCallbacks(_response, self._failed)
        return chosen

    def _failed(self, failure: Failure) -> Any:
        if failure.check(NotServing):
            raise self._refuse()
        if failure.check(Overloaded):
            raise self._overloaded()
        if failure.check(ReplicaError):
            raise RpcError(
                Status.UNAVAILABLE,
                f"{failure.getErrorMessage()}: it is not known whether the setting was changed; set it again",
            )
        return failure

    def _overloaded(self) -> RpcError:
        return RpcError(
            Status.RESOURCE_EXHAUSTED,
            f"group {self._group.group_id} of the store has its window full: try again",
            retry_after_ms=self._retry_after_ms,
        )


def _response(outcomes: list[Any] | Refusal) -> SetSettingResponse:
    [outcome] = [outcomes] if isinstance(outcomes, Refusal) else outcomes
    if isinstance(outcome, Refusal):
        raise RpcError(outcome.status, outcome.message, maybe_executed=False)
    return SetSettingResponse(revision=outcome)
