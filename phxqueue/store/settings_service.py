"""The master's side of a topic's settings: answers what they are, and has changes chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError
from phxqueue.proto.store_pb2 import (
    GetSettingsRequest,
    GetSettingsResponse,
    SetSettingRequest,
    SetSettingResponse,
    StoreCommand,
)
from phxqueue.store.group import StoreGroup
from phxqueue.store.outcomes import Refusal
from phxqueue.store.proposing import no_outcome, only_outcome, window_full
from phxqueue.store.queues import StoreQueues
from phxqueue.store.state import SETTINGS_VERSION
from phxqueue.store.understood import check_understood


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
        check_understood(group, machine, SETTINGS_VERSION, "settings")
        if not group.window_free:
            raise window_full(group, self._retry_after_ms)
        command = StoreCommand(version=SETTINGS_VERSION, timestamp_ms=self._timestamp_ms())
        command.settings.append(request.change)
        return group.propose(command.SerializeToString()).addCallbacks(_response, self._failed)

    def _failed(self, failure: Failure) -> SetSettingResponse:
        raise no_outcome(
            failure,
            self._group,
            self._refuse,
            self._retry_after_ms,
            "it is not known whether the setting was changed; set it again",
        )


def _response(outcomes: list[Any] | Refusal) -> SetSettingResponse:
    return SetSettingResponse(revision=only_outcome(outcomes))
