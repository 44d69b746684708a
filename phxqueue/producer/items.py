"""Items in their serialized form, and the digest that reconciliation sums up. Pure.

An item is serialized once, here, in the moment it is enqueued: as a QItems message with that one item.
Serialized QItems concatenate, so a batch is the concatenation of its items, and so is what the store makes
of many batches. One Meta is kept per kind of item and only its numbers are set again; what is around it is put
together by hand. Both together cost a third of building each item from nothing.

Nothing but numbers may be set in a message that is kept: protobuf takes the room of strings, bytes and submessages
from the message's arena, which gives nothing back before the message itself goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from xxhash import xxh3_64_intdigest

from phxqueue.net.envelope import varint
from phxqueue.producer.errors import BadText, BufferNotBytes, ItemTooLarge
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import Cookies, Meta, QItem, QItems

#: Bytes of `items_byte_size_limit` that a new item must leave free: what later attempts and the dead-letter
#: queue write into it must never make it too large for its next queue.
HEADROOM = 256

_identity = Struct("<QQ").pack

# Field number and wire type of length-delimited fields, as they stand in front of the length.
_ITEM_TAG = varint(QItems.ITEMS_FIELD_NUMBER << 3 | 2)
_BUFFER_TAG = varint(QItem.BUFFER_FIELD_NUMBER << 3 | 2)
_META_TAG = varint(QItem.META_FIELD_NUMBER << 3 | 2)


class ItemEncoder:
    """Serializes first attempts of one pub, handle_id and mask.

    `mask` 0 says that the mask of the batch holds; it is written into the item only when it is narrower than
    the pub's, because the store merges batches of different masks.
    """

    __slots__ = ("_after_buffer", "_atime_ms", "_expires_at_ms", "_limit", "_meta", "_producer_id", "_serialize")

    def __init__(self, producer_id: int, pub_id: int, handle_id: int, mask: int, limit: int) -> None:
        self._meta = Meta(producer_id=producer_id, pub_id=pub_id, handle_id=handle_id)
        self._serialize = self._meta.SerializeToString
        self._after_buffer = QItem(consumer_group_ids=mask).SerializeToString() + _META_TAG
        self._producer_id = producer_id
        self._limit = limit - HEADROOM
        self._atime_ms = 0
        self._expires_at_ms = 0

    def encode(
        self,
        buffer: bytes,
        uin: int,
        number: int,
        atime_ms: int,
        client_id: str = "",
        user_cookies: Mapping[str, bytes] | None = None,
        expires_at_ms: int = 0,
    ) -> tuple[bytes, int]:
        """One serialized item and its digest. `expires_at_ms`: Unix milliseconds; 0: it never does.

        Raises:
            BufferNotBytes, BadText, ItemTooLarge: naming the field.
        """
        if buffer.__class__ is not bytes:
            raise BufferNotBytes(f"buffer must be bytes, not {type(buffer).__name__}: encode it first")
        message = self._meta
        if atime_ms != self._atime_ms:
            self._atime_ms = message.atime_ms = atime_ms
        if expires_at_ms != self._expires_at_ms:
            self._expires_at_ms = message.expires_at_ms = expires_at_ms
        message.number = number
        message.uin = uin
        meta = self._serialize()
        if client_id or user_cookies:
            meta += _texts(client_id, user_cookies)
        after = self._after_buffer
        length, meta_length = varint(len(buffer)), varint(len(meta))
        size = len(_BUFFER_TAG) + len(length) + len(buffer) + len(after) + len(meta_length) + len(meta)
        payload = b"".join((_ITEM_TAG, varint(size), _BUFFER_TAG, length, buffer, after, meta_length, meta))
        if len(payload) > self._limit:
            raise too_large(len(payload), self._limit + HEADROOM)
        return payload, xxh3_64_intdigest(_identity(self._producer_id, number) + buffer)


def _texts(client_id: str, user_cookies: Mapping[str, bytes] | None) -> bytes:
    """The fields of a Meta that come after its numbers, serialized."""
    meta = Meta()
    try:
        meta.client_id = client_id
    except (TypeError, ValueError) as error:
        raise BadText(f"client_id must be a str that encodes to UTF-8, not {client_id!r} ({error})") from None
    if user_cookies:
        meta.user_cookies.CopyFrom(make_cookies(user_cookies))
    return meta.SerializeToString()


def too_large(size: int, limit: int) -> ItemTooLarge:
    """The error for an item of that serialized size."""
    return ItemTooLarge(
        f"the item has {size} bytes when serialized, more than items_byte_size_limit = {limit} of the topic allows "
        f"({HEADROOM} bytes are kept free for later attempts): make it smaller, store the data elsewhere and enqueue "
        "a reference, or raise the limit in topicconfig.conf"
    )


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


def body_digest(handle_id: int, uin: int, mask: int, buffer: bytes, user_cookies: Mapping[str, bytes] | None) -> int:
    """What two items with one idempotency key have to share to be the same item. Both have been encoded already."""
    parts = [_identity(handle_id, uin), _identity(mask, len(buffer)), buffer]
    for key, value in sorted((user_cookies or {}).items()):
        parts += [_identity(len(key), len(value)), key.encode(), value]
    return xxh3_64_intdigest(b"".join(parts))


def encode_item(item: QItem, limit: int) -> tuple[bytes, int]:
    """Serialize an item that already has its identity (a retry, a dead letter).

    Raises:
        ItemTooLarge: when its cookies have grown beyond the limit.
    """
    payload = QItems(items=[item]).SerializeToString()
    if len(payload) > limit:
        raise too_large(len(payload), limit)
    return payload, item_digest(item.meta.producer_id, item.meta.number, item.buffer)
