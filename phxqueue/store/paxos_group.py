"""What the master of one Paxos group keeps besides the replicated state, and what it does when that changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phxqueue.config import StoreNode
from phxqueue.console.desk import AlarmSink
from phxqueue.net.status import RpcError
from phxqueue.proto.status_pb2 import QueueStatus
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.served_group import not_serving
from phxqueue.store import configured
from phxqueue.store.add import Intake
from phxqueue.store.beginning import Beginning
from phxqueue.store.delays import Delays
from phxqueue.store.entries import ParsedEntries
from phxqueue.store.fencing import Fencing
from phxqueue.store.group import StoreGroup
from phxqueue.store.group_service import GroupChanges
from phxqueue.store.half_schedule import HalfPolicy
from phxqueue.store.half_service import Halves
from phxqueue.store.ledger_service import LedgerService
from phxqueue.store.long_poll import LongPolls
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.queue_statuses import queue_statuses
from phxqueue.store.queues import StoreQueues
from phxqueue.store.reading import Reading
from phxqueue.store.relocating import Relocating
from phxqueue.store.replay_service import ReplayService
from phxqueue.store.retention import RetentionPolicy
from phxqueue.store.served import ServedQueues
from phxqueue.store.settings_service import SettingsService
from phxqueue.store.trimming import Trimming


@dataclass(frozen=True, slots=True)
class Shared:
    """What all Paxos groups of a node have in common.

    Attributes:
        polls: the Gets that wait.
        parsed: what was parsed of recent entries.
        cold: what was parsed of entries out of the journal.
        wall_ms: Unix time.
        retention: by queue, how long its items stay; None: no file knows the queue.
        look_s: longest time between looks at it while something is delayed.
        half_policy: by pub, when its half messages are asked about.
        asked: told the names of the producers that a group has something to ask.
        served: what the configuration lets in now.
    """

    node: StoreNode
    polls: LongPolls
    parsed: ParsedEntries
    cold: ParsedEntries
    clock: Clock
    wall_ms: Callable[[], int]
    retention: Callable[[int], RetentionPolicy | None]
    look_s: float
    alarms: AlarmSink
    half_policy: Callable[[int], HalfPolicy]
    asked: Callable[[Sequence[str]], None]
    served: Callable[[], ServedQueues]


class PaxosGroup:
    """The parts of one Paxos group, put together."""

    def __init__(self, group: StoreGroup, shared: Shared) -> None:
        node = shared.node
        self.group = group
        self.machine: StoreQueues = group.state_machine
        self._shared = shared
        self.positions = Positions()
        self.fencing = Fencing(group, self.machine, shared.clock, self._timestamp_ms, self.refusal)
        self.proposals = Proposals(
            group,
            configured.batcher_limits(node),
            timeout_s=node.topic.settings.store_paxos_propose_timeout_ms / 1000,
            retry_after_ms=node.limits.retry_after_ms,
            clock=shared.clock,
            timestamp_ms=self._timestamp_ms,
            refuse=self.refusal,
        )
        self.beginning = Beginning(group, self.machine, shared.clock, self._timestamp_ms)
        self.reading = self._reading()
        self.groups = GroupChanges(
            group, self.machine, configured.group_limits(node), shared.served, self._timestamp_ms, self.refusal
        )
        self.trimming = Trimming(group, self.machine, shared.retention, self._timestamp_ms)
        self.relocating = Relocating(group, self.reading, configured.relocation_bounds(node), self._timestamp_ms)
        self.delays = self._delays()
        self.ledger = LedgerService(
            group, self.machine, self.proposals, self.positions, node.topic.settings, self._timestamp_ms
        )
        self.halves = self._halves()
        self.intake = Intake(group, self.machine, self.proposals, self.delays, self.halves)
        self.settings = SettingsService(
            group,
            self.machine,
            timestamp_ms=self._timestamp_ms,
            retry_after_ms=node.limits.retry_after_ms,
            refuse=self.refusal,
        )
        self.replays = ReplayService(
            group,
            self.machine,
            self.positions,
            self.proposals,
            configured.replay_limits(node),
            timestamp_ms=self._timestamp_ms,
            refuse=self.refusal,
        )
        group.on_applied.append(self._applied)
        group.on_mastership.append(self._mastership)

    def _reading(self) -> Reading:
        shared = self._shared
        return Reading(
            group=self.group,
            machine=self.machine,
            positions=self.positions,
            fencing=self.fencing,
            proposals=self.proposals,
            parsed=shared.parsed,
            cold=shared.cold,
            polls=shared.polls,
            limits=configured.get_limits(shared.node),
            clock=shared.clock,
            wall_ms=shared.wall_ms,
            refuse=self.refusal,
            beginning=self.beginning,
            alarms=shared.alarms,
        )

    def _delays(self) -> Delays:
        shared = self._shared
        return Delays(
            self.group,
            self.machine,
            configured.delay_limits(shared.node),
            clock=shared.clock,
            timestamp_ms=self._timestamp_ms,
            wall_ms=shared.wall_ms,
            refuse=self.refusal,
            look_s=shared.look_s,
        )

    def _halves(self) -> Halves:
        shared = self._shared
        return Halves(
            self.group,
            self.machine,
            configured.half_limits(shared.node),
            policy=shared.half_policy,
            reading=self.reading,
            asked=shared.asked,
            clock=shared.clock,
            timestamp_ms=self._timestamp_ms,
            wall_ms=shared.wall_ms,
            refuse=self.refusal,
            look_s=shared.look_s,
        )

    def refusal(self) -> RpcError:
        """The answer while this group cannot be served here."""
        return not_serving(self.group, self._shared.node.store, self._shared.node.node.node_id)

    def close(self) -> None:
        """Refuse what waits and let go of the group."""
        self.group.on_applied.remove(self._applied)
        self.group.on_mastership.remove(self._mastership)
        self.fencing.close()
        self.proposals.close()
        self.delays.close()
        self.halves.close()
        self.beginning.close()

    def look(self) -> None:
        """See what time has made of it: what retention lets go, what is to be moved, ended, told."""
        self.trimming.look()
        self.relocating.look()
        self.groups.turn()
        self.ledger.look()
        self.delays.warn()

    def statuses(self, served: ServedQueues) -> list[QueueStatus]:
        """Where every queue of the group ends, and what else is to be told of it."""
        return queue_statuses(self.machine, self.positions, served, self._timestamp_ms())

    def _timestamp_ms(self) -> int:
        """Entries never go back in time, whatever a wall clock does."""
        return max(self._shared.wall_ms(), self.machine.clock_ms)

    def _applied(self, instance: int, payload: bytes) -> None:
        self.relocating.applied(payload)
        self.ledger.applied()
        touched = self.machine.take_touched()
        for queue_id, consumer_group_id in self.machine.take_moved():
            self._follow_replay((queue_id, consumer_group_id))
            touched.add(queue_id)
        if touched:
            self.reading.polls.touch(self.group.group_id, touched)
        self.delays.look()
        self.halves.look()

    def _follow_replay(self, key: tuple[int, int]) -> None:
        """What this master knew of the group's position is void."""
        self.positions.put(key, self.machine.acked_cursor(*key))
        self.beginning.forget(key)
        self.trimming.forget(key[0])

    def _mastership(self, is_master: bool) -> None:
        """What a former mastership knew of positions is void, whichever way it changed."""
        self.positions.clear()
        self.fencing.clear()
        self.trimming.clear()
        self.groups.clear()
        self.beginning.clear()
        self.proposals.abandon()
        self.reading.polls.release(self.group.group_id)
        self.delays.look()
        self.halves.begin()
