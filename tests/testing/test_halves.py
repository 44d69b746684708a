"""Half messages from the producer's side, on real stores in memory."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from phxqueue.producer import Decision, Half, HalfDecided, HalfUnknown, InvalidItem, Refused
from phxqueue.testing import InMemoryCluster
from tests.testing.notes import Notes


@pytest_twisted.ensureDeferred
async def test_only_what_is_committed_is_handled_and_once() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        payments = cluster.another_producer("payments")
        paid = await payments.prepare(1, 1, b"paid", uin=7)
        failed = await payments.prepare(1, 1, b"failed")
        await cluster.settle()
        assert notes.seen == []
        receipt = await paid.commit()
        assert await paid.commit() == receipt
        assert await cluster.producer.half(paid.half_id).commit() == receipt
        assert await failed.roll_back() is None
        await failed.roll_back()
        with pytest.raises(HalfDecided, match="was committed before") as caught:
            await paid.roll_back()
        assert caught.value.committed
        with pytest.raises(HalfDecided, match="was rolled back before"):
            await failed.commit()
        await cluster.settle()
    assert notes.seen == [b"paid"]


@pytest_twisted.ensureDeferred
async def test_another_producer_of_the_name_is_asked_and_decides() -> None:
    notes = Notes()
    asked: list[Half] = []
    said = {b"yes": Decision.COMMIT, b"no": Decision.ROLL_BACK}

    async def check_back(half: Half) -> Decision:
        asked.append(half)
        assert half.item is not None
        if half.item.buffer == b"oops" and len(asked) < 5:
            raise ValueError("the application's own trouble")
        return said.get(half.item.buffer, Decision.UNDECIDED)

    async with InMemoryCluster({1: notes}) as cluster:
        first = cluster.another_producer("payments")
        prepare = first.prepare
        items = [b"yes", b"no", b"who knows"]
        halves = await gatherResults([prepare(1, 1, item, 7, "me", {"a": b"b"}) for item in items])
        await first.close()
        cluster.another_producer("payments", check_back)
        others: list[Half] = []
        cluster.another_producer("others", lambda half: others.append(half) or Decision.COMMIT)  # type: ignore[func-returns-value]
        for _ in range(30):
            cluster.clock.skip(10)
            await cluster.settle()
        assert notes.seen == [b"yes"]
        assert {half.half_id for half in asked} == {half.half_id for half in halves}
        item = asked[0].item
        assert item is not None
        assert (item.pub_id, item.handle_id, item.uin, item.client_id) == (1, 1, 7, "me")
        assert item.user_cookies == {"a": b"b"}
        assert len([half for half in asked if half.item and half.item.buffer == b"who knows"]) >= 3
        assert others == []
        with pytest.raises(HalfDecided, match="rolled back"):
            await cluster.producer.half(halves[1].half_id).commit()


@pytest_twisted.ensureDeferred
async def test_what_nobody_decides_is_rolled_back_in_the_end() -> None:
    notes = Notes()
    async with InMemoryCluster({1: notes}) as cluster:
        half = await cluster.another_producer("payments").prepare(1, 1, b"x")
        cluster.clock.skip(3601)
        await cluster.settle()
        with pytest.raises(HalfDecided, match="because nobody decided in time"):
            await half.commit()
        assert notes.seen == []


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_told() -> None:
    async with InMemoryCluster({1: Notes()}) as cluster:
        with pytest.raises(InvalidItem, match="needs a producer with a name"):
            await cluster.producer.prepare(1, 1, b"x")
        payments = cluster.another_producer("payments")
        with pytest.raises(InvalidItem, match="check_back_after"):
            await payments.prepare(1, 1, b"x", check_back_after=-1)
        with pytest.raises(InvalidItem, match="looks like 1-17-42"):
            payments.half("1-2")
        with pytest.raises(HalfUnknown, match="there never was one"):
            await payments.half("1-1-99").commit()
        with pytest.raises(Refused, match="store 9"):
            await payments.half("9-1-1").commit()
        with pytest.raises(ValueError, match="check_back is for a producer with a name"):
            cluster.another_producer("", lambda half: Decision.COMMIT)
