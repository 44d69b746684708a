"""The next attempt of an item that was not handled, and its last resting place. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from phxqueue.config import QueueInfo, Topic, group_bit
from phxqueue.producer.items import make_cookies, read_cookies
from phxqueue.proto.item_pb2 import QItem
from phxqueue.proto.origin import Origin

#: Keys in sys_cookies of a dead letter; values are UTF-8 text.
REASON = "dead.reason"
ATTEMPTS = "dead.attempts"
LAST_ERROR = "dead.last_error"
GROUP = "dead.consumer_group_id"
#: Longest text kept of an error, in bytes.
MAX_ERROR_BYTES = 2000
#: What LAST_ERROR adds to an item besides its text: keys, tags and lengths of the nested messages.
_COOKIE_OVERHEAD = 64


class Reason(enum.Enum):
    """Why an item is not tried again."""

    EXHAUSTED = "attempts exhausted"
    DEAD = "handler said DEAD"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """`item` goes to a queue of `info`, or to the dead letters when `info` is None, or nowhere when it is `dropped`."""

    item: QItem
    info: QueueInfo | None
    reason: Reason | None  # of a dead letter, or why it is dropped
    dropped: bool = False

    @property
    def origin(self) -> Origin:
        """What it is for the store's sums."""
        if self.reason is None:
            return Origin.RETRIED
        return Origin.EXPIRED if self.reason is Reason.EXPIRED else Origin.DEAD


def next_attempt(
    topic: Topic,
    item: QItem,
    consumer_group_id: int,
    now_ms: int,
    last_error: str,
    *,
    dead: bool = False,
    expired: bool = False,
    tried_in_place: int = 0,
) -> NextAttempt:
    """What becomes of an item after a failed attempt: a copy of it, for this consumer group only.

    `meta` stays as it was at the first enqueue; `count` rises by one, `atime_ms` is now. A dead letter says in its
    sys_cookies why it is one; the text of the last error is cut to what the topic's limit leaves room for.

    Args:
        dead: it goes to the dead letters at once.
        expired: so does it, without having been attempted; or it is dropped, when its pub says so.
        tried_in_place: failed attempts in its queue that left no trace in the item; they were all it had.

    Raises:
        UnknownIdError: when the topic no longer has the item's pub.
    """
    pub_id = item.pub_id or item.meta.pub_id
    count = item.count if expired else item.count + 1
    info = topic.attempt_queue_info(pub_id, count)
    if tried_in_place:
        count, info = count + tried_in_place, None
    copy = QItem()
    copy.CopyFrom(item)
    copy.count = count
    copy.atime_ms = now_ms
    copy.consumer_group_ids = group_bit(consumer_group_id)
    if info is not None and not dead and not expired:
        return NextAttempt(copy, info, None)
    reason = Reason.EXPIRED if expired else Reason.DEAD if dead else Reason.EXHAUSTED
    if expired and topic.pub(pub_id).expired == "drop":
        return NextAttempt(copy, None, reason, dropped=True)
    _note(copy, {REASON: reason.value, ATTEMPTS: str(count), GROUP: str(consumer_group_id)})
    room = topic.settings.items_byte_size_limit - copy.ByteSize() - _COOKIE_OVERHEAD
    _note(copy, {LAST_ERROR: _shorten(last_error, min(room, MAX_ERROR_BYTES))})
    return NextAttempt(copy, None, reason)


def _note(item: QItem, notes: dict[str, str]) -> None:
    cookies = read_cookies(item.sys_cookies) | {key: text.encode() for key, text in notes.items()}
    item.sys_cookies.CopyFrom(make_cookies(cookies))


def _shorten(text: str, limit: int) -> str:
    """At most so many bytes of UTF-8."""
    return text.encode("utf-8", "replace")[: max(0, limit)].decode("utf-8", "ignore")
