"""Deliberate bugs: each breaks one rule of the system in memory, for the length of a test, never in the source.

A simulator that passes proves nothing until it has been seen to fail. Every mutant here is a mistake that somebody
could make while changing the code; the checkers must catch each of them within the seeds that CI runs.

``python -m tests.simulation.mutants [NAME ...]`` tells how many of the first seeds catch each mutant, and which do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.logger import globalLogBeginner

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.election import Election
from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.group import Group
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.lease import LeaseGiven, LeaseHeld
from phxqueue.paxos.messages import Accepted, Heartbeat, HeartbeatReply, Prepare, Promise
from phxqueue.paxos.phase1 import Phase1
from phxqueue.paxos.proposer import Proposer
from phxqueue.paxos.repair import Repairs
from phxqueue.paxos.roles import Roles
from phxqueue.replica import group_runtime, node
from phxqueue.replica.errors import OutcomeUnknown
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.learn_server import LearnServer
from phxqueue.store.batcher import Batcher
from phxqueue.store.get import GetCall
from phxqueue.store.index import QueueIndex
from phxqueue.store.positions import Positions
from phxqueue.store.proposals import Proposals
from phxqueue.store.queues import StoreQueues
from phxqueue.testing.sim.run import Outcome, run

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """One bug. `seeds` are known to catch it, as of when they were last looked for; the others are tried after them."""

    name: str
    apply: Callable[[Patch], None]
    seeds: tuple[int, ...]

    def caught_by(self, seed: int) -> Outcome | None:
        """Run a seed with this bug; return the outcome if it was caught."""
        with pytest.MonkeyPatch.context() as patch:
            self.apply(patch)
            outcome = run(seed)
        return outcome if outcome.violation else None


MUTANTS: list[Mutant] = []


def mutant(*seeds: int) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add the decorated function to the table."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(apply.__name__, apply, seeds))
        return apply

    return add


def wrap(patch: Patch, owner: type, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method by what `change` makes of it."""
    patch.setattr(owner, name, change(getattr(owner, name)))


def send_at_once(patch: Patch, message_class: type) -> None:
    """Let messages of one class leave without waiting for the disk."""

    def change(persist: Callable[..., Any]) -> Callable[..., Any]:
        def _persist(self: GroupRuntime, effects: Effects) -> None:
            hasty = [message for message in effects.send_after if isinstance(message, message_class)]
            effects.send_after = [message for message in effects.send_after if message not in hasty]
            effects.send.extend(hasty)
            persist(self, effects)

        return _persist

    wrap(patch, GroupRuntime, "_persist", change)


# ---- the disk -----------------------------------------------------------------------------------------


@mutant()
def accepted_before_durable(patch: Patch) -> None:
    """An acceptor answers an Accept before the entry is on its disk."""
    send_at_once(patch, Accepted)


@mutant()
def promise_before_durable(patch: Patch) -> None:
    """An acceptor answers a Prepare before the promise is on its disk."""
    send_at_once(patch, Promise)


@mutant()
def prepare_before_durable(patch: Patch) -> None:
    """A candidate asks for promises at a ballot that it may forget, and use a second time."""
    send_at_once(patch, Prepare)


@mutant()
def own_accept_counts_at_once(patch: Patch) -> None:
    """The master counts its own vote before its disk has it."""

    def change(start: Callable[..., Any]) -> Callable[..., Any]:
        def _start(self: Proposer, instance: int, *arguments: Any) -> None:
            start(self, instance, *arguments)
            self.own_durable([instance])

        return _start

    wrap(patch, Proposer, "_start", change)


@mutant()
def applied_before_durable(patch: Patch) -> None:
    """A node applies what is chosen before its own disk has it."""
    patch.setattr(Acceptor, "is_durable", lambda self, instance: instance in self.entries)


def restore_without(patch: Patch, **forgotten: Any) -> None:
    """Let a node restart without something that its disk holds."""

    def restored(**fields: Any) -> Restored:
        return Restored(**{**fields, **forgotten})

    patch.setattr(node, "Restored", restored)


@mutant()
def promise_forgotten(patch: Patch) -> None:
    """A node comes back without its promise."""
    restore_without(patch, promised=0)


@mutant()
def accepts_forgotten(patch: Patch) -> None:
    """A node comes back without what it accepted and did not know to be chosen."""
    restore_without(patch, entries={})


@mutant()
def damaged_entry_believed(patch: Patch) -> None:
    """Checksums are not looked at."""
    patch.setattr(Entry, "valid", lambda self: True)


