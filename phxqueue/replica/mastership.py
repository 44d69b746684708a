"""Where masterships go: back to the nodes preferred for them, where an operator wants them, away from one that
stops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.paxos.config import Member, MemberKind
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.placement import MasteredGroup, Placement

Order = Callable[[int, Sequence[Member]], Sequence[int]]
"""Preferred masters of a group, best first, out of its members."""


def order_by_priority(group_id: int, members: Sequence[Member]) -> Sequence[int]:
    """As the core prefers them: highest priority first, equals take turns by group."""
    voters = [member for member in members if member.kind is MemberKind.VOTER]
    start = group_id % len(voters) if voters else 0
    turned = voters[start:] + voters[:start]
    return [member.node_id for member in sorted(turned, key=lambda member: -member.priority)]


class Masterships:
    """The masterships of one node.

    Args:
        knows: whether a member runs on the data directory that the membership records.
        order: who is preferred as master.
        settle: seconds for which a preferred node has to be healthy before it is given a group back; 0: never.
        interval: shortest time in seconds between two groups given back.
    """

    def __init__(
        self,
        node_id: int,
        groups: Mapping[int, GroupRuntime],
        clock: Clock,
        *,
        knows: Callable[[int], bool],
        order: Order,
        settle: float,
        interval: float,
    ) -> None:
        self.held: set[int] = set()
        self.order = order
        self._node_id = node_id
        self._groups = groups
        self._clock = clock
        self._knows = knows
        self._placement = Placement(settle or math.inf, interval)
        self._moving = False
        self._stopping = False
        self._log = Logger(namespace="phxqueue.replica.mastership")

    def hold(self, group_ids: Iterable[int], *, release: bool) -> None:
        """Keep these groups when this node is their master, whoever is preferred; or do so no more."""
        if release:
            self.held.difference_update(group_ids)
        else:
            self.held.update(group_ids)

    def tick(self) -> None:
        """Give a group back, if one is due."""
        if self._moving or self._stopping:
            return
        due = self._placement.consider(map(self._view, self._mastered()), self._clock.seconds())
        if due is None:
            return
        group_id, node_id = due
        self._moving = True
        self._log.info("group {group}: node {node} is preferred as master", group=group_id, node=node_id)
        self._groups[group_id].transfer(node_id).addBoth(self._moved)

    async def hand_over(self) -> int:
        """Give every mastership to the best node that can take it; return how many could not be given away.

        This node takes none any more. Takes as long as it takes: the caller sets a limit, by cancelling.
        """
        self._stopping = True
        leaving = [group for group in self._groups.values() if group.core.is_master]
        done = [Deferred.fromCoroutine(self._leave(group)) for group in leaving]
        try:
            return sum([not await left for left in done])
        finally:
            for left in done:
                left.cancel()
            for group in self._groups.values():
                group.stand_aside("the node is stopping")

    async def _leave(self, group: GroupRuntime) -> bool:
        for node_id in self._order(group):
            if node_id == self._node_id or not self._healthy(group, node_id):
                continue
            try:
                await group.transfer(node_id)
            except ReplicaError as error:
                self._log.info("group {group}: {reason}", group=group.group_id, reason=str(error))
            if not group.core.is_master:
                return True
        return False

    def _moved(self, result: object) -> None:
        self._moving = False
        if isinstance(result, Failure):
            result.trap(ReplicaError)
            self._log.info("{reason}", reason=result.getErrorMessage())

    # ---- what is looked at -----------------------------------------------------------------------------

    def _mastered(self) -> list[GroupRuntime]:
        mastered = {group_id for group_id, group in self._groups.items() if group.serving()}
        return [self._groups[group_id] for group_id in sorted(mastered - self.held)]

    def _order(self, group: GroupRuntime) -> Sequence[int]:
        return self.order(group.group_id, group.members)

    def _view(self, group: GroupRuntime) -> MasteredGroup:
        order = list(self._order(group))
        preferred = order[: order.index(self._node_id)] if self._node_id in order else order
        return MasteredGroup(
            group.group_id,
            tuple(preferred),
            frozenset(node_id for node_id in preferred if self._healthy(group, node_id)),
        )

    def _healthy(self, group: GroupRuntime, node_id: int) -> bool:
        """Whether a peer answers this master and has nearly everything it has."""
        core = group.core
        peer = core.peers.get(node_id)
        if peer is None or peer.unreachable or peer.heard_at is None or peer.chosen is None:
            return False
        return (
            self._clock.seconds() - peer.heard_at <= core.config.lease
            and core.chosen - peer.chosen <= core.config.window
            and self._knows(node_id)
        )
