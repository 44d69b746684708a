"""What the store needs of one Paxos group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from phxqueue.replica.served_group import ServedGroup


class StoreGroup(ServedGroup, Protocol):
    """The part of :class:`phxqueue.replica.group_runtime.GroupRuntime` the store uses; see there."""

    on_hand_over: list[Callable[[], None]]

    def cached(self, instance: int) -> bytes | None: ...

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]: ...

    def read_stored(self, instances: Sequence[int]) -> Deferred[list[bytes]]: ...
