"""Whether a command of some version may be proposed: when every member knows it."""

from __future__ import annotations

from typing import Protocol

from phxqueue.net.status import RpcError, Status
from phxqueue.store.group import StoreGroup


class Versioned(Protocol):
    """What is needed of StoreQueues."""

    version: int


def understood(group: StoreGroup, machine: Versioned, version: int) -> bool:
    """Every member knows the command, or has stopped at an earlier one of that version already."""
    return machine.version >= version or group.lowest_version >= version


def check_understood(group: StoreGroup, machine: Versioned, version: int, what: str) -> None:
    """Refuse what needs a version that not all members know.

    Raises:
        RpcError: UNAVAILABLE; surely nothing was stored.
    """
    if not understood(group, machine, version):
        raise RpcError(
            Status.UNAVAILABLE,
            f"a node of this store runs a version of PhxQueue that knows no {what}: upgrade all of them",
            maybe_executed=False,
        )
