"""One node of a replica set: its Paxos groups, their recovery, their ticks and their checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from phxqueue.journal.errors import JournalFailed
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import GroupState
from phxqueue.net.service import RpcService
from phxqueue.paxos.config import GroupConfig, Restored
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.group import Group
from phxqueue.paxos.messages import Accepted, Message
from phxqueue.replica.admission import Admission
from phxqueue.replica.backup_calls import BackupCalls, Origin
from phxqueue.replica.checkpoint_fetch import CheckpointFetch
from phxqueue.replica.checkpoint_server import CheckpointServer
from phxqueue.replica.checkpoint_table import GROUP_KEY, MEMBERSHIP, CheckpointTable
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Checkpoint, Clock, DelayedCall, IStateMachine, ITransport
from phxqueue.replica.mastership import Masterships, Order
from phxqueue.replica.outbox import Outbox
from phxqueue.replica.pace import Pace

_LEAST_TICK = 0.05
"""The shortest pause between two ticks, as a part of the interval: deadlines in a row are taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSettings:
    """Bounds and intervals of the runtime. Times in seconds.

    tick_interval: longest time between two looks at what the groups have to do.
    checkpoint_interval: a group's state machine is checkpointed this long after its last checkpoint, if it moved.
    checkpoint_entries: ... or after so many entries, or ...
    checkpoint_bytes: ... so much payload, whichever comes first; bounds the replay at start-up.
    keep_entries: the newest entries stay in the log even if nothing here needs them, for members that lag a little.
    cache_bytes: payloads of recent entries kept in memory, for the whole node.
    replay_bytes: how much of the log is held in memory at once while replaying at start-up.
    catch_up_bytes: most bytes per second that are given to members that catch up, and taken while catching up by a
        checkpoint; 0: no limit.
    fetch_bytes: how much of a checkpoint is asked for at a time.
    fetch_timeout: how long is waited for it, or for a checkpoint to be made.
    repair_retry: pause before peers are asked again for an entry that is damaged here.
    return_mastership_after: a node that is preferred as master and has been healthy for so long gets a group back; 0:
        never.
    transfer_interval: shortest time between two groups given back.
    must_remember: stop when another node remembers more of what this one told to be durable than it has.
    """

    tick_interval: float = 0.02
    checkpoint_interval: float = 10.0
    checkpoint_entries: int = 20_000
    checkpoint_bytes: int = 64 << 20
    keep_entries: int = 1000
    cache_bytes: int = 64 << 20
    replay_bytes: int = 8 << 20
    catch_up_bytes: int = 32 << 20
    fetch_bytes: int = 256 << 10
    fetch_timeout: float = 5.0
    repair_retry: float = 1.0
    return_mastership_after: float = 0.0
    transfer_interval: float = 1.0
    must_remember: bool = True


@dataclass(slots=True)
class _LastCheckpoint:
    """Up to where a group was checkpointed: instance, payload applied by then, and when that was tried last."""

    applied: int
    bytes: int
    at: float


