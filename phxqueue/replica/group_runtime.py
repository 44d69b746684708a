"""Carries out what the Paxos core decides for one group, and lets a service propose, read and learn who is master."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import fail as failed
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.errors import CorruptEntry, JournalError, JournalFailed
from phxqueue.journal.interfaces import IJournal
from phxqueue.paxos.effects import (
    BecameMaster,
    CheckpointNeeded,
    Effects,
    EntryRepaired,
    LostMaster,
    MembershipChanged,
    MembershipEffective,
    MessageIgnored,
)
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.errors import NotMaster, WindowFull
from phxqueue.paxos.group import Group
from phxqueue.paxos.messages import Accept, LearnReply, Message
from phxqueue.proto.status_pb2 import GroupStatus
from phxqueue.replica.entry_reader import EntryReader
from phxqueue.replica.errors import Halted, NotServing, Overloaded
from phxqueue.replica.event_news import event_news
from phxqueue.replica.group_members import GroupMembers, membership_news
from phxqueue.replica.group_status import group_status
from phxqueue.replica.interfaces import Clock, IStateMachine
from phxqueue.replica.learn_server import LearnServer
from phxqueue.replica.pace import Pace
from phxqueue.replica.pending import PendingProposals
from phxqueue.replica.replay import replay
from phxqueue.replica.written import writes_of

_BRINGS_ENTRIES = (Accept, LearnReply)


class GroupRuntime(GroupMembers):
    """One Paxos group on one node: what a service sees of consensus.

    Attributes:
        halted: why it stopped applying, if it did (an entry of a newer version); its state is sound.
        failed: it stopped because of a defect; its state may be half changed and must not be kept.
        first: the log has everything from here on.
        needed: the state machine needs no entry below, as far as the last durable checkpoint tells.
        applied_bytes: payload applied since the start.

    Callbacks, called in the reactor thread; they must not raise:

    - ``on_applied(instance, payload)`` after each applied value,
    - ``on_mastership(is_master)`` when this node becomes master or stops being it,
    - ``on_window_free()`` when there is room again for a proposal, for whoever was told that there was none,
    - ``on_checkpoint_needed(peer)`` when a peer (None: everybody) has trimmed what this node lacks.
    """

    def __init__(
        self,
        core: Group,
        state_machine: IStateMachine,
        journal: IJournal,
        clock: Clock,
        send: Callable[[int, Message], None],
        unreachable_reason: Callable[[], str],
        fail: Callable[[str], None],
        *,
        first: int,
        cache_bytes: int,
        teaching: Pace | None = None,
    ) -> None:
        super().__init__(core, clock)
        self.state_machine = state_machine
        self.halted: str | None = None
        self.failed = False
        self.first = first
        self.needed = 0
        self.applied_bytes = 0
        self.on_applied: list[Callable[[int, bytes], None]] = []
        self.on_mastership: list[Callable[[bool], None]] = []
        self.on_window_free: list[Callable[[], None]] = []
        self.on_checkpoint_needed: Callable[[int | None], None] = lambda peer: None
        self._journal = journal
        self._clock = clock
        self._send = send
        self._unreachable_reason = unreachable_reason
        self._reader = EntryReader(self.group_id, journal, clock, self.repair, cache_bytes=cache_bytes)
        self._proposals = PendingProposals(self.group_id)
        self._effects: deque[Effects] = deque()
        self._carrying_out = False
        self._room_missed = False
        self._learn_server = LearnServer(
            self.group_id, core.config.node_id, journal, send, self.repair, clock, teaching or Pace(0)
        )
        self._fail = fail
        self._replaying = True
        self.hinder("it replays its log", True)
        self._frozen = False
        self._closed = False
        self._log = Logger(namespace="phxqueue.replica.group")

    # ---- what a service asks ----------------------------------------------------------------------

    def serving(self) -> bool:
        """Tell whether this node may answer reads of this group right now: a master under a valid lease."""
        return self._ready() and self.core.lease_valid(self._clock.seconds())

    def proposing(self) -> bool:
        """Tell whether propose() may be called: this node is master, with or without a valid lease at this moment.

        Writes are safe without the lease, Paxos sees to that; only reads rest on it. So a master whose heartbeats are
        late for a moment goes on taking writes.
        """
        return self._ready() and self.core.is_master

    def _ready(self) -> bool:
        return self.halted is None and not self._replaying and not self._frozen and not self._closed

    def master_node(self) -> int | None:
        """Return the node that is believed to be master; a hint for redirects, never a proof."""
        return self.core.master_id

    def unreachable_reason(self) -> str:
        """Return a sentence for a client that finds no master: what is missing and what to do."""
        if self.halted is not None:
            return self.halted
        return self._unreachable_reason()

    def status(self, *, state_hash: bool = False) -> GroupStatus:
        """Return what an operator wants to know of this group on this node; the hash costs a walk over all state."""
        now = self._clock.seconds()
        status = group_status(self.core, now, applied=self.state_machine.applied, first=self.first)
        if status.is_master:
            status.master_for_s, status.held = now - self.master_since, self.held
        if state_hash:
            status.state_hash = self.state_machine.state_hash()
        return status

    @property
    def highest(self) -> int:
        """The highest instance held, or the chosen prefix when none is above it."""
        return self.core.highest

    @property
    def lowest_version(self) -> int:
        """The highest command version that every member is known to understand; 0 while some member has not told."""
        return self.core.lowest_version

    @property
    def in_flight(self) -> int:
        """Number of entries proposed and not yet chosen."""
        return self.core.in_flight

    @property
    def window_free(self) -> bool:
        """Whether propose() would find room. Who hears False is told through ``on_window_free`` when there is."""
        if self._has_room():
            return True
        self._room_missed = True
        return False

    def _has_room(self) -> bool:
        return self.core.window_free > 0 and not self._journal.overloaded

    def _tell_of_room(self) -> None:
        # Not only proposals of this mastership take room: so do a former master's entries, and a slow disk.
        if self._room_missed and self._has_room():
            self._room_missed = False
            self._notify(self.on_window_free)

    def propose(self, payload: bytes) -> Deferred[Any]:
        """Replicate one command; fires with the result of applying it.

        Fails with NotServing or Overloaded (nothing was proposed) or OutcomeUnknown (it may still be chosen).
        """
        if not self.proposing():
            return failed(NotServing(self.unreachable_reason()))
        if self._journal.overloaded:
            return failed(Overloaded(f"group {self.group_id}: the journal's queue is full"))
        try:
            instance, effects = self.core.propose(payload, self._clock.seconds())
        except NotMaster:
            return failed(NotServing(self.unreachable_reason()))
        except WindowFull as full:
            return failed(Overloaded(str(full)))
        result = self._proposals.add(instance, payload)
        self._drive(lambda now: effects)
        return result

    def cached(self, instance: int) -> bytes | None:
        """Return the payload of a recent entry without waiting, or None."""
        return self._reader.cache.get(instance)

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """Return the payloads of applied entries, from memory or from the journal (off the reactor).

        A damaged entry is fetched again from a peer. Fails with EntryUnreadable when that does not succeed either.
        """
        return self._reader.read(instances)

    def read_stored(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """The same from the journal alone, as it is: nothing is taken from memory or mended."""
        return self._reader.read_stored(instances)

    # ---- what the node feeds in ----------------------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take one message of a peer. One that brings entries is dropped while the journal is overloaded, as a network
        would do; votes and heartbeats cost no space, and dropping them would only depose masters.
        """
        if not self._frozen and not (self._journal.overloaded and isinstance(message, _BRINGS_ENTRIES)):
            self._drive(lambda now: self.core.step(message, now))

    def tick(self) -> float:
        """Let time pass in the core, if it has something to do by now; return when that will next be so."""
        if self._frozen:
            return float("inf")
        if self.core.next_deadline() <= self._clock.seconds():
            self._drive(self.core.tick)
        else:
            self._tell_of_room()
        return self.core.next_deadline()

    def peer_unreachable(self, node_id: int) -> None:
        """Tell the core that a peer's connection was closed and a new one refused."""
        if not self._frozen:
            self._drive(lambda now: self.core.peer_unreachable(node_id, now))

    def close(self) -> None:
        """Stop taking part. Proposals in flight end as OutcomeUnknown; nothing more is sent or applied."""
        self._closed = True
        self._proposals.fail("this node is shutting down")
        self._requests.close("this node is shutting down")

    def fail(self, reason: str) -> None:
        """Stop because of a defect, which has been logged: nothing is sent, applied or kept any more; ends the node."""
        self.failed = True
        self.close()
        self._fail(f"group {self.group_id} failed: {reason}; the log has the traceback")

    def trim(self, below: int) -> None:
        """Let go of the entries below an instance: a durable checkpoint and the state machine need none of them."""
        if self._closed or below <= self.first:
            return
        self.first = below
        self.core.log_trimmed(below)
        self._journal.delete_entries(self.group_id, below).addErrback(self._not_trimmed)

    def _not_trimmed(self, failure: Failure) -> None:
        # What is not trimmed now goes with the next trim, or at the next start; a failed journal says so itself.
        failure.trap(JournalError)
        self._log.debug("group {group}: {reason}", group=self.group_id, reason=failure.getErrorMessage())

    # ---- a checkpoint from a peer -----------------------------------------------------------------------

    @property
    def may_teach(self) -> bool:
        """Whether a checkpoint made now is whole: state and log, at the core's chosen instance."""
        return self._ready() and self.core.complete and self.state_machine.applied == self.core.chosen

    def freeze(self) -> None:
        """Take nothing in until `thaw`: what is known to be chosen stays where it is."""
        self._frozen = True

    def thaw(self, change: Callable[[float], Effects] | None = None) -> None:
        """Go on; `change(now)` comes first."""
        self._frozen = False
        if change is not None:
            self._drive(change)

    def whole(self, first: int) -> None:
        """The log has everything from `first` on, and the state machine needs nothing below."""
        if not self._closed:
            self.first = first
            self.core.log_complete(first)
            self._drive(lambda now: self.core.tick(now))

    # ---- start-up -----------------------------------------------------------------------------------------

    async def replay(self, max_bytes: int, retry_after: float) -> int:
        """Apply what was chosen before and is not in the checkpoint; see :mod:`phxqueue.replica.replay`."""
        replayed = await replay(self, self._journal, self._reader, self._clock, max_bytes, retry_after)
        self._replaying = False
        self.hinder("it replays its log", False)
        return replayed

    def apply_stored(self, entries: Sequence[tuple[int, Entry]]) -> None:
        """Apply chosen entries out of the log, in order."""
        try:
            for instance, entry in entries:
                self._apply(instance, entry)
        except Exception:
            self.failed = True
            self.close()
            raise

    @property
    def behind(self) -> bool:
        """Whether there are chosen entries that the state machine should still apply."""
        return self.state_machine.applied < self.core.chosen and self.halted is None and not self._closed

    # ---- carrying out effects ----------------------------------------------------------------------

    def _drive(self, step: Callable[[float], Effects]) -> None:
        """Call the core and carry out what it answers. Whatever goes wrong in here stops the node.

        An exception leaves effects half carried out: nothing may be sent, applied or acknowledged after that.
        """
        if self._closed:
            return
        try:
            self._effects.append(step(self._clock.seconds()))
            self._carry_out()
        except JournalFailed as error:
            # No defect: the disk. The journal has told it, or does in a moment.
            self.failed = True
            self.close()
            self._fail(str(error))
        except Exception as error:
            self._log.failure("group {group} failed", group=self.group_id)
            self.fail(f"{type(error).__name__}: {error}")

    def _carry_out(self) -> None:
        """Carry out in the order received, even when applying one makes a service propose the next."""
        if self._carrying_out:
            return
        self._carrying_out = True
        try:
            while self._effects:
                self._carry_out_one(self._effects.popleft())
        finally:
            self._carrying_out = False
        self._tell_of_room()

    def _carry_out_one(self, effects: Effects) -> None:
        if effects.persist:
            self._persist(effects)
        elif effects.send_after:
            raise AssertionError("the core asked to send after a persist that it did not ask for")
        for message in effects.send:
            self._send(message.receiver, message)
        if not self._replaying:  # else replay() will come to them
            for instance, entry in effects.chosen:
                self._apply(instance, entry)
        for event in effects.events:
            self._handle_event(event)
        for request in effects.serve:
            self._learn_server.serve(request, self.core.chosen)

    def _persist(self, effects: Effects) -> None:
        writes = writes_of(self.group_id, effects.persist)
        token = effects.token
        if token is None:
            self._journal.submit(writes)
            return
        send_after = effects.send_after

        def durable() -> None:
            if not self._closed:
                for message in send_after:
                    self._send(message.receiver, message)
            self._drive(lambda now: self.core.persisted(token, now))

        self._journal.submit(writes, durable)

    def _apply(self, instance: int, entry: Entry) -> None:
        if self.halted is not None:
            return
        result: Any = None
        if entry.kind == EntryKind.VALUE:
            try:
                result = self.state_machine.apply(instance, int(entry.kind), entry.payload)
            except Halted as halted:
                self._halt(instance, halted)
                return
            self._reader.cache.put(instance, entry.payload)
            self.applied_bytes += len(entry.payload)
        else:
            self.state_machine.apply(instance, int(entry.kind), b"")
        self._proposals.applied(instance, entry.payload, result)
        if entry.kind == EntryKind.VALUE:
            self._notify(self.on_applied, instance, entry.payload)

    def _notify(self, callbacks: list[Callable[..., None]], *arguments: object) -> None:
        """Tell a service; its mistakes are logged and do not harm consensus."""
        for callback in callbacks:
            try:
                callback(*arguments)
            except Exception:
                self._log.failure("group {group}: a service callback failed", group=self.group_id)

    def _halt(self, instance: int, reason: Halted) -> None:
        self.halted = f"group {self.group_id} stopped applying at instance {instance}: {reason}"
        self._log.critical("{reason}", reason=self.halted)
        self._proposals.fail(self.halted)
        self._notify(self.on_mastership, False)
        # Another node may know the command. This one goes on voting: its log is as good as any.
        self._drive(lambda now: self.core.stand_aside("its state machine has stopped", now))

    def _handle_event(self, event: object) -> None:
        self._requests.handle(event)
        if isinstance(event, BecameMaster):
            self.master_since = self._clock.seconds()
            self._log.info("group {group}: {event}", group=self.group_id, event=event_news(event))
            self._notify(self.on_mastership, True)
        elif isinstance(event, LostMaster):
            self._log.info("group {group}: {event}", group=self.group_id, event=event_news(event))
            self._proposals.fail("this node lost mastership while the entry was in flight")
            self._notify(self.on_mastership, False)
        elif isinstance(event, EntryRepaired):
            self._log.warn(
                "group {group}: instance {i} was repaired from a peer", group=self.group_id, i=event.instance
            )
            self._reader.repaired(event.instance, event.entry)
        elif isinstance(event, CheckpointNeeded):
            self.on_checkpoint_needed(event.peer)
        elif isinstance(event, (MembershipChanged, MembershipEffective)):
            self._log.info("{what}", what=membership_news(self.name, event))
            self._notify(self.on_members)
        elif isinstance(event, MessageIgnored):
            self._log.debug("group {group}: {event}", group=self.group_id, event=event)
        else:
            self._log.info("group {group}: {event}", group=self.group_id, event=event_news(event))

    def repair(self, corrupt: CorruptEntry) -> None:
        """Have a damaged entry fetched from a peer."""
        self._drive(lambda now: self.core.repair(corrupt.instance, now, corrupt.checksum))