@mutant()
def damaged_entry_not_repaired(patch: Patch) -> None:
    """Nobody asks the peers for what the own disk has spoilt."""
    patch.setattr(Repairs, "want", lambda self, instance, now, out: None)


@mutant()
def segments_not_stored(patch: Patch) -> None:
    """A checkpoint refers to segments that were never written."""

    def change(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
        def _checkpoint(self: StoreQueues) -> Any:
            made = checkpoint(self)
            return type(made)(applied=made.applied, state=made.state, segments=[])

        return _checkpoint

    wrap(patch, StoreQueues, "checkpoint", change)


# ---- Paxos ----------------------------------------------------------------------------------------------


@mutant()
def lower_ballot_wins(patch: Patch) -> None:
    """Phase 1 takes the value of the lowest ballot instead of the highest."""

    def consider(self: Phase1, instance: int, entry: Entry) -> None:
        best = self._best.get(instance)
        if best is None or entry.ballot < best.ballot:
            self._best[instance] = entry

    patch.setattr(Phase1, "_consider", consider)


@mutant()
def promises_not_looked_at(patch: Patch) -> None:
    """A new master proposes what it likes, whatever the promises say was accepted."""
    patch.setattr(Phase1, "to_propose", lambda self, known: [])


@mutant()
def last_page_is_enough(patch: Patch) -> None:
    """A promise of several pages counts as complete with its first."""

    def change(promised: Callable[..., Any]) -> Callable[..., Any]:
        def _promised(self: Phase1, message: Promise, out: Effects) -> Any:
            message.final = True
            return promised(self, message, out)

        return _promised

    wrap(patch, Phase1, "promised", change)


@mutant()
def gaps_left_open(patch: Patch) -> None:
    """A new master does not close gaps with no-ops."""

    def change(to_propose: Callable[..., Any]) -> Callable[..., Any]:
        def _to_propose(self: Phase1, known: int) -> Any:
            return [pair for pair in to_propose(self, known) if pair[1].kind != EntryKind.NOOP]

        return _to_propose

    wrap(patch, Phase1, "to_propose", change)


@mutant()
def lower_ballot_accepted(patch: Patch) -> None:
    """An acceptor takes Accepts below its promise."""

    def change(on_accept: Callable[..., Any]) -> Callable[..., Any]:
        def _on_accept(self: Group, message: Any, now: float, out: Effects) -> None:
            acceptor, roles = self._acceptor, self._roles
            promised, master_ballot = acceptor.promised, roles.master_ballot
            acceptor.promised = min(promised, message.ballot)
            roles.master_ballot = min(master_ballot, message.ballot)
            on_accept(self, message, now, out)
            acceptor.promised = max(promised, acceptor.promised)
            roles.master_ballot = max(master_ballot, roles.master_ballot)

        return _on_accept

    wrap(patch, Group, "_on_accept", change)


@mutant()
def minority_chooses(patch: Patch) -> None:
    """The master counts a value as chosen one vote early."""

    def change(vote: Callable[..., Any]) -> Callable[..., Any]:
        def _vote(self: Proposer, bit: int, instance: int) -> None:
            proposal = self._proposals.get(instance)
            if proposal is not None and not proposal.voted:
                proposal.votes += 1
            vote(self, bit, instance)

        return _vote

    wrap(patch, Proposer, "_vote", change)


@mutant()
def chosen_whatever_the_ballot(patch: Patch) -> None:
    """A follower takes what it holds as chosen because the master's mark is higher, whatever ballot it is of."""

    def mark(self: Learner, ballot: int, chosen: int) -> None:
        self.told(ballot & 0xFFFF, chosen)
        while self.known < chosen and self.known + 1 in self._acceptor.entries:
            self.known += 1

    patch.setattr(Learner, "mark", mark)


@mutant()
def teaches_what_is_not_chosen(patch: Patch) -> None:
    """A node answers a lagging peer with everything it has accepted."""

    def change(serve: Callable[..., Any]) -> Callable[..., Any]:
        def _serve(self: LearnServer, request: Any, last: int) -> None:
            serve(self, request, last + 1)

        return _serve

    wrap(patch, LearnServer, "serve", change)


@mutant()
def nobody_catches_up(patch: Patch) -> None:
    """A lagging node does not ask for what it lacks."""
    patch.setattr(Learner, "ask", lambda self, now, prefer, out: None)


@mutant()
def nothing_is_sent_again(patch: Patch) -> None:
    """An Accept that got lost stays lost."""
    patch.setattr(Proposer, "_resend", lambda self, link, sent_before, now, out: None)


# ---- leases ---------------------------------------------------------------------------------------------


@mutant()
def lease_never_ends(patch: Patch) -> None:
    """A master serves reads as long as it believes itself master."""
    patch.setattr(Group, "lease_valid", lambda self, now: self.is_master)


@mutant()
def lease_from_answer(patch: Patch) -> None:
    """The master counts its lease from when the answer came instead of when the heartbeat left."""

    def change(on_reply: Callable[..., Any]) -> Callable[..., Any]:
        def _on_reply(self: Group, message: HeartbeatReply, now: float, out: Effects) -> None:
            on_reply(self, message, now, out)
            proposer = self._roles.proposer
            if proposer is not None and message.ballot == proposer.ballot:
                proposer.lease.answered(message.sender, now)

        return _on_reply

    wrap(patch, Group, "_on_heartbeat_reply", change)


@mutant()
def lease_counts_a_minority(patch: Patch) -> None:
    """The newest answer renews the lease, however many nodes are silent."""

    def change(recount: Callable[..., Any]) -> Callable[..., Any]:
        def _recount(self: LeaseHeld, now: float) -> None:
            recount(self, now)
            self._needed = 1

        return _recount

    wrap(patch, LeaseHeld, "recount", change)


@mutant()
def lease_binds_nobody(patch: Patch) -> None:
    """A follower promises to whoever asks, though the master it has answered may still serve."""
    patch.setattr(Roles, "bound_against", lambda self, node, now: 0.0)


@mutant()
def heartbeat_does_not_bind(patch: Patch) -> None:
    """A follower that is told its master's process is gone forgets that it has answered a heartbeat."""

    def wait_for(self: Election, node: int, now: float) -> float:
        if self.master is None or self.master == node or self._master_is_gone:
            return 0.0
        return max(0.0, self.heard_at + self._config.lease - now)

    patch.setattr(Election, "wait_for", wait_for)


@mutant()
def lease_forgotten(patch: Patch) -> None:
    """A node that restarts is bound to nobody."""

    def change(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: LeaseGiven, lease: float, now: float) -> None:
            init(self, lease, now)
            self.forget(now)

        return __init__

    wrap(patch, LeaseGiven, "__init__", change)


@mutant()
def reads_before_catching_up(patch: Patch) -> None:
    """A new master serves reads before it has applied what was chosen before it."""

    def lease_valid(self: Group, now: float) -> bool:
        proposer = self._roles.proposer
        return proposer is not None and now < proposer.lease.until

    patch.setattr(Group, "lease_valid", lease_valid)


@mutant()
def late_heartbeat_renews(patch: Patch) -> None:
    """A heartbeat of a former master binds, and is answered."""

    def change(on_heartbeat: Callable[..., Any]) -> Callable[..., Any]:
        def _on_heartbeat(self: Group, message: Heartbeat, now: float, out: Effects) -> None:
            on_heartbeat(self, message, now, out)
            if not any(isinstance(answer, HeartbeatReply) for answer in out.send):
                out.send.append(
                    HeartbeatReply(self._node_id, message.sender, message.ballot, self.chosen, message.time, 1)
                )

        return _on_heartbeat

    wrap(patch, Group, "_on_heartbeat", change)


@mutant()
def get_without_lease(patch: Patch) -> None:
    """The store answers Gets as long as it may propose."""
    patch.setattr(GroupRuntime, "serving", GroupRuntime.proposing)


# ---- runtime and store ------------------------------------------------------------------------------------


@mutant()
def another_masters_entry_answers(patch: Patch) -> None:
    """A proposer is told the outcome of whatever was chosen at its instance."""

    class Anything(bytes):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    original = group_runtime._Proposal

    def proposal(payload: bytes, result: Any) -> Any:
        return original(Anything(payload), result)

    patch.setattr(group_runtime, "_Proposal", proposal)


@mutant()
def unknown_is_told_as_refused(patch: Patch) -> None:
    """An entry that may still become chosen is answered as surely not stored."""

    def change(error: Callable[..., Any]) -> Callable[..., Any]:
        def _error(self: Proposals, failure: Any) -> Any:
            return self._refuse() if failure.check(OutcomeUnknown) else error(self, failure)

        return _error

    wrap(patch, Proposals, "_error", change)


@mutant()
def retries_are_stored_again(patch: Patch) -> None:
    """The idempotence window knows nothing."""
    patch.setattr(StoreQueues, "recall", lambda self, producer_id, sequence, queue_id: None)


@mutant()
def window_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten which batches it stored."""

    def change(restore: Callable[..., Any]) -> Callable[..., Any]:
        def _restore(self: StoreQueues, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
            restore(self, state, segments)
            self.window = self.window.emptied()

        return _restore

    wrap(patch, StoreQueues, "restore", change)


@mutant()
def cursors_not_in_checkpoint(patch: Patch) -> None:
    """A node that restarts from a checkpoint has forgotten where consumers stand."""

    def change(restore: Callable[..., Any]) -> Callable[..., Any]:
        def _restore(self: StoreQueues, state: bytes, segments: Iterable[tuple[bytes, bytes]]) -> None:
            restore(self, state, segments)
            self.acked.clear()

        return _restore

    wrap(patch, StoreQueues, "restore", change)


@mutant()
def cursor_moves_not_applied(patch: Patch) -> None:
    """Acknowledgements are in the log, and nobody takes them out of it."""
    patch.setattr(StoreQueues, "_move_cursor", lambda self, move: None)


@mutant()
def cursor_moves_not_proposed(patch: Patch) -> None:
    """Acknowledgements stay in the master's memory."""
    patch.setattr(Batcher, "move", lambda self, queue_id, consumer_group_id, acked, now: None)


@mutant()
def cursor_moves_lost_with_entry(patch: Patch) -> None:
    """Acknowledgements that rode on an entry which failed are not tried again."""
    patch.setattr(Proposals, "_again", lambda self, moves: None)


@mutant()
def delivered_counts_as_acknowledged(patch: Patch) -> None:
    """What was handed out counts as done."""

    def change(deliver: Callable[..., Any]) -> Callable[..., Any]:
        def _deliver(self: Positions, key: Any, cursor: int) -> None:
            deliver(self, key, cursor)
            self.acknowledge(key, cursor, 0)

        return _deliver

    wrap(patch, Positions, "deliver", change)


@mutant()
def delivered_again_below_acked(patch: Patch) -> None:
    """A reader that starts anew gets items that its group has acknowledged."""

    def change(start: Callable[..., Any]) -> Callable[..., Any]:
        def _start(self: Positions, key: Any, wanted: int | None, acked: int, end: int) -> Any:
            position, reset = start(self, key, wanted, acked, end)
            return (position, reset) if wanted == position else (max(0, position - 10), reset)

        return _start

    wrap(patch, Positions, "start", change)


@mutant()
def positions_skip(patch: Patch) -> None:
    """A reader whose answer got lost goes on behind what it never got."""

    def start(self: Positions, key: Any, wanted: int | None, acked: int, end: int) -> tuple[int, bool]:
        delivered = self.delivered(key)
        return (acked if delivered is None else max(delivered, acked)), False

    patch.setattr(Positions, "start", start)


@mutant()
def mask_not_asked(patch: Patch) -> None:
    """A consumer group gets items that are for others."""

    def change(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: GetCall, *arguments: Any, **more: Any) -> None:
            init(self, *arguments, **more)
            self._mask = 0

        return __init__

    wrap(patch, GetCall, "__init__", change)


@mutant()
def mask_forgotten(patch: Patch) -> None:
    """The index remembers one of the groups an entry is for."""

    def change(append: Callable[..., Any]) -> Callable[..., Any]:
        def _append(self: QueueIndex, instance: int, count: int, mask: int, *rest: Any) -> None:
            append(self, instance, count, mask & -mask, *rest)

        return _append

    wrap(patch, QueueIndex, "append", change)


@mutant()
def delay_ignored(patch: Patch) -> None:
    """Items of a delayed queue are delivered at once."""

    def change(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: GetCall, *arguments: Any, **more: Any) -> None:
            init(self, *arguments, **more)
            self._delay_ms = 0

        return __init__

    wrap(patch, GetCall, "__init__", change)


def main(names: list[str], enough: int = 2, most: int = 60) -> int:
    """Look for seeds that catch each mutant: `enough` of them, among the first `most`. Return 1 when one escapes."""
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    escaped = 0
    for one in MUTANTS:
        if names and one.name not in names:
            continue
        caught: list[Outcome] = []
        tried = 0
        while tried < most and len(caught) < enough:
            outcome = one.caught_by(tried)
            tried += 1
            if outcome is not None:
                caught.append(outcome)
        print(f"{one.name}: {len(caught)} of {tried}: {[outcome.seed for outcome in caught]}")
        print(*(f"    {outcome.violation[:150]}" for outcome in caught[:2]), sep="\n", flush=True)
        escaped += not caught
    print(f"{escaped} mutants escape")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
