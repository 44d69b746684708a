"""Why a proposal has no result."""

from __future__ import annotations


class ReplicaError(Exception):
    """Base of everything a replica refuses or cannot answer."""


class ReplicaStartError(ReplicaError):
    """A node cannot start on this data directory or this port; the text says why and what to do."""


class NotServing(ReplicaError):
    """This node is not the master of the group, or its lease has run out: nothing was proposed."""


class Overloaded(ReplicaError):
    """The group's window of entries in flight is full: nothing was proposed, try again shortly."""


class OutcomeUnknown(ReplicaError):
    """Mastership was lost while the entry was in flight: it may or may not become chosen.

    Proposing it again is safe only if the command is idempotent (batches carry producer_id and sequence for that).
    """


class Refused(ReplicaError):
    """What an operator asked for must not, or cannot now, be done; the text says why. Nothing has changed.

    temporary: it goes away by itself, so asking again helps.
    """

    def __init__(self, reason: str, *, temporary: bool = False) -> None:
        super().__init__(reason)
        self.temporary = temporary


class EntryUnreadable(ReplicaError):
    """An applied entry could not be read back intact from the local journal."""


class Halted(ReplicaError):
    """The state machine refuses to apply an entry (a newer command version): this group stopped applying."""
