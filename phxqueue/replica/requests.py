"""What an operator has asked of one group and waits for: a change of its members, a transfer of its mastership."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail

from phxqueue.paxos.config import Member
from phxqueue.paxos.effects import (
    ChangeVoid,
    Effects,
    LostMaster,
    MastershipTransferred,
    MembershipEffective,
    TransferFailed,
)
from phxqueue.paxos.errors import ChangeRefused, NotMaster, TransferRefused, WindowFull
from phxqueue.paxos.group import Group
from phxqueue.replica.errors import NotServing, OutcomeUnknown, Overloaded, Refused
from phxqueue.replica.interfaces import Clock


@dataclass(slots=True)
class _Change:
    instance: int
    members: tuple[Member, ...]
    done: Deferred[None]


@dataclass(slots=True)
class _Transfer:
    to: int
    since: float
    done: Deferred[float]


class Requests:
    """At most one change and one transfer at a time: the core refuses a second one. Feed it the core's events.

    Args:
        drive: carries out what the core answers.
    """

    def __init__(self, core: Group, clock: Clock, drive: Callable[[Callable[[float], Effects]], None]) -> None:
        self._core = core
        self._name = f"group {core.config.group_id}"
        self._clock = clock
        self._drive = drive
        self._change: _Change | None = None
        self._transfer: _Transfer | None = None

    def change(self, members: tuple[Member, ...]) -> Deferred[None]:
        """Make these the members; fires when they are in force.

        Fails with NotServing, Overloaded or Refused (nothing was proposed, or another change came first) or
        OutcomeUnknown (mastership was lost meanwhile).
        """
        try:
            instance, effects = self._core.change_members(members, self._clock.seconds())
        except NotMaster as error:
            return fail(NotServing(str(error)))
        except WindowFull as full:
            return fail(Overloaded(str(full)))
        except ChangeRefused as refused:
            return fail(Refused(str(refused), temporary=refused.temporary))
        wanted = tuple(sorted(members, key=lambda member: member.node_id))
        change = self._change = _Change(instance, wanted, Deferred())
        self._drive(lambda now: effects)
        return change.done

    def transfer(self, to: int) -> Deferred[float]:
        """Hand the mastership to a node; fires with the seconds it took when that is master.

        Fails with NotServing or Refused: this node is still the master, or stands again.
        """
        now = self._clock.seconds()
        try:
            effects = self._core.transfer(to, now)
        except NotMaster as error:
            return fail(NotServing(str(error)))
        except TransferRefused as refused:
            return fail(Refused(str(refused), temporary=True))
        transfer = self._transfer = _Transfer(to, now, Deferred())
        self._drive(lambda now: effects)
        return transfer.done

    def handle(self, event: object) -> None:
        """Take one event of the core."""
        change = self._change
        if change is not None:
            if isinstance(event, MembershipEffective) and event.members == change.members:
                self._change = None
                change.done.callback(None)
            elif isinstance(event, ChangeVoid) and event.instance == change.instance:
                self._fail_change(Refused(f"{self._name}: another change came first", temporary=True))
            elif isinstance(event, LostMaster):
                self._fail_change(OutcomeUnknown(f"{self._name}: this node lost mastership before it was in force"))
        transfer = self._transfer
        if transfer is not None:
            if isinstance(event, MastershipTransferred):
                self._transfer = None
                transfer.done.callback(self._clock.seconds() - transfer.since)
            elif isinstance(event, TransferFailed):
                self._fail_transfer(f"{self._name}: node {event.to} did not become master: {event.reason}")

    def close(self, reason: str) -> None:
        """The outcome of what is under way is unknown."""
        self._fail_change(OutcomeUnknown(f"{self._name}: {reason}"))
        self._fail_transfer(f"{self._name}: {reason}")

    def _fail_change(self, error: Refused | OutcomeUnknown) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.done.errback(error)

    def _fail_transfer(self, reason: str) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.done.errback(Refused(reason, temporary=True))
