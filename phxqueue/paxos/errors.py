"""What the core raises. None of these is ever swallowed inside the core."""

from __future__ import annotations


class PaxosError(Exception):
    """Base of every exception of this package."""


class InvalidConfig(PaxosError, ValueError):
    """A GroupConfig that cannot work; the message names the field, the value and what is allowed."""


class NotMaster(PaxosError):
    """propose() on a node that is not the master; nothing was proposed.

    ``master_id`` is the node believed to be master, or None.
    """

    def __init__(self, group_id: int, master_id: int | None) -> None:
        where = "no master is known" if master_id is None else f"ask node {master_id}"
        super().__init__(f"this node is not the master of group {group_id}: {where}")
        self.group_id = group_id
        self.master_id = master_id


class WindowFull(PaxosError):
    """propose() while as many instances (or bytes) are in flight as the window allows; nothing was proposed.

    Propose again when ``Group.window_free`` says so, which a call that delivered chosen entries may change.
    """

    def __init__(self, group_id: int, in_flight: int, in_flight_bytes: int) -> None:
        held = f"{in_flight} entries, {in_flight_bytes} bytes in flight"
        super().__init__(f"the window of group {group_id} is full: {held}")
        self.group_id = group_id
        self.in_flight = in_flight
        self.in_flight_bytes = in_flight_bytes


class ChangeRefused(PaxosError):
    """change_members() for something that must not, or cannot now, be done; ``reason`` says why and what to do.
    Nothing was proposed. ``temporary``: it goes away by itself; see ``changes.Problem``.
    """

    def __init__(self, group_id: int, reason: str, *, temporary: bool = False) -> None:
        super().__init__(f"the membership of group {group_id} cannot be changed so: {reason}")
        self.group_id = group_id
        self.reason = reason
        self.temporary = temporary


class TransferRefused(PaxosError):
    """transfer() to a node that could not take over now; ``reason`` says why. The mastership stays where it is."""

    def __init__(self, group_id: int, reason: str) -> None:
        super().__init__(f"the mastership of group {group_id} cannot be handed over: {reason}")
        self.group_id = group_id
        self.reason = reason


class InvariantViolation(PaxosError, AssertionError):
    """Something that the protocol makes impossible has happened: a bug, or a disk that lied.

    The node must stop: nothing may be persisted, sent or applied after this. These checks stay on in production.
    """
