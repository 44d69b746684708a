"""Items in their serialized form, and the digest that reconciliation sums up. Pure.

An item is serialized once, here, in the moment it is enqueued: as a QItems message with that one item.
Serialized QItems concatenate, so a batch is the concatenation of its items, and so is what the store makes
of many batches. One message object is kept per kind of item and only the fields that differ are set again,
which costs a third of building each from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from xxhash import xxh3_64_intdigest

from phxqueue.producer.errors import BadText, BufferNotBytes, ItemTooLarge
from phxqueue.proto.item_pb2 import Cookies, QItem, QItems

MASK64 = (1 << 64) - 1

#: Bytes of `items_byte_size_limit` that a new item must leave free: what later attempts and the dead-letter
#: queue write into it must never make it too large for its next queue.
HEADROOM = 256

_identity = Struct("<QQ").pack


def item_digest(producer_id: int, number: int, buffer: bytes) -> int:
    """The item's share of a batch's `digest_sum`: xxh3_64 over its identity (16 bytes, little-endian) and buffer."""
    return xxh3_64_intdigest(_identity(producer_id, number) + buffer)


class ItemEncoder:
    """Serializes first attempts of one pub, handle_id and mask.

    `mask` 0 says that the mask of the batch holds; it is written into the item only when it is narrower than
    the pub's, because the store merges batches of different masks.
    """

    __slots__ = ("_atime_ms", "_client_id", "_has_cookies", "_item", "_limit", "_meta", "_producer_id", "_serialize")

    def __init__(self, producer_id: int, pub_id: int, handle_id: int, mask: int, limit: int) -> None:
        items = QItems()
        self._item = items.items.add()
        self._item.consumer_group_ids = mask
        self._meta = self._item.meta
        self._meta.producer_id = producer_id
        self._meta.pub_id = pub_id
        self._meta.handle_id = handle_id
        self._serialize = items.SerializeToString
        self._producer_id = producer_id
        self._limit = limit
        self._atime_ms = 0
        self._client_id = ""
        self._has_cookies = False

    def encode(
        self,
        buffer: bytes,
        uin: int,
        number: int,
        atime_ms: int,
        client_id: str = "",
        user_cookies: Mapping[str, bytes] | None = None,
    ) -> tuple[bytes, int]:
        """One serialized item and its digest.

        Raises:
            BufferNotBytes, BadText, ItemTooLarge: naming the field.
        """
        if buffer.__class__ is not bytes:
            raise BufferNotBytes(f"buffer must be bytes, not {type(buffer).__name__}: encode it first")
        meta = self._meta
        if atime_ms != self._atime_ms:
            self._atime_ms = meta.atime_ms = atime_ms
        if client_id != self._client_id:
            _set_client_id(self._meta, client_id)
            self._client_id = client_id
        if user_cookies or self._has_cookies:
            self._has_cookies = bool(user_cookies)
            meta.ClearField("user_cookies")
            if user_cookies:
                meta.user_cookies.CopyFrom(make_cookies(user_cookies))
        self._item.buffer = buffer
        meta.number = number
        meta.uin = uin
        payload = self._serialize()
        if len(payload) > self._limit - HEADROOM:
            raise too_large(len(payload), self._limit)
        return payload, xxh3_64_intdigest(_identity(self._producer_id, number) + buffer)


def too_large(size: int, limit: int) -> ItemTooLarge:
    """The error for an item of that serialized size."""
    return ItemTooLarge(
        f"the item has {size} bytes when serialized, more than items_byte_size_limit = {limit} of the topic allows "
        f"({HEADROOM} bytes are kept free for later attempts): make it smaller, store the data elsewhere and enqueue "
        "a reference, or raise the limit in topicconfig.conf"
    )


def _set_client_id(meta: object, client_id: str) -> None:
    try:
        meta.client_id = client_id  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise BadText(f"client_id must be a str that encodes to UTF-8, not {client_id!r} ({error})") from None


def make_cookies(cookies: Mapping[str, bytes]) -> Cookies:
    """Raises BadText or BufferNotBytes, naming the cookie."""
    message = Cookies()
    for key, value in cookies.items():
        if not isinstance(value, bytes):
            raise BufferNotBytes(f"user_cookies[{key!r}] must be bytes, not {type(value).__name__}")
        try:
            message.cookies.add(key=key, value=value)
        except (TypeError, ValueError) as error:
            raise BadText(f"the key of a cookie must be a str that encodes to UTF-8, not {key!r} ({error})") from None
    return message


def read_cookies(cookies: Cookies) -> dict[str, bytes]:
    """Cookies as a dict; of equal keys the last one counts."""
    return {cookie.key: cookie.value for cookie in cookies.cookies}


def encode_item(item: QItem, limit: int) -> tuple[bytes, int]:
    """Serialize an item that already has its identity (a retry, a dead letter).

    Raises:
        ItemTooLarge: when its cookies have grown beyond the limit.
    """
    payload = QItems(items=[item]).SerializeToString()
    if len(payload) > limit:
        raise too_large(len(payload), limit)
    return payload, item_digest(item.meta.producer_id, item.meta.number, item.buffer)
