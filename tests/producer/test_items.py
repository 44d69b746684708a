"""Items in bytes: what stands in them, their digest, and what is refused."""

from __future__ import annotations

import struct

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.daemon.memory import resident_bytes
from phxqueue.producer import BadText, BufferNotBytes, ItemTooLarge
from phxqueue.producer.items import HEADROOM, ItemEncoder, encode_item, read_cookies
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import QItem, QItems

U64 = st.integers(0, 2**64 - 1)


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=300),
            U64,
            U64,
            U64,
            st.text(st.characters(codec="utf-8"), max_size=5),
            st.none()
            | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.binary(max_size=5), max_size=2),
        ),
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_an_encoder_writes_exactly_what_it_is_given_each_time(
    calls: list[tuple[bytes, int, int, int, str, dict[str, bytes] | None]], mask: int
) -> None:
    encoder = ItemEncoder(producer_id=77, pub_id=5, handle_id=6, mask=mask, limit=10_000)
    joined = b""
    digests = []
    for arguments in calls:
        payload, digest = encoder.encode(*arguments)
        joined += payload
        digests.append(digest)
    items = QItems.FromString(joined).items  # serialized QItems concatenate
    assert len(items) == len(calls)
    for item, digest, (buffer, uin, number, atime_ms, client_id, cookies) in zip(items, digests, calls, strict=True):
        meta = item.meta
        assert (item.buffer, meta.uin, meta.number, meta.atime_ms, meta.client_id) == (
            buffer,
            uin,
            number,
            atime_ms,
            client_id,
        )
        assert (meta.producer_id, meta.pub_id, meta.handle_id, item.consumer_group_ids) == (77, 5, 6, mask)
        assert read_cookies(meta.user_cookies) == (cookies or {})
        assert (item.count, item.pub_id, item.atime_ms) == (0, 0, 0)
        assert digest == item_digest(77, number, buffer)


def test_the_digest_is_xxh3_of_identity_and_buffer() -> None:
    assert item_digest(1, 2, b"abc") == xxhash.xxh3_64(struct.pack("<QQ", 1, 2) + b"abc").intdigest()


def test_what_is_wrong_with_an_item_is_named() -> None:
    encoder = ItemEncoder(1, 1, 1, 0, limit=1024)
    with pytest.raises(BufferNotBytes, match="buffer must be bytes, not str"):
        encoder.encode("text", 0, 0, 0)  # type: ignore[arg-type]
    with pytest.raises(BadText, match="client_id"):
        encoder.encode(b"", 0, 0, 0, "\ud800")
    with pytest.raises(BadText, match="client_id"):
        encoder.encode(b"", 0, 0, 0, 5)  # type: ignore[arg-type]
    with pytest.raises(BufferNotBytes, match=r"user_cookies\['a'\]"):
        encoder.encode(b"", 0, 0, 0, "", {"a": "b"})  # type: ignore[dict-item]
    with pytest.raises(BadText, match="key of a cookie"):
        encoder.encode(b"", 0, 0, 0, "", {"\udfff": b""})
    with pytest.raises(ItemTooLarge, match=r"1\d\d\d bytes when serialized, more than items_byte_size_limit = 1024"):
        encoder.encode(b"x" * 1024, 0, 0, 0)
    payload, _ = encoder.encode(b"fine", 1, 2, 3)
    assert read_cookies(QItems.FromString(payload).items[0].meta.user_cookies) == {}, "errors leave nothing behind"


def test_the_largest_new_item_fits_again_as_a_later_attempt() -> None:
    limit = 2048
    encoder = ItemEncoder(2**64 - 1, 1, 1, 0, limit)
    size = next(size for size in range(limit, 0, -1) if _encodes(encoder, size))
    payload, _ = encoder.encode(b"x" * size, 2**64 - 1, 2**40, 2**42)
    assert len(payload) <= limit - HEADROOM
    item = QItem()
    item.CopyFrom(QItems.FromString(payload).items[0])
    item.count, item.atime_ms, item.consumer_group_ids = 2**32 - 1, 2**63, 2**63
    again, digest = encode_item(item, limit)
    assert digest == item_digest(2**64 - 1, 2**40, b"x" * size)
    assert QItems.FromString(again).items[0] == item


def _encodes(encoder: ItemEncoder, size: int) -> bool:
    try:
        encoder.encode(b"x" * size, 2**64 - 1, 2**40, 2**42)
    except ItemTooLarge:
        return False
    return True


def test_an_encoder_keeps_nothing_of_what_it_has_encoded() -> None:
    """A protobuf message that is set again and again keeps every old string until it is gone itself."""
    encoder = ItemEncoder(producer_id=77, pub_id=5, handle_id=6, mask=0, limit=2 << 20)
    buffer = bytes(1 << 20)
    encoder.encode(buffer, 0, 0, 0, buffer.hex()[:1000], {"k": buffer[:1000]})
    before = resident_bytes()
    for number in range(64):
        encoder.encode(buffer, 0, number, 0, f"{number:1000}", {"k": buffer[:1000]})
    assert resident_bytes() - before < 16 << 20
