"""Who of the configured consumers lives, and the weight of each. Pure, time passed in.

A consumer lives while it reports. One that says good-bye keeps its weight for a grace time, so that a restart moves
nothing; one that just falls silent keeps it for `keep_time`. A master that is new knows nobody: it answers nothing
until everyone who lives has had the time to report (or everyone there can be has reported), and takes over the weights
that they report, so that a change of master moves nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from phxqueue.scheduler.balance import BalanceRule, Share, most, next_weights
from phxqueue.scheduler.load import Report, SmoothedLoad


@dataclass(frozen=True, slots=True, kw_only=True)
class RollRule:
    """Times in seconds.

    Attributes:
        keep_time: silence after which a consumer counts as dead.
        grace: how long one that said good-bye is waited for.
        warm_up: from the start of mastership until weights are answered, unless every consumer has reported before.
        balance_interval: between two looks at the loads.
        use_init_weight: weights are the configured ones; only death and return change anything.
        load_sticky, use_slots: see SmoothedLoad.
        balance: when weights move.
    """

    keep_time: float = 5.0
    grace: float = 3.0
    warm_up: float = 6.0
    balance_interval: float = 10.0
    use_init_weight: bool = False
    load_sticky: float = 5.0
    use_slots: bool = False
    balance: BalanceRule = field(default_factory=BalanceRule)


class _Consumer:
    """One consumer of the roll."""

    def __init__(self, scale: int, rule: RollRule) -> None:
        self.scale = scale
        self.weight = 0
        self.alive = False
        self.last: Report | None = None
        self.last_at = 0.0
        self.silent_at = 0.0  # when it counts as dead, unless it is heard before
        self.load = SmoothedLoad(rule.load_sticky, rule.use_slots)


@dataclass(frozen=True, slots=True)
class Row:
    """One consumer of the roll, as others see it.

    Attributes:
        load: smoothed, in percent; None: it has not reported.
        last: its last report, `silent_s` ago; None: there is none.
    """

    name: str
    scale: int
    weight: int
    alive: bool
    load: float | None
    last: Report | None
    silent_s: float


class UnknownConsumer(Exception):
    """Somebody reports whom the configuration does not name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"consumer {name} is not in consumerconfig.conf of this scheduler; add it there, or reload")


class Roll:
    """The consumers of one topic, as the master of the schedulers sees them.

    Args:
        scales: configured weight by name of the consumer.
        now: when mastership began, in seconds of any monotonic clock.

    Attributes:
        version: rises with every change of the weights; 0: none yet.
    """

    def __init__(self, scales: Mapping[str, int], rule: RollRule, now: float) -> None:
        self.version = 0
        self._rule = rule
        self._warm_at = now + rule.warm_up
        self._balance_at = self._warm_at + rule.balance_interval
        self._consumers: dict[str, _Consumer] = {}
        self.reconfigure(scales)

    @property
    def warm(self) -> bool:
        """Whether there are weights."""
        return self.version > 0

    def weights(self) -> dict[str, int]:
        """The weight of every configured consumer; 0: it gets nothing. Empty while nothing is known yet."""
        return {name: consumer.weight for name, consumer in self._consumers.items()} if self.warm else {}

    def loads(self) -> dict[str, float | None]:
        """The smoothed load of every live consumer, in percent."""
        return {name: consumer.load.shown for name, consumer in self._consumers.items() if consumer.alive}

    def rows(self, now: float) -> list[Row]:
        """Every configured consumer, by name."""
        weights = self.weights()
        return [
            Row(
                name, one.scale, weights.get(name, 0), one.alive, one.load.shown if one.alive else None, one.last,
                now - one.last_at,
            )
            for name, one in sorted(self._consumers.items())
        ]  # fmt: skip

    def reconfigure(self, scales: Mapping[str, int]) -> None:
        """Follow the configuration. Weights that it changes are in force at once."""
        before = self.weights()
        for name in self._consumers.keys() - scales.keys():
            del self._consumers[name]
        for name, scale in scales.items():
            consumer = self._consumers.get(name)
            if consumer is None:
                self._consumers[name] = _Consumer(scale, self._rule)
            elif consumer.scale != scale:
                consumer.scale = scale
                consumer.weight = scale if consumer.alive else 0
        self._changed_from(before)

    def report(self, name: str, report: Report, now: float) -> None:
        """Somebody reports. Raises UnknownConsumer."""
        consumer = self._find(name)
        before = self.weights()
        if not consumer.alive:
            consumer.alive = True
            consumer.load = SmoothedLoad(self._rule.load_sticky, self._rule.use_slots)
            consumer.weight = consumer.scale if self.warm else self._adopted(consumer, report)
        consumer.silent_at = now + self._rule.keep_time
        consumer.last, consumer.last_at = report, now
        consumer.load.add(report)
        self._changed_from(before)

    def leave(self, name: str, now: float) -> None:
        """Somebody says good-bye; perhaps it restarts. Raises UnknownConsumer."""
        consumer = self._find(name)
        consumer.silent_at = min(consumer.silent_at, now + self._rule.grace)

    def next_deadline(self) -> float | None:
        """When `advance` has something to do at the latest; None: not before somebody reports."""
        if not self.warm:
            return self._warm_at if self._someone_lives else None
        due = [consumer.silent_at for consumer in self._consumers.values() if consumer.alive]
        return min([*due, self._balance_at], default=None)

    def advance(self, now: float) -> None:
        """Let time pass: warm-up ends, the silent die, loads are looked at."""
        before = self.weights()
        for consumer in self._consumers.values():
            if consumer.alive and consumer.silent_at <= now:
                consumer.alive = False
                consumer.weight = 0
        if not self.warm:
            if self._everyone_lives or (now >= self._warm_at and self._someone_lives):
                self.version = 1
            return
        if now >= self._balance_at:
            self._balance_at = now + self._rule.balance_interval
            if not self._rule.use_init_weight:
                self._balance()
        self._changed_from(before)

    # ---- inside ------------------------------------------------------------------------

    @property
    def _someone_lives(self) -> bool:
        return any(consumer.alive for consumer in self._consumers.values())

    @property
    def _everyone_lives(self) -> bool:
        return self._someone_lives and all(consumer.alive for consumer in self._consumers.values())

    def _find(self, name: str) -> _Consumer:
        consumer = self._consumers.get(name)
        if consumer is None:
            raise UnknownConsumer(name)
        return consumer

    def _adopted(self, consumer: _Consumer, report: Report) -> int:
        """The weight of somebody first heard while warming up: the one that the last master gave it, within bounds."""
        if report.weight <= 0 or consumer.scale == 0 or self._rule.use_init_weight:
            return consumer.scale
        return min(report.weight, most(consumer.scale, self._rule.balance))

    def _balance(self) -> None:
        shares = {
            name: Share(consumer.scale, consumer.weight, consumer.load.shown)
            for name, consumer in self._consumers.items()
            if consumer.alive and consumer.scale > 0
        }
        for name, weight in next_weights(shares, self._rule.balance).items():
            self._consumers[name].weight = weight

    def _changed_from(self, before: Mapping[str, int]) -> None:
        if self.warm and self.weights() != before:
            self.version += 1
