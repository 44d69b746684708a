"""The example of docs/api.md, "Testing handlers": an application's own test."""

from __future__ import annotations

import pytest_twisted

from phxqueue.consumer import Result
from phxqueue.testing import InMemoryCluster

ORDER = 1  # the application's handle_id


class Warehouse:
    """The application: ships orders, unless the shelf is empty."""

    def __init__(self, stock: int) -> None:
        self.stock = stock
        self.shipped: list[bytes] = []

    async def handle(self, context, item):
        if item.buffer == b"nonsense":
            return Result.DEAD
        if not self.stock:
            return Result.RETRY
        self.stock -= 1
        self.shipped.append(item.buffer)
        return Result.OK


@pytest_twisted.ensureDeferred
async def test_orders_are_shipped_until_the_shelf_is_empty():
    warehouse = Warehouse(stock=2)
    async with InMemoryCluster({ORDER: warehouse}) as cluster:
        for order in (b"a book", b"nonsense", b"a lamp", b"a chair"):
            await cluster.producer.enqueue(pub_id=1, handle_id=ORDER, buffer=order, uin=4711)
        await cluster.settle()  # every attempt made, every delay skipped

        assert warehouse.shipped == [b"a book", b"a lamp"]
        letters = {letter.item.buffer: letter for letter in await cluster.dead_letters()}
        assert letters[b"nonsense"].attempts == 1
        assert letters[b"a chair"].attempts == 3
        assert letters[b"a chair"].last_error == "its handler said RETRY"
