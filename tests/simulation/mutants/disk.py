"""Bugs around the disk: what is told too early, forgotten at a restart, or not noticed when it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phxqueue.paxos.acceptor import Acceptor
from phxqueue.paxos.config import Restored
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.messages import Accepted, Prepare, Promise
from phxqueue.paxos.proposer import Proposer
from phxqueue.paxos.repair import Repairs
from phxqueue.replica import node
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.store.queues import StoreQueues
from tests.simulation.mutants.table import SHORT, Patch, mutant, replace, wrap


def send_at_once(patch: Patch, message_class: type) -> None:
    """Let messages of one class leave without waiting for the disk."""

    def change(persist: Callable[..., Any]) -> Callable[..., Any]:
        def _persist(self: GroupRuntime, effects: Effects, *more: Any) -> None:
            hasty = [message for message in effects.send_after if isinstance(message, message_class)]
            effects.send_after = [message for message in effects.send_after if message not in hasty]
            effects.send.extend(hasty)
            persist(self, effects, *more)

        return _persist

    wrap(patch, GroupRuntime, "_persist", change)


@mutant(0)
def accepted_before_durable(patch: Patch) -> None:
    """An acceptor answers an Accept before the entry is on its disk."""
    send_at_once(patch, Accepted)


@mutant(0)
def promise_before_durable(patch: Patch) -> None:
    """An acceptor answers a Prepare before the promise is on its disk."""
    send_at_once(patch, Promise)


@mutant(0)
def prepare_before_durable(patch: Patch) -> None:
    """A candidate asks for promises at a ballot that it may forget, and use a second time."""
    send_at_once(patch, Prepare)


@mutant(0)
def own_accept_counts_at_once(patch: Patch) -> None:
    """The master counts its own vote before its disk has it."""

    def change(start: Callable[..., Any]) -> Callable[..., Any]:
        def _start(self: Proposer, instance: int, *arguments: Any) -> None:
            start(self, instance, *arguments)
            self.own_durable([instance])

        return _start

    wrap(patch, Proposer, "_start", change)


@mutant(0)
def applied_before_durable(patch: Patch) -> None:
    """A node applies what is chosen before its own disk has it."""
    replace(patch, Acceptor, "is_durable", lambda self, instance: instance in self.entries)


def restore_without(patch: Patch, **forgotten: Any) -> None:
    """Let a node restart without something that its disk holds."""

    def restored(**fields: Any) -> Restored:
        return Restored(**{**fields, **forgotten})

    patch.setattr(node, "Restored", restored)


@mutant(124, profiles=("crashing at commits", "everything", *SHORT))
def promise_forgotten(patch: Patch) -> None:
    """A node comes back without its promise."""
    restore_without(patch, promised=0)


@mutant(4)
def accepts_forgotten(patch: Patch) -> None:
    """A node comes back without what it accepted and did not know to be chosen."""
    restore_without(patch, entries={})


@mutant(61, profiles=("bit rot",))
def damaged_entry_believed(patch: Patch) -> None:
    """Checksums are not looked at."""
    replace(patch, Entry, "valid", lambda *_, **__: True)


@mutant(93, profiles=("bit rot",))
def damaged_entry_not_repaired(patch: Patch) -> None:
    """Nobody asks the peers for what the own disk has spoilt."""
    replace(patch, Repairs, "want", lambda *_, **__: None)


@mutant(0)
def segments_not_stored(patch: Patch) -> None:
    """A checkpoint refers to segments that were never written."""

    def change(checkpoint: Callable[..., Any]) -> Callable[..., Any]:
        def _checkpoint(self: StoreQueues, *arguments: Any) -> Any:
            made = checkpoint(self, *arguments)
            return type(made)(applied=made.applied, state=made.state, segments=[])

        return _checkpoint

    wrap(patch, StoreQueues, "checkpoint", change)
