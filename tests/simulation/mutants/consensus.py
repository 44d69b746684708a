"""Bugs of consensus itself: of acceptors, of candidates and masters, and of those that learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.paxos.entry import Entry, EntryKind
from phxqueue.paxos.inbox import Inbox
from phxqueue.paxos.learner import Learner
from phxqueue.paxos.messages import Promise
from phxqueue.paxos.phase1 import Phase1
from phxqueue.paxos.proposer import Proposer
from phxqueue.replica.learn_server import LearnServer
from tests.simulation.mutants.table import SHORT, Patch, mutant, replace, wrap


@mutant(52, profiles=SHORT)
def lower_ballot_wins(patch: Patch) -> None:
    """Phase 1 takes the value of the lowest ballot instead of the highest."""

    def _consider(self: Phase1, instance: int, entry: Entry) -> None:
        best = self._best.get(instance)
        if best is None or entry.ballot < best.ballot:
            self._best[instance] = entry

    replace(patch, Phase1, "_consider", _consider)


@mutant(0)
def promises_not_looked_at(patch: Patch) -> None:
    """A new master proposes what it likes, whatever the promises say was accepted."""
    replace(patch, Phase1, "to_propose", lambda *_, **__: [])


@mutant(84, profiles=SHORT)
def last_page_is_enough(patch: Patch) -> None:
    """A promise of several pages counts as complete with its first."""

    def change(promised: Callable[..., Any]) -> Callable[..., Any]:
        def _promised(self: Phase1, message: Promise, *more: Any) -> Any:
            message.final = True
            return promised(self, message, *more)

        return _promised

    wrap(patch, Phase1, "promised", change)


@mutant(416, 469, profiles=("short masterships",))
def gaps_left_open(patch: Patch) -> None:
    """A new master does not close gaps with no-ops."""

    def change(to_propose: Callable[..., Any]) -> Callable[..., Any]:
        def _to_propose(self: Phase1, *known: Any) -> Any:
            return [pair for pair in to_propose(self, *known) if pair[1].kind != EntryKind.NOOP]

        return _to_propose

    wrap(patch, Phase1, "to_propose", change)


@mutant(119, profiles=SHORT)
def lower_ballot_accepted(patch: Patch) -> None:
    """An acceptor takes Accepts below its promise."""

    def change(on_accept: Callable[..., Any]) -> Callable[..., Any]:
        def _on_accept(self: Inbox, message: Any, *more: Any) -> None:
            acceptor, roles = self._acceptor, self._roles
            promised, master_ballot = acceptor.promised, roles.master_ballot
            acceptor.promised = min(promised, message.ballot)
            roles.master_ballot = min(master_ballot, message.ballot)
            on_accept(self, message, *more)
            acceptor.promised = max(promised, acceptor.promised)
            roles.master_ballot = max(master_ballot, roles.master_ballot)

        return _on_accept

    wrap(patch, Inbox, "_on_accept", change)


@mutant(0)
def minority_chooses(patch: Patch) -> None:
    """The master counts a value as chosen one vote early."""

    def change(vote: Callable[..., Any]) -> Callable[..., Any]:
        def _vote(self: Proposer, bit: int, instance: int, *more: Any) -> None:
            proposal = self._proposals.get(instance)
            if proposal is not None and not proposal.voted:
                proposal.votes += 1
            vote(self, bit, instance, *more)

        return _vote

    wrap(patch, Proposer, "_vote", change)


@mutant(7)
def chosen_whatever_the_ballot(patch: Patch) -> None:
    """A follower takes what it holds as chosen because the master's mark is higher, whatever ballot it is of."""

    def mark(self: Learner, ballot: int, chosen: int) -> None:
        self.told(ballot & 0xFFFF, chosen)
        while self.known < chosen and self.known + 1 in self._acceptor.entries:
            self.known += 1

    replace(patch, Learner, "mark", mark)


@mutant(1)
def teaches_what_is_not_chosen(patch: Patch) -> None:
    """A node answers a lagging peer with everything it has accepted."""

    def change(serve: Callable[..., Any]) -> Callable[..., Any]:
        def _serve(self: LearnServer, request: Any, last: int, *more: Any) -> None:
            serve(self, request, last + 1, *more)

        return _serve

    wrap(patch, LearnServer, "serve", change)


@mutant(0)
def nobody_catches_up(patch: Patch) -> None:
    """A lagging node does not ask for what it lacks."""
    replace(patch, Learner, "ask", lambda *_, **__: None)


@mutant(2)
def nothing_is_sent_again(patch: Patch) -> None:
    """An Accept that got lost stays lost."""
    replace(patch, Proposer, "_resend", lambda *_, **__: None)