class ReplicaNode:
    """Hosts the groups of one node. Build it, `await start()`, feed it what peers send, `close()` it.

    Attributes:
        groups: by id, from `recover` on.
        admission: who may vote; None: data directories are not told apart (incarnation 0 in the configs).
        masterships: of this node; where they go.
    """

    def __init__(
        self,
        configs: Sequence[GroupConfig],
        make_state_machine: Callable[[int], IStateMachine],
        journal: IJournal,
        transport: ITransport,
        clock: Clock,
        *,
        seed: int,
        settings: ReplicaSettings,
        describe_members: Callable[[frozenset[int]], str],
        fail: Callable[[str], None],
        describe_node: Callable[[int], str] = "node {}".format,
        on_members: Callable[[], None] = lambda: None,
        order: Order = lambda group_id: (),
    ) -> None:
        self.groups: dict[int, GroupRuntime] = {}
        self.admission: Admission | None = None
        if configs[0].incarnation:
            lost = fail if settings.must_remember else None
            self.admission = Admission(configs, self.groups, journal, clock, describe=describe_node, fail=lost)
        self.masterships = Masterships(
            configs[0].node_id,
            self.groups,
            clock,
            order=order,
            room=lambda: journal.accepting,
            settle=settings.return_mastership_after,
            interval=settings.transfer_interval,
        )
        self._configs = configs
        self._make_state_machine = make_state_machine
        self._journal = journal
        self._transport = transport
        self._clock = clock
        self._seed = seed
        self._settings = settings
        self._describe_members = describe_members
        self._fail = fail
        self._on_members = on_members
        self._outbox = Outbox(transport, clock)
        self._tick_call: DelayedCall | None = None
        self._checkpointed: dict[int, _LastCheckpoint] = {}
        self._tables: dict[int, CheckpointTable] = {}
        self._fetches: dict[int, CheckpointFetch] = {}
        self._fetching = DeferredLock()
        self._learning, self._teaching = Pace(settings.catch_up_bytes), Pace(settings.catch_up_bytes)
        self._server = CheckpointServer(self.groups, self._tables, journal, clock, self._checkpoint_for_peer)
        self._started = False
        self._last_checkpoints: list[Deferred[None]] = []
        self._may_vote = True
        self._log = Logger(namespace="phxqueue.replica.node")

    def recover(self) -> None:
        """Recover every group from the journal, all but the replay of the logs.

        Raises JournalError when the journal cannot be read.
        """
        stored = {config.group_id: self._journal.load_group(config.group_id) for config in self._configs}
        if self.admission is not None:
            marks = {group_id: (group.promised, group.chosen) for group_id, group in stored.items()}
            self._may_vote = self.admission.load(marks)
        for config in self._configs:
            self.groups[config.group_id] = self._recover(config, stored.pop(config.group_id))

    async def start(self) -> None:
        """Recover, unless that has been done, then take part.

        Takes part in consensus from the first moment on; returns when all groups have replayed their logs and can
        serve.
        Raises JournalError when the journal cannot be read.
        """
        if not self.groups:
            self.recover()
        self._started = True
        if self.admission is not None:
            self.admission.start()
        self._tick()
        for group in self.groups.values():
            await self._replay(group)

    def _recover(self, config: GroupConfig, stored: GroupState) -> GroupRuntime:
        group_id = config.group_id
        state_machine = self._make_state_machine(group_id)
        table = self._tables[group_id] = CheckpointTable(self._journal, group_id)
        table.restore(state_machine)
        table.clean()
        chosen = max(stored.chosen, state_machine.applied)
        entries = {
            instance: Entry(entry.ballot, entry.kind, entry.checksum, entry.payload)
            for instance, entry in stored.entries
            if instance > chosen
        }
        first = stored.first if table.gap is None else table.gap.last + 1
        key = GROUP_KEY.pack(group_id)
        restored = Restored(
            promised=stored.promised,
            chosen=chosen,
            first=first,
            entries=entries,
            complete=table.gap is None,
            membership=next((value for at, value in self._journal.load_blobs(MEMBERSHIP, key) if at == key), None),
            may_vote=self._may_vote,
        )
        core = Group(config, restored, self._clock.seconds(), self._seed + group_id)
        runtime = GroupRuntime(
            core,
            state_machine,
            self._journal,
            self._clock,
            partial(self._outbox.put, group_id),
            self.unreachable_reason,
            self._fail,
            first=first,
            cache_bytes=self._settings.cache_bytes // len(self._configs),
            teaching=self._teaching,
        )
        self._checkpointed[group_id] = _LastCheckpoint(state_machine.applied, 0, self._clock.seconds())
        fetch = self._fetches[group_id] = CheckpointFetch(
            runtime,
            table,
            self._transport,
            self._journal,
            self._clock,
            turn=self._fetching,
            pace=self._learning,
            chunk_bytes=self._settings.fetch_bytes,
            timeout=self._settings.fetch_timeout,
        )
        runtime.on_checkpoint_needed = fetch.needed
        runtime.on_members.append(self._on_members)
        if self.admission is not None:
            runtime.beginning = self.admission.beginning(group_id)
        fetch.resume(stored.first)
        return runtime

    async def _replay(self, group: GroupRuntime) -> None:
        before = group.state_machine.applied
        replayed = await group.replay(self._settings.replay_bytes, self._settings.repair_retry)
        self._log.info(
            "group {group}: recovered instance {applied}: checkpoint at {before}, {replayed} entries replayed",
            group=group.group_id,
            applied=group.state_machine.applied,
            before=before,
            replayed=replayed,
        )

    def receive(self, messages: Sequence[tuple[int, Message]]) -> None:
        """Take the messages of one frame; the sender has been identified as a member of this replica set."""
        if not self._started:
            return
        admission = self.admission
        for group_id, message in messages:
            group = self.groups.get(group_id)
            if group is None:
                continue
            if admission is not None and message.__class__ is Accepted and message.last >= message.first:
                admission.told(message.sender, group_id, message.last)
            group.receive(message)

    def peer_unreachable(self, node_id: int) -> None:
        """A peer's connection was closed and a new one refused: its process is gone."""
        for group in self.groups.values():
            group.peer_unreachable(node_id)

    def unreachable_reason(self) -> str:
        """Say how many of which members are reachable from here, and what to do."""
        waiting = "" if self.admission is None else self.admission.waiting()
        return waiting or self._describe_members(self._transport.reachable())

    def _tick(self) -> None:
        """Let time pass in all groups; come back when one has something to do, or after the interval."""
        now, interval = self._clock.seconds(), self._settings.tick_interval
        due = now + interval
        for group in self.groups.values():
            due = min(due, group.tick())
            self._checkpoint_if_due(group)
        if self.admission is not None:
            self.admission.tick()
        self.masterships.tick()
        self._tick_call = self._clock.callLater(max(due - now, interval * _LEAST_TICK), self._tick)

    # ---- checkpoints ----------------------------------------------------------------------

    def _checkpoint_if_due(self, group: GroupRuntime) -> None:
        last, settings = self._checkpointed[group.group_id], self._settings
        moved = group.state_machine.applied - last.applied
        if moved <= 0 or self._journal.overloaded or group.failed:
            return
        waited = self._clock.seconds() - last.at
        full = moved >= settings.checkpoint_entries or group.applied_bytes - last.bytes >= settings.checkpoint_bytes
        if (full and not self._tables[group.group_id].refused) or waited >= self._settings.checkpoint_interval:
            try:
                self.checkpoint(group)
            except JournalFailed as error:
                group.fail(str(error))  # no defect: the disk, and the journal tells of it
            except Exception as error:
                self._log.failure("the checkpoint of group {group} failed", group=group.group_id)
                group.fail(f"its checkpoint failed: {type(error).__name__}: {error}")

    def checkpoint(self, group: GroupRuntime, done: Callable[[], None] | None = None) -> Checkpoint | None:
        """Write the state machine's checkpoint, with everything it rests on, in one transaction.

        Returns it, or None when the journal does not take it; then it is due again after the interval.
        """
        group_id, now = group.group_id, self._clock.seconds()
        checkpoint = group.state_machine.checkpoint()

        def durable() -> None:
            group.needed = max(group.needed, checkpoint.needed)
            below = min(checkpoint.needed, checkpoint.applied + 1 - self._settings.keep_entries)
            group.trim(self._server.pinned(group_id, below))
            if done is not None:
                done()

        if not self._tables[group_id].write(checkpoint, durable):
            self._log.warn("group {group}: no checkpoint now, the disk is busy", group=group_id)
            self._checkpointed[group_id].at = now
            return None
        self._checkpointed[group_id] = _LastCheckpoint(checkpoint.applied, group.applied_bytes, now)
        return checkpoint

    def _checkpoint_for_peer(self, group: GroupRuntime, done: Callable[[], None]) -> Checkpoint | None:
        return self.checkpoint(group, done)

    def register(self, service: RpcService) -> None:
        """Answer the calls of members that are behind the log."""
        self._server.register(service)

    def register_backups(self, service: RpcService, origin: Origin) -> None:
        """Let an operator copy what is here."""
        BackupCalls(origin, self._server, lambda: 0 if self.admission is None else self.admission.lineage).register(
            service
        )

    async def close(self) -> None:
        """Take a last checkpoint of every group and stop taking part. The journal stays open for its owner to close.

        A journal that fails meanwhile costs the checkpoints; its owner has to say so: see `journal_failed`.
        """
        if self._tick_call is not None and self._tick_call.active():
            self._tick_call.cancel()
        self._server.close()
        for fetch in self._fetches.values():
            fetch.close()
        for group in self.groups.values():
            if group.state_machine.applied > self._checkpointed[group.group_id].applied and not group.failed:
                self._last_checkpoint(group)
            group.close()
        self._started = False
        self._outbox.clear()
        for written in self._last_checkpoints:
            await written

    def _last_checkpoint(self, group: GroupRuntime) -> None:
        written: Deferred[None] = Deferred()

        def done() -> None:
            if not written.called:
                written.callback(None)

        try:
            if self.checkpoint(group, done) is not None:
                self._last_checkpoints.append(written)
        except JournalFailed as error:
            self._log.warn("group {group}: no last checkpoint: {error}", group=group.group_id, error=str(error))
        except Exception:  # the next start has more to replay; the others are to be closed
            self._log.failure("the last checkpoint of group {group} failed", group=group.group_id)

    def journal_failed(self) -> None:
        """Nothing becomes durable any more: what `close` waits for does not come. Called by the journal's owner."""
        for written in self._last_checkpoints:
            if not written.called:
                written.callback(None)
