"""The last things that happened on a node, numbered, in a ring of fixed size. Pure."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        number: rises by one with every event of the process.
        time: Unix seconds.
        kind: what kind of thing, for programs: "ready", "alarm", "master", ...
        message: a sentence, for people.
        facts: plain values.
    """

    number: int
    time: float
    kind: str
    message: str
    facts: Mapping[str, object] = field(default_factory=dict)

    def line(self, node: str) -> str:
        """One line of JSON."""
        document = {
            "number": self.number,
            "time": iso_time(self.time),
            "node": node,
            "kind": self.kind,
            "message": self.message,
        }
        return json.dumps({**document, **self.facts}, ensure_ascii=False, default=str)


class EventRing:
    """The newest events; older ones are forgotten.

    Attributes:
        total: events since the process began, forgotten ones included.
    """

    def __init__(self, most: int) -> None:
        self.total = 0
        self._events: deque[Event] = deque(maxlen=most)

    def add(self, time: float, kind: str, message: str, facts: Mapping[str, object] | None = None) -> Event:
        """Something happened."""
        self.total += 1
        event = Event(self.total, time, kind, message, dict(facts or {}))
        self._events.append(event)
        return event

    def since(self, number: int = 0, kind: str = "") -> Iterator[Event]:
        """Those with higher numbers, oldest first; only of one kind, if one is named."""
        return (event for event in self._events if event.number > number and kind in ("", event.kind))


def iso_time(seconds: float) -> str:
    """Unix seconds as people and programs read them."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
