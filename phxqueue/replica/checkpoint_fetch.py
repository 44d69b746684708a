"""Brings one group of this node up from a peer's checkpoint, when all logs it could learn from are trimmed too far.

    behind --CheckpointNeeded--> fetching: segments, then state
    fetching --all here--> restored beside what there is, in portions: is it good?
    restored --the newest entries, too--> installed, in one transaction, below the running group; the tail is learned
    installed --entries that the state still needs--> filling the gap below, then whole

Everything fetched is on disk piece by piece, so a broken connection, a restart or a crash of either side costs the
piece under way. Until the gap is filled the node votes and learns but does not stand for master: its log is the queue,
and it could not serve all of it. No more than `fetch_bytes_per_s` is fetched, for all groups together.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

import xxhash
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.errors import JournalError
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import PutEntry, TrimEntries, Write
from phxqueue.net.status import RpcError, Status
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto import methods
from phxqueue.proto.methods import Method
from phxqueue.proto.paxos_pb2 import (
    CheckpointOpenRequest,
    CheckpointOpenResponse,
    CheckpointReadRequest,
    LogReadRequest,
    LogReadResponse,
)
from phxqueue.replica.checkpoint_table import CheckpointTable, Gap, Incoming, Source, durable
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Clock, DelayedCall, ITransport, RequestT, ResponseT
from phxqueue.replica.pace import Pace
from phxqueue.replica.portions import Portions, PutInPlace, ResultT, in_portions

RETRY_S = 0.5
"""Pause after anything failed, before another peer is asked."""


SOON_S = 0.02
"""Pause before a newer checkpoint of the same peer is opened, because the one at hand is outdated."""
STAGED_BYTES = 4 << 20
"""Segments on their way to the own disk at one time."""


class FetchFailed(Exception):
    """What a peer gave is no good; another try may do better."""


class Outdated(FetchFailed):
    """The peer has trimmed what belongs to the checkpoint: there is a newer one, most of which is here already."""


class CheckpointFetch:
    """Of one group.

    Args:
        turn: held while a checkpoint is gathered: one at a time on a node.
        pace: of everything fetched on a node.
        chunk_bytes: asked for at a time.
        timeout: of one call, in seconds; opening a checkpoint waits until it is durable on the other side.
    """

    def __init__(
        self,
        group: GroupRuntime,
        table: CheckpointTable,
        transport: ITransport,
        journal: IJournal,
        clock: Clock,
        *,
        turn: DeferredLock,
        pace: Pace,
        chunk_bytes: int,
        timeout: float,
    ) -> None:
        self._group = group
        self._table = table
        self._transport = transport
        self._journal = journal
        self._clock = clock
        self._turn = turn
        self._pace = pace
        self._chunk_bytes = chunk_bytes
        self._timeout = timeout
        self._running: Deferred[None] | None = None
        self._closed = False
        self._told: set[int] = set()  # peers that have trimmed what is missing, and the prefix they said so for
        self._told_at = -1
        self._outdated = False
        self._snapshot = 0  # on the other side
        self._bottom = 0  # where the log begins when the gap is filled
        self._timer: DelayedCall | None = None
        self._log = Logger(namespace="phxqueue.replica.checkpoints")

    # ---- what starts and ends it -----------------------------------------------------------------

    def needed(self, peer: int | None) -> None:
        """A peer has trimmed what this group lacks (None: nobody has what it lacks).

        One of the others may have it still: it is fetched when all that can be reached, or one of them twice, said so.
        """
        if self._told_at != self._group.core.known:
            self._told, self._told_at = set(), self._group.core.known
        others = self._transport.reachable() - {peer}
        ready = peer is None or peer in self._told or others <= self._told
        if peer is not None:
            self._told.add(peer)
        if ready and self._running is None:
            self._start(self._bring_up(peer, fetch=True))
        elif ready:
            self._outdated = True  # what is being filled has been trimmed everywhere, and what comes after it too

    def resume(self, log_first: int) -> None:
        """At start-up: go on filling a gap. The log begins at `log_first`."""
        if self._table.gap is not None and self._running is None:
            self._bottom = min(log_first, self._table.gap.first)
            self._start(self._bring_up(None, fetch=False))

    def close(self) -> None:
        """Stop; what is on disk stays for the next start."""
        self._closed = True
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _start(self, work: Any) -> None:
        self._running = Deferred.fromCoroutine(work)
        self._running.addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        self._running = None
        if isinstance(result, Failure) and not (self._closed or result.check(CancelledError)):
            self._log.failure("group {group}: fetching a checkpoint failed", result, group=self._group.group_id)
            self._group.fail(f"fetching a checkpoint: {result.getErrorMessage()}")

    def _sleep(self, seconds: float) -> Deferred[None]:
        awake: Deferred[None] = Deferred()
        self._timer = self._clock.callLater(seconds, awake.callback, None)
        return awake

    async def _paced(self, size: int) -> None:
        wait = self._pace.wait(size, self._clock.seconds())
        if wait > 0:
            await self._sleep(wait)

    def _call(self, peer: int, method: Method[RequestT, ResponseT], request: RequestT) -> Deferred[ResponseT]:
        return self._transport.call(peer, method, request, self._timeout)

    async def _bring_up(self, peer: int | None, *, fetch: bool) -> None:
        """Fetch a checkpoint and fill what is missing below it; begin again when that is overtaken by events."""
        while not self._closed and (fetch or self._table.gap is not None):
            if fetch:
                await self._turn.run(self._fetch, peer)
            self._outdated = False
            if self._table.gap is not None:
                await self._fill()
            fetch = self._outdated

    # ---- fetching ----------------------------------------------------------------------------------

    async def _fetch(self, peer: int | None) -> None:
        """Until one is installed, or none is needed any more."""
        known = self._group.core.known
        while not self._closed and self._group.core.known == known:
            peer = self._next_peer(peer)
            if peer is not None:
                try:
                    await self._fetch_from(peer)
                    return
                except Outdated as error:
                    self._log.info("group {group}: {error}", group=self._group.group_id, error=error)
                    await self._sleep(SOON_S)
                    continue
                except (RpcError, JournalError, FetchFailed) as error:
                    self._log.warn(
                        "group {group}: no checkpoint from node {peer} yet: {error}",
                        group=self._group.group_id,
                        peer=peer,
                        error=error,
                    )
            await self._sleep(RETRY_S)
            # The same peer again while it can be reached: what was staged is good only there.
            peer = peer if peer in self._transport.reachable() else None

    def _next_peer(self, peer: int | None) -> int | None:
        reachable = self._transport.reachable()
        if peer in reachable:
            return peer
        staged = None if self._table.source is None else self._table.source.node_id
        return staged if staged in reachable else min(reachable, default=None)

    async def _fetch_from(self, peer: int) -> None:
        group, table = self._group, self._table
        opened = await self._call(peer, methods.CHECKPOINT_OPEN, CheckpointOpenRequest(group_id=group.group_id))
        if not self._wants(opened.applied):
            return
        self._log.info(
            "group {group}: fetching the checkpoint of node {peer} at instance {applied}, with {segments} segments",
            group=group.group_id,
            peer=peer,
            applied=opened.applied,
            segments=len(opened.segments),
        )
        self._snapshot = opened.snapshot
        table.begin(Source(peer, opened.incarnation, opened.epoch))
        await self._fetch_segments(peer, opened)
        state = await self._read(peer, opened.snapshot, b"")
        put_in_place = await self._restored(state, [(key, await self._staged(key)) for key in opened.segments])
        first = await self._fetch_newest(peer, opened)
        incoming = Incoming(
            applied=opened.applied,
            needed=opened.needed,
            state=state,
            membership=opened.membership if opened.HasField("membership") else None,
            gap=Gap(opened.needed, first - 1) if opened.needed < first else None,
            first=first,
        )
        earlier = await self._install(incoming, put_in_place)
        if earlier is not None:
            self._bottom = min(opened.needed, first)
            self._log.info(
                "group {group}: has the checkpoint of node {peer} at instance {applied} now; {missing} entries below "
                "it are still to be fetched",
                group=group.group_id,
                peer=peer,
                applied=opened.applied,
                missing=max(first - opened.needed, 0),
            )
            await self._in_portions(earlier)

    async def _fetch_segments(self, peer: int, opened: CheckpointOpenResponse) -> None:
        """Have all segments of a checkpoint on the own disk; those that are there stay."""
        writing: list[Deferred[None]] = []
        size = 0
        for key in opened.segments:
            if key in self._table.staged:
                continue
            segment = await self._read(peer, opened.snapshot, key)
            writing.append(self._table.stage(key, segment))
            size += len(segment)
            if size > STAGED_BYTES:
                await _all(writing)
                writing, size = [], 0
        await _all(writing)

    def _wants(self, applied: int) -> bool:
        """Whether a checkpoint at that instance would bring this group further."""
        core, machine = self._group.core, self._group.state_machine
        return self._group.halted is None and (
            applied > core.known or (applied == core.known and applied > machine.applied)
        )

    async def _install(self, incoming: Incoming, put_in_place: PutInPlace) -> Portions[None] | None:
        """Put a staged checkpoint in the place of everything up to its instance. Returns what is left to do after that.

        None: it was not done.

        The group takes nothing in while it becomes durable, so that what is known cannot pass it meanwhile.
        """
        group, table = self._group, self._table
        if not self._wants(incoming.applied):
            return None
        group.freeze()
        try:
            await durable(self._journal, table.installing(incoming))
        except JournalError:
            group.thaw()
            raise
        table.installed(incoming)
        group.first, group.needed = incoming.first, incoming.needed

        earlier: list[Portions[None]] = []

        def change(now: float) -> Effects:
            earlier.append(put_in_place())
            if incoming.applied == group.core.known:
                return Effects()
            return group.core.install(
                incoming.applied, incoming.membership, now, first=incoming.first, complete=incoming.gap is None
            )

        group.thaw(change)
        return earlier[0] if earlier else None

    async def _read(self, peer: int, snapshot: int, key: bytes) -> bytes:
        """Fetch the state (key b"") or a segment, piece by piece."""
        pieces: list[bytes] = []
        size = 0
        while True:
            request = CheckpointReadRequest(
                group_id=self._group.group_id, snapshot=snapshot, segment=key, offset=size, max_bytes=self._chunk_bytes
            )
            try:
                piece = await self._call(peer, methods.CHECKPOINT_READ, request)
            except RpcError as error:
                if error.status is Status.NOT_FOUND:
                    raise Outdated(error.message) from error
                raise
            if xxhash.xxh3_64_intdigest(piece.data) != piece.checksum or (not piece.data and size < piece.size):
                raise FetchFailed(f"a piece of segment {key.hex() or 'state'} was damaged on its way")
            pieces.append(piece.data)
            size += len(piece.data)
            await self._paced(len(piece.data))
            if size >= piece.size:
                return b"".join(pieces)

    async def _staged(self, key: bytes) -> bytes:
        blob = await self._table.read_staged(key)
        if blob is None:
            self._table.discard()
            raise FetchFailed(f"segment {key.hex()} has gone from the own journal")
        return blob

    async def _restored(self, state: bytes, segments: list[tuple[bytes, bytes]]) -> PutInPlace:
        """Restore it beside what there is: one that cannot be restored must not take the place of one that can."""
        try:
            return await self._in_portions(self._group.state_machine.restoring(state, segments))
        except ValueError as error:
            self._table.discard()
            raise FetchFailed(f"it cannot be restored: {error}") from error

    def _in_portions(self, work: Portions[ResultT]) -> Coroutine[Deferred[None], Any, ResultT]:
        return in_portions(work, self._clock, lambda: self._sleep(0.0))

    async def _fetch_newest(self, peer: int, opened: CheckpointOpenResponse) -> int:
        """Have the newest entries of the checkpoint in the own log; return the first of them.

        They are those that nobody may know to be chosen but the peer and, from now on, this node: no voter accepts
        further than `accept_ahead` above what it knows. Few enough to count as accepted here if we crash.
        """
        first = max(opened.log_first, opened.applied - self._group.core.config.accept_ahead + 1)
        at = first
        while at <= opened.applied:
            writes = await self._read_log(peer, at, opened.applied)
            while self._journal.overloaded:
                await self._sleep(SOON_S)
            await durable(self._journal, writes)
            at += len(writes)
        return first

    async def _read_log(self, peer: int, first: int, last: int) -> list[Write]:
        request = LogReadRequest(
            group_id=self._group.group_id, first=first, last=last, max_bytes=self._chunk_bytes, snapshot=self._snapshot
        )
        answer = await self._call(peer, methods.LOG_READ, request)
        await self._paced(sum(len(entry.payload) for entry in answer.entries))
        return self._checked(answer, first)

    def _checked(self, answer: LogReadResponse, first: int) -> list[Write]:
        if not answer.entries:
            raise Outdated(f"the log of the other node begins at {answer.log_first} by now, not at {first}")
        writes: list[Write] = []
        for place, entry in enumerate(answer.entries):
            if entry.instance != first + place or entry_checksum(entry.kind, entry.payload) != entry.checksum:
                raise FetchFailed(f"entry {first + place} was damaged on its way")
            writes.append(
                PutEntry(self._group.group_id, entry.instance, entry.ballot, entry.checksum, entry.kind, entry.payload)
            )
        return writes

    # ---- filling the gap -----------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Fetch the entries that the state machine needs from below its checkpoint."""
        group, table = self._group, self._table
        while not self._closed and not self._outdated and table.gap is not None:
            gap = table.gap
            first = max(gap.first, min(group.needed, gap.last + 1))
            try:
                await self._fill_some(first, gap)
            except (RpcError, JournalError, FetchFailed) as error:
                self._log.warn(
                    "group {group}: entries from {first} on are still missing: {error}",
                    group=group.group_id,
                    first=first,
                    error=error,
                )
                await self._sleep(RETRY_S)
        if not self._closed and table.gap is None:
            self._log.info("group {group}: its log is complete", group=group.group_id)
            group.whole(self._bottom)

    async def _fill_some(self, first: int, gap: Gap) -> None:
        """From whoever has it, the master last. What lies below `first` is not needed any more."""
        skipped: list[Write] = []
        if first > gap.first:
            self._bottom = first
            skipped.append(TrimEntries(self._group.group_id, first))
        if first > gap.last:
            await self._store(skipped, None)
            return
        error: Exception = FetchFailed("no other node can be reached")
        master = self._group.master_node()
        for peer in sorted(self._transport.reachable(), key=lambda node: (node == master, node)):
            try:
                writes = await self._read_log(peer, first, gap.last)
            except (RpcError, FetchFailed) as failed:
                error = failed
                continue
            at = first + len(writes)
            await self._store([*skipped, *writes], Gap(at, gap.last) if at <= gap.last else None)
            return
        raise error

    async def _store(self, writes: list[Write], left: Gap | None) -> None:
        while self._journal.overloaded:
            await self._sleep(SOON_S)
        await durable(self._journal, [*writes, self._table.gap_write(left)])
        self._table.gap = left


async def _all(writing: list[Deferred[None]]) -> None:
    """Wait for all of them; the first failure is raised when all are over."""
    results = await DeferredList(writing, consumeErrors=True)
    for success, result in cast(list[tuple[bool, object]], results):
        if not success and isinstance(result, Failure):
            result.raiseException()
