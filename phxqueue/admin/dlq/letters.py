"""What a dead letter says, and which ones a command means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from phxqueue.admin.rendering import readable
from phxqueue.producer.attempts import ATTEMPTS, GROUP, LAST_ERROR, REASON
from phxqueue.producer.items import make_cookies, read_cookies
from phxqueue.producer.places import read_place
from phxqueue.proto.item_pb2 import QItem

#: How often a letter was put back on its way, in sys_cookies; text.
REQUEUED = "dead.requeued"


class LetterId(NamedTuple):
    """Where a dead letter lies. As text: "store-pub-cursor"."""

    store_id: int
    pub_id: int
    cursor: int

    def __str__(self) -> str:
        return "-".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """Read what str() wrote.

        Raises:
            ValueError: it is no such text.
        """
        return cls(*read_place(text, (32, 32, 64), "a dead letter: it looks like 1-7-42 (store-pub-cursor)"))


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and when the store took it (Unix milliseconds)."""

    place: LetterId
    item: QItem
    group: int
    stored_ms: int

    @property
    def reason(self) -> str:
        """Why it is one."""
        return self._note(REASON)

    @property
    def attempts(self) -> str:
        """How often it was tried."""
        return self._note(ATTEMPTS)

    @property
    def last_error(self) -> str:
        """What went wrong the last time."""
        return self._note(LAST_ERROR)

    def _note(self, key: str) -> str:
        return readable(read_cookies(self.item.sys_cookies).get(key, b""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters are meant: those that fit everything given."""

    cursors: frozenset[int] | None = None
    group: int | None = None
    handle_id: int | None = None
    uin: int | None = None
    reason: str | None = None  # a part of it
    error: str | None = None  # a part of it
    before_ms: int | None = None
    after_ms: int | None = None

    def fits(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        meta = letter.item.meta
        return (
            (self.cursors is None or letter.place.cursor in self.cursors)
            and self.group in (None, letter.group)
            and self.handle_id in (None, meta.handle_id)
            and self.uin in (None, meta.uin)
            and (self.reason is None or self.reason.lower() in letter.reason.lower())
            and (self.error is None or self.error.lower() in letter.last_error.lower())
            and (self.before_ms is None or letter.stored_ms < self.before_ms)
            and (self.after_ms is None or letter.stored_ms >= self.after_ms)
        )


def group_of(item: QItem, mask: int) -> int:
    """The consumer group that a letter belongs to: what it says, else the lowest of its mask."""
    noted = read_cookies(item.sys_cookies).get(GROUP, b"").decode(errors="replace")
    mask = item.consumer_group_ids or mask
    if noted.isdecimal() and mask >> (int(noted) - 1) & 1:
        return int(noted)
    return (mask & -mask).bit_length()


def revived(letter: Letter, now_ms: int) -> QItem:
    """The item as it begins anew: at its first attempt, for the same group; it expires no more."""
    item = QItem()
    item.CopyFrom(letter.item)
    item.count = 0
    item.atime_ms = now_ms
    item.meta.ClearField("expires_at_ms")
    notes = read_cookies(item.sys_cookies)
    before = notes.get(REQUEUED, b"0")
    for key in (REASON, ATTEMPTS, GROUP, LAST_ERROR):
        notes.pop(key, None)
    notes[REQUEUED] = b"%d" % (int(before) + 1 if before.isdigit() else 1)
    item.sys_cookies.CopyFrom(make_cookies(notes))
    return item
