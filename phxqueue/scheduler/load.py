"""The load of one consumer, as its reports tell it, without their noise. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

#: Reports that the mean is taken of (as in the original, section 8.3 of its description).
REPORTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a consumer says of itself.

    Attributes:
        cpu: of its process, in percent of one core.
        slots: handler slots in use, in percent.
        weight: the weight it works with; 0: it has been told none yet.
        queues: it reads so many.
        backlog: items of them that are not finished.
    """

    cpu: float
    slots: float = 0.0
    weight: int = 0
    queues: int = 0
    backlog: int = 0


class SmoothedLoad:
    """The mean of the last reports, which moves only when it has moved far enough.

    Args:
        sticky: percentage points; smaller changes of the mean are not shown.
        use_slots: used slots add to the load: by half of it when half of them are in use.
    """

    def __init__(self, sticky: float, use_slots: bool) -> None:
        self.shown: float | None = None
        self._sticky = sticky
        self._use_slots = use_slots
        self._reports: deque[float] = deque(maxlen=REPORTS)

    def add(self, report: Report) -> None:
        """Take a report in."""
        load = max(report.cpu, 0.0)
        if self._use_slots:
            load *= 1 + min(max(report.slots, 0.0), 100.0) / 100
        self._reports.append(load)
        mean = sum(self._reports) / len(self._reports)
        if self.shown is None or abs(mean - self.shown) > self._sticky:
            self.shown = mean
