"""Bugs of the lease: masters that count on more than they were given, and followers that forget what they gave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.paxos.election import Election
from phxqueue.paxos.group import Group
from phxqueue.paxos.inbox import Inbox
from phxqueue.paxos.lease import LeaseGiven, LeaseHeld
from phxqueue.paxos.messages import Accept, HandOver, Heartbeat, HeartbeatReply
from phxqueue.paxos.roles import Roles
from phxqueue.replica.group_runtime import GroupRuntime
from tests.simulation.mutants.table import SHORT, Patch, mutant, replace, wrap


@mutant(7)
def lease_never_ends(patch: Patch) -> None:
    """A master serves reads as long as it believes itself master."""
    replace(patch, Group, "lease_valid", lambda self, now: self.is_master)


@mutant(230, profiles=("late", "everything", "pausing"))
def lease_from_answer(patch: Patch) -> None:
    """The master counts its lease from when the answer came instead of when the heartbeat left."""

    def change(on_reply: Callable[..., Any]) -> Callable[..., Any]:
        def _on_reply(self: Inbox, message: HeartbeatReply, now: float, *more: Any) -> None:
            on_reply(self, message, now, *more)
            proposer = self._roles.proposer
            if proposer is not None and message.ballot == proposer.ballot:
                proposer.lease.answered(message.sender, now)

        return _on_reply

    wrap(patch, Inbox, "_on_heartbeat_reply", change)


@mutant(288, profiles=SHORT, nodes=5)
def lease_counts_a_minority(patch: Patch) -> None:
    """The newest answer renews the lease, however many nodes are silent."""

    def change(recount: Callable[..., Any]) -> Callable[..., Any]:
        def _recount(self: LeaseHeld, *arguments: Any) -> None:
            recount(self, *arguments)
            self._needed = 1

        return _recount

    wrap(patch, LeaseHeld, "recount", change)


@mutant(4)
def lease_binds_nobody(patch: Patch) -> None:
    """A follower promises to whoever asks, though the master it has answered may still serve."""
    replace(patch, Roles, "bound_against", lambda *_, **__: 0.0)


@mutant(150, profiles=("racks",))
def heartbeat_does_not_bind(patch: Patch) -> None:
    """A follower that is told its master's process is gone forgets that it has answered a heartbeat."""

    def wait_for(self: Election, node: int, now: float) -> float:
        if self.master is None or self.master == node or self._master_is_gone:
            return 0.0
        return max(0.0, self.heard_at + self._config.lease - now)

    replace(patch, Election, "wait_for", wait_for)


@mutant(234, profiles=("racks",))
def lease_forgotten(patch: Patch) -> None:
    """A node that restarts is bound to nobody."""

    def change(init: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(self: LeaseGiven, lease: float, now: float, *more: Any) -> None:
            init(self, lease, now, *more)
            self.forget(now)

        return __init__

    wrap(patch, LeaseGiven, "__init__", change)


@mutant(13, profiles=("late", *SHORT))
def reads_before_catching_up(patch: Patch) -> None:
    """A new master serves reads before it has applied what was chosen before it."""

    def lease_valid(self: Group, now: float) -> bool:
        proposer = self._roles.proposer
        return proposer is not None and now < proposer.lease.until

    replace(patch, Group, "lease_valid", lease_valid)


@mutant(435, profiles=("partitioned", "partitioned and crashing", *SHORT))
def late_heartbeat_renews(patch: Patch) -> None:
    """A heartbeat of a former master binds, and is answered; nothing tells it that it is one no longer."""

    def change(heard: Callable[..., Any]) -> Callable[..., Any]:
        def _heard_master(self: Inbox, message: Accept | Heartbeat | HandOver, *more: Any) -> Any:
            if message.ballot < self._roles.floor:
                return isinstance(message, Heartbeat)
            return heard(self, message, *more)

        return _heard_master

    wrap(patch, Inbox, "_heard_master", change)


@mutant(3)
def get_without_lease(patch: Patch) -> None:
    """The store answers Gets as long as it may propose."""
    replace(patch, GroupRuntime, "serving", GroupRuntime.proposing)
