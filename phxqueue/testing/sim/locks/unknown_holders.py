"""Who held locks of a lock group when it was lost, and is in no backup: each believes until his lease has run out."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from phxqueue.proto.lock_pb2 import LockRestored
from phxqueue.testing.sim.locks.contenders import DRIFT
from phxqueue.testing.sim.locks.exclusion import Exclusion

FENCE = 1 << 61
"""Everything that was given before the restore is below."""
LEASE = 2.0
"""The longest lease there was, in seconds: for so long nothing is granted."""
RESTORED = LockRestored(above_version=FENCE, quarantine_ms=int(LEASE * 1000))


def believe(exclusion: Exclusion, names: Iterable[str], random: Random) -> None:
    """Each lock was granted, or renewed, at the very moment the group was lost; its nodes start again at once."""
    for name in names:
        until = LEASE * (1 - DRIFT) / random.uniform(0.99, 1.01)
        exclusion.holds(name, "in no backup", FENCE - 1, 0, until)
