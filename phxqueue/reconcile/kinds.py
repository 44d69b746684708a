"""What an item is in the books. Pure."""

from __future__ import annotations

import enum

from phxqueue.config import DEAD_LETTER_BASE
from phxqueue.proto.origin import Origin


class Kind(enum.IntEnum):
    """Kinds of stored items: dead letters are what lies in a dead-letter queue, the others will be delivered."""

    NEW = 0
    RETRIED = 1
    DEAD = 2
    EXPIRED = 3
    REQUEUED = 4


KINDS = len(Kind)

_DELIVERED = {Origin.RETRIED: Kind.RETRIED, Origin.REQUEUED: Kind.REQUEUED}


def kind_of(queue_id: int, origin: int) -> Kind:
    """The kind of a batch, from its header."""
    if queue_id >= DEAD_LETTER_BASE:
        return Kind.EXPIRED if origin == Origin.EXPIRED else Kind.DEAD
    return _DELIVERED.get(Origin(origin), Kind.NEW) if origin in _DELIVERED else Kind.NEW


def groups_of(mask: int) -> list[int]:
    """The consumer groups of a mask."""
    found = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length())
        mask ^= low
    return found
