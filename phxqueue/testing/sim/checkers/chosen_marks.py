"""Whoever says that something is chosen is right: every mark and every learned entry on the wire, against the truth."""

from __future__ import annotations

from collections.abc import Sequence

from phxqueue.paxos.messages import Accept, Accepted, Heartbeat, HeartbeatReply, LearnReply, Message, Promise
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.decided import Decided

_MARKED = (Accept, Accepted, Heartbeat, HeartbeatReply, LearnReply, Promise)


class ChosenMarks:
    """Observes the network."""

    def __init__(self, decided: Decided) -> None:
        self._decided = decided

    def sent(self, sender: int, messages: Sequence[tuple[int, Message]]) -> None:
        """A frame leaves a node."""
        for group_id, message in messages:
            if not isinstance(message, _MARKED):
                continue
            if message.chosen > self._decided.prefix(group_id):
                raise Violation(
                    f"group {group_id}: node {sender} says in {type(message).__name__} that everything up to "
                    f"{message.chosen} is chosen; a majority of disks holds {self._decided.prefix(group_id)} at most"
                )
            if isinstance(message, LearnReply):
                self._check_entries(sender, group_id, message)

    def _check_entries(self, sender: int, group_id: int, message: LearnReply) -> None:
        for instance, entry in message.entries:
            if instance > message.chosen and message.first > message.chosen:
                continue  # told as accepted only, to a node that knows it by its checksum
            chosen = self._decided.value(group_id, instance)
            if chosen != (entry.kind, entry.checksum):
                raise Violation(
                    f"group {group_id}: node {sender} teaches instance {instance} as {entry.kind, entry.checksum}, "
                    f"chosen is {chosen}"
                )
