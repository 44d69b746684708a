"""Later attempts: along the chain of queue_infos, then to the dead letters, never too large for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.config import UnknownIdError, dead_letter_queue
from phxqueue.producer import Receipt
from phxqueue.producer.attempts import ATTEMPTS, GROUP, LAST_ERROR, REASON, Reason, next_attempt
from phxqueue.producer.items import encode_item, make_cookies, read_cookies
from phxqueue.proto.digest import item_digest
from phxqueue.proto.item_pb2 import Meta, QItem
from tests.producer.fake_store import make_topic
from tests.producer.rig import Rig, watch


def make_item(count: int = 0, pub_id: int = 1, buffer: bytes = b"x") -> QItem:
    meta = Meta(producer_id=5, number=6, handle_id=1, pub_id=pub_id, uin=7, atime_ms=1)
    return QItem(buffer=buffer, count=count, meta=meta)


def test_attempts_walk_the_chain_and_end_in_the_dead_letters() -> None:
    topic = make_topic()
    infos = []
    item = make_item()
    while True:
        attempt = next_attempt(topic, item, 2, 1234, "handler raised ValueError")
        if attempt.info is None:
            break
        infos.append(attempt.info.queue_info_id)
        item = attempt.item
        assert attempt.reason is None
        assert (item.consumer_group_ids, item.atime_ms) == (0b10, 1234)
        assert item.meta == make_item().meta
    assert infos == [2, 2], "queue_info 1 absorbs one attempt, queue_info 2 two"
    assert attempt.reason is Reason.EXHAUSTED
    notes = read_cookies(attempt.item.sys_cookies)
    assert notes == {
        REASON: b"attempts exhausted", ATTEMPTS: b"3", LAST_ERROR: b"handler raised ValueError", GROUP: b"2",
    }  # fmt: skip


def test_dead_skips_the_chain() -> None:
    attempt = next_attempt(make_topic(), make_item(), 1, 0, "poison", dead=True)
    assert attempt.info is None
    assert attempt.reason is Reason.DEAD
    assert read_cookies(attempt.item.sys_cookies)[ATTEMPTS] == b"1"


def test_an_item_of_a_pub_that_is_gone_is_not_lost_without_a_word() -> None:
    with pytest.raises(UnknownIdError, match="pub 99"):
        next_attempt(make_topic(), make_item(pub_id=99), 1, 0, "")


def test_a_second_death_replaces_the_notes_of_the_first() -> None:
    first = next_attempt(make_topic(), make_item(count=2), 1, 0, "one").item
    second = next_attempt(make_topic(), first, 1, 0, "two").item
    notes = read_cookies(second.sys_cookies)
    assert notes[LAST_ERROR] == b"two"
    assert len(second.sys_cookies.cookies) == 4


@given(st.text(max_size=5000), st.integers(0, 1800))
def test_a_dead_letter_always_fits(text: str, size: int) -> None:
    """Whatever the error says: an item that could be enqueued can be buried."""
    topic = make_topic(items_byte_size_limit=2048)
    item = make_item(count=2, buffer=b"x" * min(size, 2048 - 256 - 60))
    item.sys_cookies.CopyFrom(make_cookies({"own": b"1"}))
    attempt = next_attempt(topic, item, 64, 2**63, text)
    payload, digest = encode_item(attempt.item, 2048)
    assert len(payload) <= 2048
    assert digest == item_digest(5, 6, item.buffer)
    assert read_cookies(attempt.item.sys_cookies)["own"] == b"1"
    assert text.encode("utf-8", "replace").startswith(read_cookies(attempt.item.sys_cookies)[LAST_ERROR])


def test_the_producer_sends_an_attempt_to_the_queue_of_its_uin() -> None:
    rig = Rig()
    places = set()
    for _ in range(3):
        attempt, stored = rig.producer.enqueue_attempt(make_item(), 1, "why")
        assert attempt.info is not None
        done = watch(stored)
        rig.run(0.1)
        assert isinstance(done[0], Receipt)
        places.add(done[0].queue_id)
    assert len(places) == 1
    assert places < {10, 11}
    attempt, stored = rig.producer.enqueue_attempt(make_item(count=2), 1, "why")
    done = watch(stored)
    rig.run(0.1)
    assert done[0].queue_id == dead_letter_queue(1)
    header = rig.store.adds[-1].batches[0].header
    assert (header.pub_id, header.consumer_group_ids) == (1, 0b1)
