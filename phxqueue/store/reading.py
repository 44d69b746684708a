"""What the calls that read one Paxos group's queues work with: its state, its positions, its entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from phxqueue.console.desk import AlarmSink
from phxqueue.net.status import RpcError, Status
from phxqueue.replica.errors import Overloaded, ReplicaError
from phxqueue.replica.interfaces import Clock
from phxqueue.store.beginning import Beginning
from phxqueue.store.entries import ParsedEntries, ParsedEntry
from phxqueue.store.fencing import Fencing
from phxqueue.store.group import StoreGroup
from phxqueue.store.long_poll import LongPolls
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.queues import StoreQueues
from phxqueue.store.reconciliation import Audits


def unreadable_error(error: BaseException | None) -> RpcError:
    """What a caller is told whose entries could not be read: the disk is too busy, damaged, or has failed."""
    status = Status.RESOURCE_EXHAUSTED if isinstance(error, Overloaded) else Status.DATA_LOSS
    return RpcError(status, str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class GetLimits:
    """Bounds of the reading side.

    Attributes:
        wait_max_ms: longest long poll; a longer wish is shortened.
        items: most items in one answer.
        size: most bytes in one answer; one larger batch travels alone.
        scan_rows: index rows that one Get looks at before others get their turn.
    """

    wait_max_ms: int = 30_000
    items: int = 10_000
    size: int = 4 << 20
    scan_rows: int = 10_000


@dataclass(slots=True)
class Reading:
    """What Gets of one Paxos group work with."""

    group: StoreGroup
    machine: StoreQueues
    positions: Positions
    fencing: Fencing
    proposals: Proposals
    parsed: ParsedEntries
    cold: ParsedEntries
    polls: LongPolls
    limits: GetLimits
    clock: Clock
    wall_ms: Callable[[], int]
    refuse: Callable[[], RpcError]
    beginning: Beginning
    alarms: AlarmSink
    audits: Audits = field(default_factory=Audits)

    def replaying(self, key: tuple[int, int]) -> bool:
        """Whether something that a replay put back has not been acknowledged again."""
        stood = self.machine.replays.stood_at(key)
        return stood > 0 and self.positions.acked(key, self.machine.acked_cursor(*key)) < stood

    def entry(self, instance: int) -> ParsedEntry | None:
        """Return an entry that is in memory."""
        key = (self.group.group_id, instance)
        entry = self.parsed.get(key) or self.cold.get(key)
        if entry is None:
            payload = self.group.cached(instance)
            if payload is None:
                return None
            entry = self._parse(instance, payload)
            self.parsed.put(key, entry)
        return entry

    def read(self, instances: list[int]) -> Deferred[dict[int, ParsedEntry]]:
        """Read entries off the reactor; fails with what `read` of the Paxos group raises.

        They are kept apart: a reader far behind must not push out what everybody at the tail reads. And they are
        returned, because they may be too many to be kept.
        """

        def parse(payloads: list[bytes]) -> dict[int, ParsedEntry]:
            entries = {}
            for instance, payload in zip(instances, payloads, strict=True):
                entry = entries[instance] = self._parse(instance, payload)
                self.cold.put((self.group.group_id, instance), entry)
            return entries

        return self.group.read(instances).addCallback(parse)

    async def read_for_caller(self, instances: list[int]) -> dict[int, ParsedEntry]:
        """The same for a call that cannot be answered without them. Raises RpcError."""
        try:
            return await self.read(instances)
        except ReplicaError as error:
            raise unreadable_error(error) from error

    def pause(self) -> Deferred[None]:
        """Fires when the others had their turn."""
        turn: Deferred[None] = Deferred()
        self.clock.callLater(0, turn.callback, None)
        return turn

    def _parse(self, instance: int, payload: bytes) -> ParsedEntry:
        return ParsedEntry(payload, self.machine.refused.get(instance, ()))
