"""Idempotency keys of messages that come as a stream: by their number, or in front of each. Pure."""

from __future__ import annotations

from collections.abc import Callable

from phxqueue.admin.messages import Numbered

#: What an item's key may be long (docs/api.md), and what of it the number takes.
MAX_KEY_BYTES = 64
NUMBER_BYTES = 16

#: A message to its key, if it has one, and what is left of it to be sent.
KeyRule = Callable[[Numbered], tuple[bytes | None, bytes]]


class NoKey(ValueError):
    """A message should begin with its key, and does not."""


def without_keys(message: Numbered) -> tuple[bytes | None, bytes]:
    """Nothing has a key."""
    return None, message.content


def keys_by_number(prefix: str) -> KeyRule:
    """Message 7 has the key PREFIX:7, so the same input has the same keys whenever it is sent.

    Raises:
        ValueError: the prefix is empty, or leaves no room for the number.
    """
    start, most = prefix.encode(), MAX_KEY_BYTES - NUMBER_BYTES - 1
    if not 0 < len(start) <= most:
        raise ValueError(f"{prefix!r} has {len(start)} bytes: 1 to {most} are possible, the number comes behind it")
    return lambda message: (start + b":%d" % message.number, message.content)


def leading_keys(message: Numbered) -> tuple[bytes | None, bytes]:
    """Each message is KEY<TAB>CONTENT.

    Raises:
        NoKey: it is not.
    """
    key, tab, content = message.content.partition(b"\t")
    if not tab or not 0 < len(key) <= MAX_KEY_BYTES:
        raise NoKey(f"skipped: it does not begin with a key of 1 to {MAX_KEY_BYTES} bytes and a tab")
    return key, content
