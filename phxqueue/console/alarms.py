"""Which alarms stand, and when one is worth telling. Pure.

An alarm is about one subject: a mismatch in a queue of a consumer group, say. What comes again about the same subject
is counted, and told no more often than every `repeat_s`; so a thousand mismatches are one alarm that says "1000 times".
An alarm stands until what it is about has settled (`clear`), or, when nothing later can mend it, until it has not
come again for `hold_s`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Occurrences of one alarm whose facts are kept.
KEPT_OCCURRENCES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that an operator has to know.

    Attributes:
        kind: which kind, for programs; docs/operations/reconciliation.md has a section for each.
        subject: what it is about, from the large to the small: ("store", 1), ("queue", 7), ...; kind and subject
            together tell alarms apart.
        labels: what else metrics are to be told apart by; may differ from one occurrence to the next.
        cause: what has happened, a sentence.
        remedy: what to do, a sentence.
        facts: plain values: cursor range, expected and claimed, ...
        lasting: nothing that happens later can settle it: it stands for `hold_s`.
        warning: it may be nothing.
    """

    kind: str
    subject: tuple[tuple[str, str | int], ...]
    cause: str
    remedy: str
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    lasting: bool = False
    warning: bool = False

    @property
    def name(self) -> str:
        """What people call it by: "mismatch store 1 queue 7 group 2"."""
        return " ".join([self.kind, *(f"{what} {which}" for what, which in self.subject)])


@dataclass(slots=True)
class Standing:
    """An alarm that stands.

    Attributes:
        alarm: as it came the last time.
        number: of the alarm in this process.
        since, last: when it came first and last; Unix seconds.
        count: how often it came.
        recent: the facts of the last occurrences, oldest first.
    """

    alarm: Alarm
    number: int
    since: float
    last: float
    count: int = 1
    recent: deque[Mapping[str, object]] = field(default_factory=lambda: deque(maxlen=KEPT_OCCURRENCES))
    told: float = 0.0  # when it was told last, in the clock of the caller
    came: float = 0.0  # when it came last, in the same


class Alarms:
    """The alarms of one process.

    Args:
        most: so many may stand at the same time; others are only counted.
        repeat_s: one that comes again is told no more often than this.
        hold_s: a lasting one stands so long after it came last.

    Attributes:
        standing: by name.
        raised: how often each kind was raised since the process began, whatever became of it.
        left_out: those that found no room.
    """

    def __init__(self, *, most: int, repeat_s: float, hold_s: float) -> None:
        self.standing: dict[str, Standing] = {}
        self.raised: Counter[str] = Counter()
        self.left_out = 0
        self._most = most
        self._repeat_s = repeat_s
        self._hold_s = hold_s
        self._number = 0

    def raise_alarm(self, alarm: Alarm, now: float, wall: float) -> Standing | None:
        """It happened (again). Returns it when it is to be told: it is new, or was not told for a while.

        Args:
            now: seconds of a clock that never goes back.
            wall: Unix seconds.
        """
        self.raised[alarm.kind] += 1
        found = self.standing.get(alarm.name)
        if found is None:
            if len(self.standing) >= self._most:
                self.left_out += 1
                return None
            self._number += 1
            found = self.standing[alarm.name] = Standing(alarm, self._number, wall, wall, told=now, came=now)
            found.recent.append(alarm.facts)
            return found
        found.alarm, found.last, found.came = alarm, wall, now
        found.count += 1
        found.recent.append(alarm.facts)
        if now - found.told < self._repeat_s:
            return None
        found.told = now
        return found

    def clear(self, name: str) -> Standing | None:
        """It has settled; returns what stood, if it did."""
        return self.standing.pop(name, None)

    def expire(self, now: float) -> list[Standing]:
        """Let go of lasting ones that did not come again; returns them."""
        over = [name for name, one in self.standing.items() if one.alarm.lasting and now - one.came >= self._hold_s]
        return [self.standing.pop(name) for name in over]
