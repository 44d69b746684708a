"""The master's side of relocation: sees when a few old items keep the log, reads them, and proposes them once more."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.net.status import RpcError
from phxqueue.proto.item_pb2 import ItemBatch
from phxqueue.proto.store_pb2 import Relocation, StoreCommand
from phxqueue.replica.errors import ReplicaError
from phxqueue.store.entries import ParsedEntry
from phxqueue.store.group import StoreGroup
from phxqueue.store.reading import Reading
from phxqueue.store.relocation import RELOCATION_VERSION, Pin, RelocationBounds, plan
from phxqueue.store.understood import understood

#: Commands after one look, and looks that are left out when there was nothing to do: adding up a large index takes
#: milliseconds.
COMMANDS_PER_LOOK = 8
IDLE_LOOKS = 10


class Relocating:
    """Of one Paxos group.

    Args:
        timestamp_ms: the time for an entry's timestamp, Unix milliseconds.
    """

    def __init__(
        self,
        group: StoreGroup,
        reading: Reading,
        bounds: RelocationBounds,
        timestamp_ms: Callable[[], int],
    ) -> None:
        self._group = group
        self._machine = reading.machine
        self._reading = reading
        self._bounds = bounds
        self._timestamp_ms = timestamp_ms
        self._entries = 0
        self._bytes = 0
        self._busy = False
        self._idle = 0
        self._log = Logger(namespace="phxqueue.store.relocation")

    def applied(self, payload: bytes) -> None:
        """An entry was applied: what the mean size of entries is known by."""
        self._entries += 1
        self._bytes += len(payload)

    def look(self) -> None:
        """Write something again, if that is worth while. Call it every now and then."""
        if self._busy or not self._entries or not self._may_propose():
            return
        if self._idle:
            self._idle -= 1
            return
        pins = self._plan()
        if not pins:
            self._idle = IDLE_LOOKS
            return
        self._busy = True
        Deferred.fromCoroutine(self._write_again(pins)).addBoth(self._done)

    def _plan(self) -> list[Pin]:
        return plan(self._machine, self._bytes / self._entries, self._bounds)

    def _may_propose(self) -> bool:
        group = self._group
        return group.serving() and group.window_free and understood(group, self._machine, RELOCATION_VERSION)

    async def _write_again(self, pins: list[Pin]) -> None:
        for _ in range(COMMANDS_PER_LOOK):
            entries = await self._entries_of(pins)
            command = self._command(pins, entries)
            if not command.relocations or not self._may_propose():
                return
            await self._group.propose(command.SerializeToString())
            pins = self._plan()
            if not pins:
                return

    async def _entries_of(self, pins: list[Pin]) -> dict[int, ParsedEntry]:
        found: dict[int, ParsedEntry] = {}
        missing: list[int] = []
        for instance in dict.fromkeys(pin.instance for pin in pins):
            entry = self._reading.entry(instance)
            if entry is None:
                missing.append(instance)
            else:
                found[instance] = entry
        if missing:
            found.update(await self._reading.read(missing))
        return found

    def _command(self, pins: list[Pin], entries: dict[int, ParsedEntry]) -> StoreCommand:
        command = StoreCommand(version=RELOCATION_VERSION, timestamp_ms=self._timestamp_ms())
        for pin in pins:
            batches = self._batches(pin, entries[pin.instance])
            if batches:
                command.relocations.append(
                    Relocation(
                        queue_id=pin.queue_id,
                        first_cursor=pin.first_cursor,
                        deliver_at_ms=pin.deliver_at_ms,
                        timer_number=pin.timer_number,
                        half_number=pin.half_number,
                        instance=pin.instance,
                        first_batch=len(command.relocated),
                        batches=len(batches),
                    )
                )
                command.relocated.extend(batches)
        return command

    def _batches(self, pin: Pin, entry: ParsedEntry) -> list[ItemBatch]:
        """What the entry holds of it; nothing, when it has moved or gone while we read."""
        if pin.timer_number or pin.half_number:
            return [stored.batch for stored in entry.referenced(pin.ordinal, 1)]
        index = self._machine.queues.get(pin.queue_id)  # another member's checkpoint may have taken the state's place
        row = None if index is None else index.row_at(pin.first_cursor)
        if index is None or row is None or index.instances[row] != pin.instance:
            return []
        return [stored.batch for stored in entry.of_row(index, row)]

    def _done(self, result: object) -> None:
        self._busy = False
        if isinstance(result, Failure) and result.check(ReplicaError, RpcError) is None:
            self._log.failure("group {group}: relocation failed", result, group=self._group.group_id)
