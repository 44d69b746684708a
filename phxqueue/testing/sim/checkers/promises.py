"""A durable promise never goes down, whatever is learned by whatever way."""

from __future__ import annotations

from collections.abc import Mapping

from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.disk import Disk


class PromisesOnlyRise:
    """Compares what every disk says now with what it said at the last look."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int, int], tuple[int, int]] = {}

    def check(self, disks: Mapping[int, Disk]) -> None:
        """Raise when a promise or a chosen mark is lower than before."""
        for node_id, disk in disks.items():
            for group_id, group in disk.groups.items():
                place = node_id, disk.identity.incarnation, group_id
                promised, chosen = self._seen.get(place, (0, -1))
                if group.promised < promised or group.chosen < chosen:
                    raise Violation(
                        f"node {node_id} group {group_id} went back: promised {promised} -> {group.promised}, "
                        f"chosen {chosen} -> {group.chosen}"
                    )
                self._seen[place] = (group.promised, group.chosen)
