"""Bugs of changing members and of handing the mastership over: who counts, from when on, and on which disk."""

from __future__ import annotations

from typing import Any

from phxqueue.paxos.effects import Effects
from phxqueue.paxos.membership import Membership, View
from phxqueue.paxos.messages import HandOver
from phxqueue.paxos.proposer import Proposer
from phxqueue.paxos.transfer import Transfers
from tests.simulation.mutants.table import Patch, mutant, replace


@mutant(29, profiles=("emptied disks",))
def emptied_disk_votes(patch: Patch) -> None:
    """A node on an empty directory votes as if it remembered what it promised, and all count it."""
    replace(patch, Membership, "_counts", lambda self, member: True)


@mutant(81, profiles=("members",))
def whoever_answers_counts(patch: Patch) -> None:
    """The accepts of learners, and of nodes that were removed, count."""

    def _vote(self: Proposer, bit: int, instance: int) -> None:
        proposal = self._proposals.get(instance)
        if proposal is None or proposal.voted & bit:
            return
        proposal.voted |= bit
        proposal.votes += 1
        if proposal.votes >= proposal.view.quorum:
            del self._proposals[instance]
            self._learner.chosen_by_majority(instance)

    replace(patch, Proposer, "_vote", _vote)
    replace(patch, Membership, "votes_at", lambda self, instance: True)


@mutant(81, profiles=("members",))
def change_in_force_at_once(patch: Patch) -> None:
    """A change counts from the moment it is chosen."""

    def view_at(self: Membership, instance: int) -> View:
        return self.next or self.current

    replace(patch, Membership, "view_at", view_at)


@mutant(207, profiles=("members",))
def old_majority_decides(patch: Patch) -> None:
    """Votes are counted under the membership in force when the entry is proposed, whatever instance it is."""
    replace(patch, Membership, "view_at", lambda self, instance: self.current)


@mutant(6, profiles=("rolling restarts",))
def lease_kept_at_hand_over(patch: Patch) -> None:
    """A master that hands over says that it has released everybody, and goes on counting on them."""

    def _release(self: Transfers, outgoing: Any, ballot: int, now: float, out: Effects) -> None:
        outgoing.released = ballot
        out.send.append(HandOver(self._config.node_id, outgoing.to, ballot, self._learner.delivered))

    replace(patch, Transfers, "_release", _release)
