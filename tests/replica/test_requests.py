"""What an operator waits for ends in exactly one way."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.paxos.config import GroupConfig, Member
from phxqueue.paxos.effects import (
    ChangeVoid,
    Effects,
    LostMaster,
    MastershipTransferred,
    MembershipChanged,
    MembershipEffective,
    TransferFailed,
)
from phxqueue.paxos.errors import ChangeRefused, NotMaster, PaxosError, TransferRefused, WindowFull
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded, Refused, ReplicaError
from phxqueue.replica.requests import Requests
from tests.replica.fakes import outcome

MEMBERS = (Member(0), Member(1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Core:
    """Proposes at instance 7, and transfers, unless it is told to refuse."""

    def __init__(self) -> None:
        self.config = GroupConfig(group_id=3, node_id=0, members=MEMBERS)
        self.raises: Exception | None = None
        self.effects = Effects()

    def change_members(self, members: tuple[Member, ...], now: float) -> tuple[int, Effects]:
        return 7, self.transfer(1, now)

    def transfer(self, to: int, now: float) -> Effects:
        if self.raises is not None:
            raise self.raises
        return self.effects


class Driven(Requests):
    def __init__(self, core: Any, clock: Clock) -> None:
        self.core = core
        self.carried_out: list[Effects] = []
        super().__init__(core, clock, lambda step: self.carried_out.append(step(0.0)))


@pytest.fixture
def requests(clock: Clock) -> Driven:
    return Driven(Core(), clock)


def lost() -> LostMaster:
    return LostMaster(ballot=1, reason="deposed")


def test_a_change_is_done_when_it_is_in_force(requests: Driven) -> None:
    done: list[Any] = []
    requests.change(MEMBERS).addCallback(done.append)
    requests.handle(MembershipChanged(instance=7, effective=71, members=MEMBERS))
    requests.handle(MembershipEffective(members=(Member(0),)))
    assert done == []
    requests.handle(MembershipEffective(members=MEMBERS))
    assert done == [None]
    requests.handle(lost())


def test_a_change_that_another_one_overtook_may_be_asked_for_again(requests: Driven) -> None:
    change = requests.change(MEMBERS)
    requests.handle(ChangeVoid(instance=6))
    assert outcome(change) is None
    requests.handle(ChangeVoid(instance=7))
    error = outcome(change)
    assert isinstance(error, Refused)
    assert error.temporary


def test_a_change_under_way_when_mastership_is_lost_is_unknown(requests: Driven) -> None:
    change = requests.change(MEMBERS)
    requests.handle(lost())
    assert isinstance(outcome(change), OutcomeUnknown)


def test_a_transfer_outlives_the_loss_of_mastership_which_is_a_part_of_it(requests: Driven, clock: Clock) -> None:
    transfer = requests.transfer(1)
    requests.handle(lost())
    clock.advance(0.25)
    assert outcome(transfer) is None
    requests.handle(MastershipTransferred(to=1))
    assert outcome(transfer) == 0.25


def test_a_transfer_that_failed_says_why(requests: Driven) -> None:
    transfer = requests.transfer(1)
    requests.handle(TransferFailed(to=1, reason="too slow"))
    assert str(outcome(transfer)) == "group 3: node 1 did not become master: too slow"


def test_nobody_waits_for_a_node_that_ends(requests: Driven) -> None:
    change, transfer = requests.change(MEMBERS), requests.transfer(1)
    requests.close("this node is shutting down")
    assert isinstance(outcome(change), OutcomeUnknown)
    assert isinstance(outcome(transfer), Refused)
    requests.handle(MembershipEffective(members=MEMBERS))
    requests.handle(MastershipTransferred(to=1))


def test_what_the_core_proposes_is_carried_out_and_members_are_told_apart_in_any_order(requests: Driven) -> None:
    change = requests.change((Member(1), Member(0)))
    assert requests.carried_out == [requests.core.effects]
    requests.handle(MembershipEffective(members=MEMBERS))
    assert change.called


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (NotMaster(3, None), NotServing),
        (WindowFull(3, 1, 1), Overloaded),
        (ChangeRefused(3, "not so"), Refused),
    ],
)
def test_what_the_core_refuses_to_change(requests: Driven, raised: PaxosError, told: type[ReplicaError]) -> None:
    requests.core.raises = raised
    assert type(outcome(requests.change(MEMBERS))) is told
    assert requests.carried_out == []


def test_whether_asking_again_helps_is_handed_on(requests: Driven) -> None:
    requests.core.raises = ChangeRefused(3, "wait", temporary=True)
    assert outcome(requests.change(MEMBERS)).temporary
    requests.core.raises = ChangeRefused(3, "never")
    assert not outcome(requests.change(MEMBERS)).temporary


@pytest.mark.parametrize(("raised", "told"), [(NotMaster(3, 1), NotServing), (TransferRefused(3, "no"), Refused)])
def test_what_the_core_refuses_to_transfer(requests: Driven, raised: PaxosError, told: type[ReplicaError]) -> None:
    requests.core.raises = raised
    assert type(outcome(requests.transfer(1))) is told
