"""Keeps a consumer process to its limits, and wakes who waits for them.

A gate stands before the items of one kind (pub, consumer group, handle_id, queue_info); it opens when nothing has
paused them and each limit that counts them has a token left. Limits may change at any time: gates stay, and look again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from phxqueue.consumer.limits import Limit, Share, Throttle
from phxqueue.consumer.lineup import Gate
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.token_bucket import CHUNK_S, TokenBucket

Kind = tuple[int, int, int, int]
"""(pub_id, consumer_group_id, handle_id, queue_info_id)"""

#: Gates that are remembered. An item of yet another kind has one of its own, which knows the same limits.
MAX_KINDS = 10_000


class Waiter(Protocol):
    """Somebody whose items are held back."""

    def pump(self) -> None:
        """Some of them may go on now."""

    def held_by_gate(self) -> Iterator[tuple[Gate, int]]:
        """How many of them each gate holds back."""


@dataclass(slots=True)
class Use:
    """What became of the items that a limit counts.

    Attributes:
        taken: let through, ever.
        held: waiting now for nothing but their limits.
        rate: allowed, items per second.
    """

    taken: int
    held: int
    rate: float


class _KindGate:
    """The gate of one kind of items."""

    __slots__ = ("_buckets", "_epoch", "_kind", "_open", "_speed")

    def __init__(self, speed: Speed, kind: Kind) -> None:
        self._speed = speed
        self._kind = kind
        self._epoch = -1
        self._open = True
        self._buckets: list[TokenBucket] = []

    def look(self) -> bool:
        """Whether it may hold anything back, by what is configured now."""
        if self._epoch != self._speed.epoch:
            self._epoch = self._speed.epoch
            self._open, self._buckets = self._speed.rules(self._kind)
        return bool(self._buckets) or not self._open

    @property
    def counted_by(self) -> list[TokenBucket]:
        """The buckets that its items wait for; none while they are paused."""
        return self._buckets if self.look() and self._open else []

    def admit(self) -> bool:
        """See lineup.Gate."""
        if not self.look():
            return True
        if not self._open:
            return False
        now = self._speed.clock.seconds()
        for bucket in self._buckets:
            if not bucket.has(now):
                self._speed.short.add(bucket)
                return False
        for bucket in self._buckets:
            bucket.take()
        return True


class Speed:
    """The limits of one process.

    Args:
        share: what part of a limit is ours; asked whenever `configure` or `refresh` is called.

    Attributes:
        epoch: rises with every change.
        short: buckets that had no token left when they were asked since the last look.
    """

    def __init__(self, clock: IReactorTime, share: Share) -> None:
        self.clock = clock
        self.epoch = 0
        self.short: set[TokenBucket] = set()
        self.share = share
        self._throttle = Throttle()
        self._buckets: dict[Limit, TokenBucket] = {}
        self._gates: dict[Kind, _KindGate] = {}
        self._waiting: dict[Waiter, None] = {}
        self._call: IDelayedCall | None = None
        self._call_at = 0.0
        self._waking = False
        self._turn = 0

    @property
    def throttle(self) -> Throttle:
        """What is in force."""
        return self._throttle

    def configure(self, throttle: Throttle) -> None:
        """Other limits from now on. What is held back looks again."""
        self._throttle = throttle
        self.refresh()

    def refresh(self) -> None:
        """Our shares may have changed."""
        now = self.clock.seconds()
        buckets: dict[Limit, TokenBucket] = {}
        for limit in self._throttle.limits:
            rate = limit.per_minute / 60 * self.share(limit)
            bucket = self._buckets.get(limit)
            if bucket is None:
                bucket = TokenBucket(rate, now)
            else:
                bucket.change(rate, now)
            buckets[limit] = bucket
        self._buckets = buckets
        self.epoch += 1
        self.short.clear()
        if self._waiting:
            self._wake_in(0.0)

    def use(self) -> dict[Limit, Use]:
        """How each limit is being used."""
        found = {bucket: Use(bucket.taken, 0, bucket.rate) for bucket in self._buckets.values()}
        for waiter in self._waiting:
            for gate, held in waiter.held_by_gate():
                for bucket in gate.counted_by if isinstance(gate, _KindGate) else ():
                    found[bucket].held += held
        return {limit: found[bucket] for limit, bucket in self._buckets.items()}

    def rules(self, kind: Kind) -> tuple[bool, list[TokenBucket]]:
        """Whether items of a kind are let through at all, and which buckets they cost a token."""
        pub_id, group_id, _, _ = kind
        paused = (group_id, pub_id) in self._throttle.paused
        return not paused, [bucket for limit, bucket in self._buckets.items() if limit.matches(*kind)]

    def is_paused(self, consumer_group_id: int, pub_id: int) -> bool:
        """Whether items of a pub wait altogether."""
        return (consumer_group_id, pub_id) in self._throttle.paused

    def gate(self, consumer_group_id: int, queue_info_id: int) -> Callable[[Slot], Gate | None]:
        """The gates before the items of a queue."""
        gates = self._gates

        def gate_of(slot: Slot) -> Gate | None:
            throttle = self._throttle
            if (not throttle.limits and not throttle.paused) or slot.unreadable:
                return None
            message = slot.message
            meta = message.meta
            kind = (message.pub_id or meta.pub_id or slot.pub_id, consumer_group_id, meta.handle_id, queue_info_id)
            gate = gates.get(kind)
            if gate is None:
                gate = _KindGate(self, kind)
                if len(gates) < MAX_KINDS:
                    gates[kind] = gate
            return gate if gate.look() else None

        return gate_of

    def wait(self, waiter: Waiter) -> None:
        """Have somebody pump again when there may be tokens for him."""
        self._waiting[waiter] = None
        if not self._waking:
            self._wake_later()

    def leave(self, waiter: Waiter) -> None:
        """Nobody waits there any more."""
        self._waiting.pop(waiter, None)
        if not self._waiting and self._call is not None:
            self._call.cancel()
            self._call = None

    def _wake_later(self) -> None:
        now = self.clock.seconds()
        wait_s = min((bucket.wait(now) for bucket in self.short), default=math.inf)
        if wait_s < math.inf:
            self._wake_in(max(wait_s, CHUNK_S))

    def _wake_in(self, seconds: float) -> None:
        when = self.clock.seconds() + seconds
        if self._call is not None:
            if self._call_at <= when:
                return
            self._call.cancel()
        self._call_at = when
        self._call = self.clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        """Give everybody a chance, each time another one first."""
        self._call = None
        self.short.clear()
        waiting, self._waiting = list(self._waiting), {}
        self._turn += 1
        first = self._turn % len(waiting) if waiting else 0
        self._waking = True
        try:
            for waiter in waiting[first:] + waiting[:first]:
                waiter.pump()
        finally:
            self._waking = False
        if self._waiting:
            self._wake_later()
