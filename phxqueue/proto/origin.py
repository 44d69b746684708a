"""What the items of a batch are: BatchHeader.origin. Stores add them up; part of the wire protocol."""

from __future__ import annotations

import enum


class Origin(enum.IntEnum):
    """Where items come from. A batch that is not of new items is for one consumer group."""

    NEW = 0
    RETRIED = 1  # the next attempt of an item
    DEAD = 2  # a dead letter
    EXPIRED = 3  # a dead letter that is one because its time had passed
    REQUEUED = 4  # a dead letter that begins anew
