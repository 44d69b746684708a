"""How `phxqueue consume` prints an item. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple

from phxqueue.proto.item_pb2 import QItem


class Place(NamedTuple):
    """Where an item stands."""

    store_id: int
    queue_id: int
    cursor: int


def as_text(item: QItem, place: Place) -> bytes:
    """The message itself and a line end."""
    return item.buffer + b"\n"


def as_hex(item: QItem, place: Place) -> bytes:
    """Place and message, the latter in hexadecimal: safe for any terminal."""
    return f"{place.store_id}:{place.queue_id}:{place.cursor} {item.buffer.hex()}\n".encode()


def as_json(item: QItem, place: Place) -> bytes:
    """One object a line with everything the item carries; `buffer_base64` when the message is not UTF-8."""
    meta = item.meta
    document: dict[str, object] = {
        "store_id": place.store_id,
        "queue_id": place.queue_id,
        "cursor": place.cursor,
        "pub_id": item.pub_id or meta.pub_id,
        "handle_id": meta.handle_id,
        "uin": meta.uin,
        "attempt": item.count,
        "enqueued": utc_time(meta.atime_ms),
        "client_id": meta.client_id,
        "producer_id": f"{meta.producer_id:016x}",
        "number": meta.number,
    }
    for name, cookies in (("user_cookies", meta.user_cookies), ("sys_cookies", item.sys_cookies)):
        if cookies.cookies:
            document[name] = {cookie.key: readable(cookie.value) for cookie in cookies.cookies}
    try:
        document["buffer"] = item.buffer.decode()
    except UnicodeDecodeError:
        document["buffer_base64"] = base64.b64encode(item.buffer).decode()
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def utc_time(unix_ms: int) -> str:
    """Return a wall clock time, given in Unix milliseconds, in ISO 8601."""
    return datetime.fromtimestamp(unix_ms / 1000, timezone.utc).isoformat(timespec="milliseconds")


def readable(value: bytes) -> str:
    """Return text, with escapes for what is not UTF-8."""
    return value.decode(errors="backslashreplace")


FORMATS: dict[str, Callable[[QItem, Place], bytes]] = {"text": as_text, "json": as_json, "hex": as_hex}
