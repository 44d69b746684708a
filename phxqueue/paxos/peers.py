"""What this node knows of the other members."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class PeerStatus:
    """One other member, as far as its messages tell."""

    node_id: int
    chosen: int | None = None
    """Its chosen prefix, as last told (None: not heard since this node started). The highest value counts."""
    heard_at: float | None = None
    """When anything came from it last."""
    version: int | None = None
    """The highest command version it understands, as last told in a heartbeat or an answer to one."""
    log_first: int = 0
    """Where its log began when it last said so; it never begins lower again."""
    incomplete: bool = False
    """It got a checkpoint and lacks entries below it that are still needed: it neither leads nor teaches."""
    reluctant: bool = False
    """It would not serve if it were master now: it is stopping, or has yet to apply what it has."""
    unreachable: bool = False
    """Its connection was closed and refused, and nothing has come from it since."""

    def has(self, instance: int) -> bool:
        """Whether everything up to ``instance`` is on its disk, as far as it has told."""
        return self.chosen is not None and self.chosen >= instance


MAX_STRANGERS = 8
"""Nodes that are kept track of though they are no members here."""


class Peers:
    """All other members by node id; and nodes that are none here: a membership that this node does not know yet may
    have made them so, or they may not know yet that they are none any more.
    """

    __slots__ = ("by_node", "unreachable")

    def __init__(self, nodes: Iterable[int]) -> None:
        self.by_node = {node: PeerStatus(node) for node in nodes}
        self.unreachable: set[int] = set()

    def retain(self, nodes: Iterable[int]) -> None:
        """These are the members now, besides this node. Strangers are forgotten until they speak again."""
        former = self.by_node
        self.by_node = {node: former.get(node) or PeerStatus(node) for node in nodes}
        self.unreachable.intersection_update(self.by_node)

    def admit(self, node: int, members: int) -> bool:
        """Keep track of ``node``, which is none of the ``members`` members. Returns False if there are too many."""
        if len(self.by_node) >= members + MAX_STRANGERS:
            return False
        self.by_node[node] = PeerStatus(node)
        return True

    def renew(self, node: int) -> None:
        """``node`` runs on another directory: whatever it told is void."""
        if node in self.by_node:
            heard_at = self.by_node[node].heard_at
            self.by_node[node] = PeerStatus(node, heard_at=heard_at, unreachable=node in self.unreachable)

    def heard(self, node: int, now: float) -> PeerStatus:
        """Something came from ``node``."""
        peer = self.by_node[node]
        peer.heard_at = now
        if peer.unreachable:
            peer.unreachable = False
            self.unreachable.discard(node)
        return peer

    def lost(self, node: int) -> None:
        """The process of ``node`` is gone, as far as its connection tells."""
        self.by_node[node].unreachable = True
        self.unreachable.add(node)

    def chosen(self, node: int, chosen: int) -> None:
        """``node`` says that everything up to ``chosen`` is chosen."""
        peer = self.by_node[node]
        if peer.chosen is None or chosen > peer.chosen:
            peer.chosen = chosen
