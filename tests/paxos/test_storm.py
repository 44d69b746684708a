"""A few seeds of the storm (see storm.py); thousands are run by hand, and by the simulator on the whole node.

And the proof that it sees something: with one rule of changing members taken away, it fails.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phxqueue.paxos.config import Member
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.membership import Membership, View
from phxqueue.paxos.messages import HandOver
from phxqueue.paxos.transfer import Transfers
from tests.paxos.storm import Storm


@pytest.mark.parametrize("seeds", [range(first, first + 10) for first in range(0, 40, 10)], ids=str)
def test_nothing_is_lost_or_chosen_twice_and_all_gets_well_again(seeds: range) -> None:
    for seed in seeds:
        try:
            Storm(seed).run()
        except BaseException as failure:
            message = f"seed {seed}: python -m tests.paxos.storm {seed} --trace"
            raise AssertionError(message) from failure


Patch = pytest.MonkeyPatch


def emptied_disks_vote(patch: Patch) -> None:
    """Nobody asks on which directory a node runs, nor does it ask itself."""
    patch.setattr(Membership, "_counts", lambda self, member: True)


def emptied_disks_vote_by_themselves(patch: Patch) -> None:
    """A node on a fresh directory votes; the others go by what is on record."""

    def counts(self: Membership, member: Member) -> bool:
        other = member.node_id != self.node_id
        return not (other and member.incarnation) or member.incarnation == self.incarnation(member.node_id)

    patch.setattr(Membership, "_counts", counts)


def the_old_majority_decides(patch: Patch) -> None:
    """Votes are counted under the membership in force when the entry is proposed, whatever instance it is."""
    patch.setattr(Membership, "view_at", lambda self, instance: self.current)


def the_new_majority_decides_at_once(patch: Patch) -> None:
    """A change counts from the moment it is chosen."""

    def view_at(self: Membership, instance: int) -> View:
        return self.next or self.current

    patch.setattr(Membership, "view_at", view_at)


def a_master_that_hands_over_keeps_its_lease(patch: Patch) -> None:
    """It says that it has released everybody, and goes on counting on them."""

    def release(self: Transfers, outgoing: object, ballot: int, now: float, out: Effects) -> None:
        outgoing.released = ballot  # type: ignore[attr-defined]
        out.send.append(HandOver(self._config.node_id, outgoing.to, ballot, self._learner.delivered))  # type: ignore[attr-defined]

    patch.setattr(Transfers, "_release", release)


@pytest.mark.parametrize(
    ("mutant", "known"),
    [
        (emptied_disks_vote, 0),
        (emptied_disks_vote_by_themselves, 0),
        (the_old_majority_decides, 12),
        (the_new_majority_decides_at_once, 1),
        (a_master_that_hands_over_keeps_its_lease, 14),
    ],
)
def test_the_storm_notices(monkeypatch: Patch, mutant: Callable[[Patch], None], known: int) -> None:
    """``known`` is a seed that did when it was last looked for; others are tried when it does not any more."""
    mutant(monkeypatch)
    for seed in (known, *range(100)):
        try:
            Storm(seed).run()
        except AssertionError:
            return
    raise AssertionError(f"a hundred seeds have not noticed: {mutant.__doc__}")
