"""What can become of a batch that reached the log."""

from __future__ import annotations

from dataclasses import dataclass

from phxqueue.net.status import Status


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A batch that was stored before: its first outcome."""

    first_cursor: int
    count: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A batch, or a whole command, that every replica refused alike."""

    status: Status
    message: str


#: What became of a batch: the cursor of its first item when it was stored (the usual case), or why not.
Outcome = int | Duplicate | Refusal
