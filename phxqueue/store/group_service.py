"""The master's side of consumer groups that come and go: has changes chosen, and watches who has left the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError
from phxqueue.proto.store_pb2 import DeleteGroup, GroupChange, GroupChangeResponse, GroupState, StoreCommand
from phxqueue.replica.errors import ReplicaError
from phxqueue.store.group import StoreGroup
from phxqueue.store.group_table import GROUPS_VERSION
from phxqueue.store.proposing import no_outcome, only_outcome, window_full
from phxqueue.store.queues import StoreQueues
from phxqueue.store.served import ServedQueues
from phxqueue.store.understood import check_understood, understood

#: Index rows whose masks are looked at in one turn, for groups that have never acknowledged anything.
ROWS_PER_LOOK = 200_000
#: Turns from one look to the next: it goes over the positions of all groups in all queues.
TURNS_PER_LOOK = 10
#: Queues in one command.
MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """How long a group that is in the files no more is kept: see group_grace_s of StoreLimits."""

    grace_ms: int
    retry_after_ms: int


class GroupChanges:
    """Of one Paxos group.

    Args:
        served: what the files say now.
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
        refuse: makes the error for requests that meet a group which is not served here (any more).
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        limits: GroupLimits,
        served: Callable[[], ServedQueues],
        timestamp_ms: Callable[[], int],
        refuse: Callable[[], RpcError],
    ) -> None:
        self._group = group
        self._machine = machine
        self._limits = limits
        self._served = served
        self._timestamp_ms = timestamp_ms
        self._refuse = refuse
        self._proposed = False
        self._turns = 0
        self._next_queue = 0  # place among the queues where the sweep goes on
        self._found: dict[int, int] = {}  # queue id -> the groups in the masks of its rows, as of the last sweep
        self._log = Logger(namespace="phxqueue.store.groups")

    # ---- by hand -------------------------------------------------------------------------------------

    def change(self, change: GroupChange) -> Deferred[GroupChangeResponse]:
        """Have a change chosen; when the answer is there it is durable on a majority.

        Raises (or fails with):
            RpcError: ALREADY_EXISTS, the group is another one; UNAVAILABLE, a node knows no such commands yet, or the
                outcome is unknown; RESOURCE_EXHAUSTED.
        """
        check_understood(self._group, self._machine, GROUPS_VERSION, "groups made at run time")
        if not self._group.window_free:
            raise window_full(self._group, self._limits.retry_after_ms)
        return self._propose([change]).addCallbacks(_changed, self._failed)

    def _propose(self, changes: Iterable[GroupChange]) -> Deferred[Any]:
        command = StoreCommand(version=GROUPS_VERSION, timestamp_ms=self._timestamp_ms(), groups=changes)
        return self._group.propose(command.SerializeToString())

    def _failed(self, failure: Failure) -> GroupChangeResponse:
        raise no_outcome(
            failure,
            self._group,
            self._refuse,
            self._limits.retry_after_ms,
            "it is not known whether the group was changed; ask again",
        )

    def listed(self) -> list[GroupState]:
        """The groups of the files, those created at run time, and those that leave."""
        table, served = self._machine.groups, self._served()
        leaving: dict[int, list[int]] = {}
        for queue_id, group_id in table.leaving:
            leaving.setdefault(group_id, []).append(queue_id)
        in_files = served.groups()
        found = []
        for group_id in sorted(in_files | table.created.keys() | leaving.keys()):
            state = GroupState(
                consumer_group_id=group_id,
                in_files=group_id in in_files,
                leaving_queue_ids=sorted(leaving.get(group_id, ())),
            )
            if group_id in leaving:
                state.leaving_until_ms = min(table.leaving[queue_id, group_id] for queue_id in leaving[group_id])
            created = table.created.get(group_id)
            if created is not None:
                state.pub_ids.extend(created.pub_ids)
                state.start_ms, state.created_ms = created.start_ms, created.timestamp_ms
            found.append(state)
        return found

    # ---- who has left the files -------------------------------------------------------------------------

    def clear(self) -> None:
        """Mastership begins or ends."""
        self._found.clear()
        self._next_queue = 0

    def turn(self) -> None:
        """Look, now and then: call it as often as retention looks."""
        self._turns += 1
        if self._turns % TURNS_PER_LOOK == 1:
            self.look()

    def look(self) -> None:
        """See who has left the files, is back, or has been away for long enough."""
        group = self._group
        if self._proposed or not group.serving() or not group.window_free:
            return
        if not understood(group, self._machine, GROUPS_VERSION):
            return
        self._sweep()
        changes = self._due_changes()
        if changes:
            self._proposed = True
            self._propose(changes).addBoth(self._settled)

    def _settled(self, result: Any) -> None:
        self._proposed = False
        if isinstance(result, Failure) and result.check(ReplicaError) is None:
            self._log.failure("group {group}: a change of groups failed", result, group=self._group.group_id)

    def _sweep(self) -> None:
        """Note whom the rows of some queues are for."""
        queues, rows = self._machine.queues, 0
        if self._next_queue >= len(queues):
            self._next_queue = 0
        for index in islice(queues.values(), self._next_queue, None):
            if rows >= ROWS_PER_LOOK:
                break
            self._next_queue += 1
            rows += len(index) + 1
            union = 0
            for mask in set(index.masks):
                union |= mask
            self._found[index.queue_id] = union

    def _strangers(self) -> Iterator[tuple[int, int]]:
        """The (queue id, consumer group id) of whom something is kept though nobody expects them."""
        table, served = self._machine.groups, self._served()
        masks: dict[int, int] = {}  # queue -> who reads it; of one that no file knows: anybody may
        for queue_id, group_id in self._machine.acked:
            mask = masks.get(queue_id)
            if mask is None:
                mask = masks[queue_id] = served.mask_of_readers(queue_id, table)
            if not mask >> (group_id - 1) & 1:
                yield queue_id, group_id
        for queue_id, union in self._found.items():
            more = union & ~served.mask_of_readers(queue_id, table)
            while more:
                group_id = (more & -more).bit_length()
                more &= more - 1
                if (queue_id, group_id) not in self._machine.acked:
                    yield queue_id, group_id

    def _due_changes(self) -> list[GroupChange]:
        table, served, now_ms = self._machine.groups, self._served(), self._timestamp_ms()
        leave: dict[int, list[int]] = {}
        stay: dict[int, list[int]] = {}
        gone: dict[int, list[int]] = {}
        for (queue_id, group_id), until_ms in table.leaving.items():
            if served.mask_of_readers(queue_id, table) >> (group_id - 1) & 1:
                stay.setdefault(group_id, []).append(queue_id)
            elif until_ms <= now_ms:
                gone.setdefault(group_id, []).append(queue_id)
        for queue_id, group_id in sorted(self._strangers()):
            if (queue_id, group_id) not in table.leaving and not self._is_done_with(queue_id, group_id):
                leave.setdefault(group_id, []).append(queue_id)
        until_ms = now_ms + self._limits.grace_ms
        changes = [
            GroupChange(consumer_group_id=one, queue_ids=queues[:MOST], stay=True) for one, queues in stay.items()
        ]
        for one, queues in leave.items():
            self._log.warn(
                "consumer group {group} is in the files no more: its positions in {count} queues are kept for "
                "{seconds:g} s (limits.group_grace_s), then they are given up (`phxqueue groups list`)",
                group=one, count=len(queues), seconds=self._limits.grace_ms / 1000,
            )  # fmt: skip
            changes.append(GroupChange(consumer_group_id=one, queue_ids=queues[:MOST], leave_until_ms=until_ms))
        for one, queues in gone.items():
            self._log.warn(
                "consumer group {group} has been out of the files for its grace time: its positions in {count} queues "
                "are given up, and nothing is kept for it any more",
                group=one, count=len(queues),
            )  # fmt: skip
            change = GroupChange(consumer_group_id=one, queue_ids=queues[:MOST], delete=DeleteGroup(left=True))
            changes.append(change)
        return changes

    def _is_done_with(self, queue_id: int, group_id: int) -> bool:
        """Whether nothing is kept for a group in a queue: it has no position there, or was given up, and no items."""
        machine = self._machine
        index = machine.queues.get(queue_id)
        if (queue_id, group_id) in machine.acked or index is None:
            return False
        bit, first = 1 << (group_id - 1), index.find(machine.acked_cursor(queue_id, group_id))
        return not any(mask & bit for mask in islice(index.masks, first, None))


def _changed(outcomes: Any) -> GroupChangeResponse:
    return GroupChangeResponse(unchanged=not only_outcome(outcomes))
