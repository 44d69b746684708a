"""Has old items trimmed: looks at the queues of one group, off the hot path, and proposes what may go.

Only a master under a valid lease proposes, one command at a time; what became of it shows in the state machine, so a
lost or refused proposal is simply made again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.proto.store_pb2 import QueueTrim, StoreCommand
from phxqueue.replica.errors import ReplicaError
from phxqueue.store.group import StoreGroup
from phxqueue.store.queues import TRIM_VERSION, StoreQueues
from phxqueue.store.replay_table import REPLAY_VERSION
from phxqueue.store.retention import QueueRetention, RetentionPolicy
from phxqueue.store.understood import understood

#: Queues looked at in one turn of the reactor, and rows of each of them: a few milliseconds at most.
QUEUES_PER_LOOK = 256
ROWS_PER_LOOK = 4096


class Trimming:
    """Of one Paxos group.

    Args:
        policy: the policy of a queue id; None: it keeps everything (no configured pub knows it).
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
    """

    def __init__(
        self,
        group: StoreGroup,
        machine: StoreQueues,
        policy: Callable[[int], RetentionPolicy | None],
        timestamp_ms: Callable[[], int],
    ) -> None:
        self._group = group
        self._machine = machine
        self._policy = policy
        self._timestamp_ms = timestamp_ms
        self._queues: dict[int, QueueRetention] = {}
        self._next_queue = 0  # place among the queues to go on at
        self._proposed: Deferred[Any] | None = None
        self._log = Logger(namespace="phxqueue.store.trimming")

    def clear(self) -> None:
        """Mastership begins or ends: what was known of the queues may be old."""
        self._queues.clear()

    def forget(self, queue_id: int) -> None:
        """A replay has moved a group of this queue: what was acknowledged may not be any more."""
        self._queues.pop(queue_id, None)

    def look(self) -> None:
        """Look at some queues and propose what may go. Call it every now and then."""
        group = self._group
        if (
            self._proposed is not None
            or not group.serving()
            or not group.window_free
            or not understood(group, self._machine, TRIM_VERSION)
        ):
            return
        trims = self._trims()
        if not trims:
            return
        notes_time = understood(group, self._machine, REPLAY_VERSION)
        version = REPLAY_VERSION if notes_time else TRIM_VERSION  # notes what time is gone
        command = StoreCommand(version=version, timestamp_ms=self._timestamp_ms(), trims=trims)
        self._proposed = proposed = group.propose(command.SerializeToString())
        proposed.addBoth(self._settled)

    def _trims(self) -> list[QueueTrim]:
        machine, now_ms = self._machine, self._timestamp_ms()
        if self._next_queue >= len(machine.queues):
            self._next_queue = 0
        looked_at = list(islice(machine.queues.values(), self._next_queue, self._next_queue + QUEUES_PER_LOOK))
        self._next_queue += len(looked_at)
        trims = []
        for index in looked_at:
            policy = self._policy(index.queue_id)
            if policy is None or not len(index):
                continue
            followed = self._queues.get(index.queue_id)
            if followed is None:
                followed = self._queues[index.queue_id] = QueueRetention()
            acked = partial(self._acked, index.queue_id)
            first = followed.look(index, acked, policy, now_ms, ROWS_PER_LOOK)
            if first is not None:
                first = min(first, machine.groups.pin(index.queue_id, acked))
            if first is not None and first > index.first_cursor:
                trims.append(QueueTrim(queue_id=index.queue_id, first_cursor=first))
        return trims

    def _acked(self, queue_id: int, consumer_group_id: int) -> int:
        return self._machine.acked_cursor(queue_id, consumer_group_id)

    def _settled(self, result: Any) -> None:
        self._proposed = None
        if isinstance(result, Failure) and result.check(ReplicaError) is None:
            self._log.failure("group {group}: trimming failed", result, group=self._group.group_id)
