"""Which keys a lock group serves, as its own log says, and what becomes of them while that changes. Pure.

The lock groups of a topic share its keys by their weights. If each node simply believed its configuration file, two
groups would serve one key whenever two files differ, and a lock could have two holders. So the weights are replicated
state of every Paxos group, with a generation, and change in steps that somebody drives (`phxqueue locks spread`):

1. PREPARE, everywhere: keys that will belong elsewhere are closed. Nothing about them changes any more, not even that a
   lease ends; who asks is told to come again.
2. IMPORT: what is under the closed keys is copied to the groups they go to, with its versions; those groups' own
   versions continue above all that were ever given where the keys come from, so fencing tokens still only rise.
3. COMMIT, everywhere: the new weights hold, and every lease runs its full length again.

A key is open in one group at most: where it was until the first step, where it will be after the last. Every step may
be repeated, so whoever drives may die and another go on.
"""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.lock.placement import Placement
from phxqueue.net.status import Status
from phxqueue.proto.lock_pb2 import LockShare, LockWeight, ShareChange


@dataclass(frozen=True, slots=True)
class Share:
    """The weights of all lock groups, (lock_id, scale) by rising lock_id, in one generation."""

    generation: int
    weights: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, message: LockShare) -> Share:
        return cls(message.generation, tuple(sorted((one.lock_id, one.scale) for one in message.weights)))

    def message(self) -> LockShare:
        weights = [LockWeight(lock_id=lock_id, scale=scale) for lock_id, scale in self.weights]
        return LockShare(generation=self.generation, weights=weights)

    def __str__(self) -> str:
        return ", ".join(f"{lock_id}={scale}" for lock_id, scale in self.weights)


@dataclass(frozen=True, slots=True)
class Shares:
    """The share that holds and the one that is being prepared; None: there is none."""

    share: Share | None = None
    moving: Share | None = None

    def changed(self, change: ShareChange) -> tuple[Status, Shares]:
        """What a step makes of them: OK (also when it is done already), or VERSION_MISMATCH and nothing has changed."""
        steps, new, generation = ShareChange.Step, Share.of(change.share), change.share.generation
        done = self.share is not None and self.share.generation == generation
        prepared = self.moving is not None and self.moving.generation == generation
        if change.step == steps.ADOPT:
            if self.share is None:
                return Status.OK, Shares(new)
            return (Status.OK if self.share == new else Status.VERSION_MISMATCH), self
        if self.share is None:
            return Status.VERSION_MISMATCH, self
        if change.step == steps.PREPARE:
            if self.share == new or self.moving == new:
                return Status.OK, self
            if self.moving is None and generation == self.share.generation + 1:
                return Status.OK, Shares(self.share, new)
        elif change.step == steps.IMPORT:
            return (Status.OK if done or prepared else Status.VERSION_MISMATCH), self
        elif change.step == steps.COMMIT:
            if prepared:
                return Status.OK, Shares(self.moving)
            return (Status.OK if done else Status.VERSION_MISMATCH), self
        elif change.step == steps.ABANDON and not done:
            return Status.OK, Shares(self.share, None if prepared else self.moving)
        return Status.VERSION_MISMATCH, self


class Territory:
    """Where keys are, seen from one lock group."""

    def __init__(self, lock_id: int, shares: Shares) -> None:
        self.shares = shares
        self._lock_id = lock_id
        self._now = None if shares.share is None else Placement(shares.share.weights)
        self._then = None if shares.moving is None else Placement(shares.moving.weights)

    def owner(self, key: str) -> int | None:
        """The lock group of a key by the share that holds; None: none."""
        return None if self._now is None else self._now.lock_id(key)

    def leaves_to(self, key: str) -> int | None:
        """Where a key of ours is moving; None: it is not, or it is none of ours."""
        if self._then is None or self.owner(key) != self._lock_id:
            return None
        target = self._then.lock_id(key)
        return None if target == self._lock_id else target

    def is_open(self, key: str) -> bool:
        """Whether the key is served here."""
        return self.owner(key) == self._lock_id and self.leaves_to(key) is None
