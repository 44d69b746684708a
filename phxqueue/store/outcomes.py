"""What can become of a batch that reached the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from phxqueue.net.status import Status

if TYPE_CHECKING:
    from phxqueue.store.replay_table import Record

#: Set in the remembered cursor of a delayed batch: what is below is its timer number.
TIMER_BIT = 1 << 63
#: Set in the remembered cursor of a batch that was not stored itself, because another one had its idempotency key.
COPY_BIT = 1 << 62
#: The same of a half message: what is below is its half number.
HALF_BIT = 1 << 61


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A batch that was stored before: its first outcome.

    `delayed`, `prepared`: it was; what stands in `first_cursor` is its timer number, or its half number. `stored_ms`:
    when it was stored, by its entry's timestamp; 0: before the ledger was opened, or by another name.
    """

    first_cursor: int
    count: int
    delayed: bool = False
    stored_ms: int = field(default=0, kw_only=True)
    prepared: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class KeyDuplicate(Duplicate):
    """A batch whose idempotency key was stored before: the outcome of that one, which may be in another queue."""

    queue_id: int = 0
    deliver_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Delayed:
    """A batch that was kept aside until it is due. `number`: its timer number."""

    number: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A half message, kept aside until it is decided. `number`: its half number."""

    number: int


@dataclass(frozen=True, slots=True)
class HalfOutcome:
    """A half message is decided. `repeated`: it had been before, and this is how."""

    state: int
    queue_id: int
    cursor: int
    count: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A batch, or a whole command, that every replica refused alike."""

    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay: what it did, now or (`duplicate`) when it came for the first time."""

    record: Record
    duplicate: bool


#: What became of a batch: the cursor of its first item when it was stored (the usual case), or why not.
Outcome = int | Duplicate | Delayed | Prepared | HalfOutcome | Refusal | Replayed


class Outcomes(list[Outcome]):
    """What became of the parts of one entry. `stored_ms`: its time, if the ledger counts it; else 0."""

    __slots__ = ("stored_ms",)

    def __init__(self, outcomes: Iterable[Outcome] = (), stored_ms: int = 0) -> None:
        super().__init__(outcomes)
        self.stored_ms = stored_ms
