"""Proposals of this node whose instances are not applied yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from phxqueue.replica.errors import OutcomeUnknown


@dataclass(slots=True)
class _Proposal:
    """What waits for one instance to be applied."""

    payload: bytes
    result: Deferred[Any]


class PendingProposals:
    """Of one group; as many as its window has room for."""

    def __init__(self, group_id: int) -> None:
        self._group_id = group_id
        self._proposals: dict[int, _Proposal] = {}

    def add(self, instance: int, payload: bytes) -> Deferred[Any]:
        """Return what fires when `instance` has been applied."""
        result: Deferred[Any] = Deferred()
        self._proposals[instance] = _Proposal(payload, result)
        return result

    def applied(self, instance: int, payload: bytes, result: Any) -> None:
        """An entry was applied: tell its proposer, or whoever proposed another one for this instance."""
        proposal = self._proposals.pop(instance, None)
        if proposal is None:
            return
        if proposal.payload == payload:
            proposal.result.callback(result)
        else:
            proposal.result.errback(
                OutcomeUnknown(f"group {self._group_id}: another master's entry was chosen for instance {instance}")
            )

    def fail(self, reason: str) -> None:
        """The outcome of all of them is unknown."""
        proposals, self._proposals = self._proposals, {}
        for proposal in proposals.values():
            proposal.result.errback(OutcomeUnknown(f"group {self._group_id}: {reason}"))
