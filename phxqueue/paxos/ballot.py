"""Ballot numbers: ``round << 16 | node_id``, so that no two nodes ever use the same one."""

from __future__ import annotations

NODE_BITS = 16
MAX_NODE_ID = (1 << NODE_BITS) - 1

NO_BALLOT = 0
"""Below every ballot in use: rounds start at 1."""


def make_ballot(round_number: int, node_id: int) -> int:
    """The ballot of ``node_id`` in ``round_number`` (1 or more)."""
    return round_number << NODE_BITS | node_id


def node_of(ballot: int) -> int:
    """The node whose ballot this is."""
    return ballot & MAX_NODE_ID


def round_of(ballot: int) -> int:
    """The round of a ballot."""
    return ballot >> NODE_BITS


def next_ballot(above: int, node_id: int) -> int:
    """The lowest ballot of ``node_id`` whose round is above that of ``above``."""
    return make_ballot(round_of(above) + 1, node_id)
