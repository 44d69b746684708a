"""``phxqueue peek``: what it finds, what it says, where it stops."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from phxqueue.admin.decoding import decoder
from phxqueue.admin.peek import Found, Scan, Search, closing_line, describe, find
from phxqueue.admin.rendering import Place
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.item_pb2 import Cookie, Cookies, Meta, QItem
from tests.admin.test_consume import ROUTE, FakeStore


def items(count: int) -> list[QItem]:
    return [QItem(buffer=b"%d" % n, meta=Meta(producer_id=7, number=n, uin=n % 10, pub_id=1)) for n in range(count)]


async def found_by(store: FakeStore, **wanted: Any) -> tuple[list[int], Scan, Search]:
    search, progress = Search(topic_id=1000, store_id=1, queue_id=3, **wanted), Scan()
    cursors = [found.place.cursor async for found in find(store, ROUTE, search, progress)]
    return cursors, progress, search


@pytest_twisted.ensureDeferred
async def test_the_oldest_items_without_moving_anything() -> None:
    store = FakeStore(items(30), batch=4)
    cursors, progress, search = await found_by(store, count=5)
    assert cursors == [0, 1, 2, 3, 4]
    assert closing_line(search, progress, 5) == "5 items shown; queue 1:3 ends at cursor 30, go on with --from 5"
    assert all(request.random and not request.consumer_group_id for request in store.requests)
    assert store.acked == 0


@pytest_twisted.ensureDeferred
async def test_from_the_middle_of_a_batch_to_the_end() -> None:
    cursors, progress, search = await found_by(FakeStore(items(30), batch=4), start=26, count=100)
    assert cursors == [26, 27, 28, 29]
    assert closing_line(search, progress, 4) == "4 items shown; that is the end of queue 1:3 (cursor 30)"


@pytest_twisted.ensureDeferred
async def test_a_search_by_uin_goes_on_over_many_answers() -> None:
    store = FakeStore(items(2500), batch=10)
    cursors, _, _ = await found_by(store, uin=4, count=240, start=3)
    assert cursors == [4 + 10 * n for n in range(240)]
    assert len(store.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_search_has_a_bound_and_says_how_to_go_on() -> None:
    cursors, progress, search = await found_by(FakeStore(items(200), batch=7), uin=9, scan=50)
    assert cursors == [9, 19, 29, 39, 49]
    assert closing_line(search, progress, 5) == "5 items shown, 50 looked at (--scan); go on with --from 50"


@pytest_twisted.ensureDeferred
async def test_an_empty_queue() -> None:
    cursors, progress, search = await found_by(FakeStore([]))
    assert cursors == []
    assert closing_line(search, progress, 0) == "0 items shown; that is the end of queue 1:3 (cursor 0)"


@pytest_twisted.ensureDeferred
async def test_what_the_store_refuses_is_passed_on() -> None:
    store = FakeStore([])
    store.fail_with = RpcError(Status.OUT_OF_RANGE, "next_cursor: 9 is beyond the end")
    with pytest.raises(RpcError, match="beyond the end"):
        await found_by(store, start=9)


def test_an_item_is_described_with_all_it_carries() -> None:
    meta = Meta(
        producer_id=0xAB, number=5, uin=3, handle_id=2, pub_id=1, client_id="till 7",
        user_cookies=Cookies(cookies=[Cookie(key="trace", value=b"\xff")]),
    )  # fmt: skip
    item = QItem(buffer=b"x" * 3, count=2, meta=meta, sys_cookies=Cookies(cookies=[Cookie(key="error", value=b"no")]))
    found = Found(Place(1, 3, 42), item, 0b101, 1_700_000_000_123)
    head, *rest = describe(found, decoder("text"))
    assert head.startswith("cursor 42  stored 2023-11-14T22:13:20.123+00:00  3 B  uin 3  handle_id 2  pub 1  ")
    assert head.endswith("  groups 1,3  attempt 3  item ab-5")
    assert rest == [
        "    client_id till 7",
        "    cookie trace: \\xff",
        "    note error: no",
        "    xxx",
    ]
