"""Where masterships go: back to the preferred nodes, and away from one that stops or has no room on its disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.placement import MasteredGroup, Placement

Order = Callable[[int], Sequence[int]]
"""Preferred masters of a group, best first, as the configuration has it; nodes that it does not know come last."""

_Due = tuple[GroupRuntime, int, str]
"""What to give to whom, and why."""

LOOK_INTERVAL = 0.25
"""Seconds between two looks at whether something is to be given away: it costs a little for each group."""
ROUNDS = 2
"""How often every other node is offered a mastership by a node that stops: a transfer may fail because of a disk that
stands still for a moment.
"""


class Masterships:
    """The masterships of one node.

    Args:
        order: who is preferred as master.
        room: whether this node may take in anything new; a master that may not is no use where another may.
        settle: seconds for which a preferred node has to be healthy before it is given a group back; 0: never.
        interval: shortest time in seconds between two groups given back.
    """

    def __init__(
        self,
        node_id: int,
        groups: Mapping[int, GroupRuntime],
        clock: Clock,
        *,
        order: Order,
        room: Callable[[], bool],
        settle: float,
        interval: float,
    ) -> None:
        self._node_id = node_id
        self._groups = groups
        self._clock = clock
        self._order = order
        self._room = room
        self._placement = Placement(settle or math.inf, interval)
        self._look_at = 0.0
        self._full = False
        self._moving = False
        self._stopping = False
        self._log = Logger(namespace="phxqueue.replica.mastership")

    # ---- where they should be -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Give a group away, if that is due."""
        now = self._clock.seconds()
        if self._moving or self._stopping or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL
        self._look_at_disk()
        due = self._away_from_full_disk() if self._full else self._back_to_preferred(now)
        if due is not None:
            group, node_id, why = due
            self._moving = True
            self._log.info("{group}: goes to node {node}: {why}", group=group.name, node=node_id, why=why)
            group.transfer(node_id).addBoth(self._moved)

    def _look_at_disk(self) -> None:
        full = not self._room()
        if full != self._full:
            self._full = full
            for group in self._groups.values():
                group.hinder("its disk is nearly full", full)

    def _away_from_full_disk(self) -> _Due | None:
        for group in self._groups.values():
            if group.serving():
                for node_id in self.order(group):
                    if node_id != self._node_id and group.transfer_problem(node_id) is None:
                        return group, node_id, "the disk here is nearly full"
        return None

    def _back_to_preferred(self, now: float) -> _Due | None:
        mastered = [group for group in self._groups.values() if group.serving() and not group.held]
        due = self._placement.consider(map(self._view, mastered), now)
        return None if due is None else (self._groups[due[0]], due[1], "it is preferred as master")

    def _moved(self, result: object) -> None:
        self._moving = False
        if isinstance(result, Failure):
            result.trap(ReplicaError)
            self._log.info("{reason}", reason=result.getErrorMessage())

    def _view(self, group: GroupRuntime) -> MasteredGroup:
        order = self.order(group)
        preferred = order[: order.index(self._node_id)] if self._node_id in order else order
        fit = frozenset(node_id for node_id in preferred if group.transfer_problem(node_id) is None)
        return MasteredGroup(group.group_id, preferred, fit)

    def order(self, group: GroupRuntime) -> tuple[int, ...]:
        """Return the nodes that may be master of a group, the preferred one first."""
        may_lead = group.core.preference
        place = {node_id: place for place, node_id in enumerate(self._order(group.group_id))}
        return tuple(sorted(may_lead, key=lambda node_id: place.get(node_id, len(place))))

    # ---- away from a node that stops -----------------------------------------------------------------------

    def hand_over(self, limit: float) -> Deferred[int]:
        """Give every mastership to the best node that can take it; fires with how many could not be given away.

        This node takes none any more. What it could not give away within `limit` seconds it goes on serving.
        """
        self._stopping = True
        leaving = [group for group in self._groups.values() if group.core.is_master]
        for group in self._groups.values():
            if group not in leaving:
                group.stand_aside("the node is stopping")
        done = DeferredList([Deferred.fromCoroutine(self._leave(group)) for group in leaving])
        done.addTimeout(limit, self._clock, onTimeoutCancel=lambda results, _: results)  # type: ignore[arg-type]
        return done.addCallback(self._left, leaving)

    async def _leave(self, group: GroupRuntime) -> bool:
        """Offer a mastership to the others until one has it; return whether one has."""
        for _ in range(ROUNDS):
            for node_id in self.order(group):
                if node_id == self._node_id or group.transfer_problem(node_id) is not None:
                    continue
                taken = False
                try:
                    await group.transfer(node_id)
                    taken = True
                except ReplicaError as error:
                    self._log.info("{reason}", reason=str(error))
                except CancelledError:
                    return False  # no time is left
                if not group.core.is_master:  # also when it was given up and did not arrive: others will stand
                    group.stand_aside("the node is stopping")
                    return taken
        return False

    def _left(self, results: Any, leaving: Sequence[GroupRuntime]) -> int:
        taken: list[int] = []
        for group, (success, result) in zip(leaving, results, strict=True):
            if not success:
                self._log.failure("handing over failed", result)
            elif result:
                taken.append(group.group_id)
        if taken:
            self._log.info("groups {groups}: handed over", groups=taken)
        left = [group.group_id for group in leaving if group.group_id not in taken]
        if left:
            self._log.warn("groups {groups}: no other node took them over", groups=left)
        return len(left)
