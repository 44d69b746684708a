"""Items that may be what killed the consumers before this one: handled alone, each acknowledged before the next.

An item whose handler takes its process down (a crash in C, memory used up) never ends an attempt: nobody is left to say
so. But it is never finished either, so every reader after that begins at or before it, and the store counts those
(:mod:`phxqueue.store.begins`). What follows, for a reader that is told so:

- the second that gets on no further: nothing yet. Processes also end for reasons of their own;
- from the third on everything that was handed out before is a *suspect*: each is handled alone, and acknowledged before
  the next begins. If the process dies again, its group stands exactly at the culprit;
- when `CRASHES` readers have got no further than the same item, it has used up an attempt: the next one is enqueued, or
  it becomes a dead letter, as after any other failure. Its notes say so; with that on record one more crash is enough
  for each later attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from phxqueue.consumer.slots import Slot
from phxqueue.producer.items import make_cookies, read_cookies

#: Readers that may stand still at an item before the next one ends its attempt.
CRASHES = 3
#: The same for an item that has it on record.
CRASHES_ON_RECORD = 1
#: From this reader on items are handled one by one.
ALONE_FROM = 3
#: Key in sys_cookies of an item that has ended its consumer: attempts that ended so; text.
KILLED = "attempt.killed"


class Suspects:
    """What one reader handles alone.

    Attributes:
        end: what lies at this cursor or above was not handed out before.
        current: the one being handled.
    """

    def __init__(self, begins: int, end: int) -> None:
        self.begins = begins
        self.end = end
        self.current: Slot | None = None
        self._waiting: deque[Slot] = deque()
        self._first = True

    def add(self, slot: Slot) -> None:
        """Another item, behind all others."""
        self._waiting.append(slot)

    @property
    def waiting(self) -> bool:
        """Whether something is to be handled alone."""
        return self.current is not None or bool(self._waiting)

    def next(self) -> tuple[Slot, str] | None:
        """Take the next one, and why its attempt is over already, or ""; None: no suspect is left here."""
        if not self._waiting or self._waiting[0].cursor >= self.end:
            return None
        self.current = slot = self._waiting.popleft()
        first, self._first = self._first, False
        return slot, verdict(slot, self.begins) if first else ""

    def drop(self, unwanted: Callable[[Slot], bool]) -> list[Slot]:
        """Forget items that have not started; returns them."""
        dropped = [slot for slot in self._waiting if unwanted(slot)]
        self._waiting = deque(slot for slot in self._waiting if not unwanted(slot))
        return dropped


def begin(begins: int, end: int, first: Slot | None) -> Suspects | None:
    """What a reader does that is told so, and whose first item is this; None: nothing special."""
    if begins >= ALONE_FROM or (first is not None and verdict(first, begins)):
        return Suspects(begins, end)
    return None


def verdict(slot: Slot, begins: int) -> str:
    """Why the attempt of the first item is over, before it is handled; "": it is not."""
    crashes = begins - 1
    limit = CRASHES_ON_RECORD if _killed(slot) else CRASHES
    if crashes < limit:
        return ""
    return f"its consumer ended {crashes} times without finishing it: the handler takes the process down"


def put_on_record(slot: Slot) -> None:
    """Note in an item that an attempt of it ended so."""
    cookies = read_cookies(slot.message.sys_cookies) | {KILLED: b"%d" % (_killed(slot) + 1)}
    slot.message.sys_cookies.CopyFrom(make_cookies(cookies))


def _killed(slot: Slot) -> int:
    noted = read_cookies(slot.message.sys_cookies).get(KILLED, b"0") if slot.message.HasField("sys_cookies") else b"0"
    return int(noted) if noted.isdigit() else 1
