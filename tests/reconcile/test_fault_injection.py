"""Whatever is broken on the way of an item turns exactly the right row red, within one acknowledgement.

Everything is real but disks, sockets and consensus; each test reaches in at one seam. The seams are those of the tests:
nothing in the program knows of them. docs/guarantees.md names what each fault is seen by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import pytest_twisted

import phxqueue.consumer.worker as worker_module
from phxqueue.config import Reconcile
from phxqueue.consumer.slots import read_batch
from phxqueue.proto.digest import MASK64, item_digest
from phxqueue.proto.item_pb2 import BatchHeader, ItemBatch, Meta, QItem, QItems
from phxqueue.proto.store_pb2 import AckClaim, AddRequest, GetRequest, GetResponse
from tests.reconcile.rig import ITEMS, QUEUES, Books

#: The cursor of the item in question, in the queue of pub 1.
BROKEN = ITEMS + 7


class Fault(ABC):
    """Something that goes wrong with item BROKEN of pub 1.

    Attributes:
        groups: the consumer groups that it does harm to.
    """

    groups: tuple[int, ...] = (1, 2)

    def arm(self, books: Books) -> None:  # noqa: B027
        """From here on it goes wrong; ITEMS of each pub are finished, more are about to be enqueued."""

    def strike(self, books: Books) -> None:  # noqa: B027
        """All items are stored, nobody has read them yet."""

    @abstractmethod
    def mend(self, books: Books) -> None:
        """It is as it should be."""


class OnTheWayToTheStore(Fault):
    """A byte of an item is altered between the producer and the store (or in the producer's memory)."""

    def arm(self, books: Books) -> None:
        def alter(request: AddRequest) -> None:
            for batch in request.batches:
                if b"after 7 of pub 1" in batch.items:
                    batch.items = batch.items.replace(b"after 7 of pub 1", b"after 8 of pub 1")

        books.on_add = alter

    def mend(self, books: Books) -> None:
        """Nothing mends what is stored on a majority."""
        raise NotImplementedError


class InMemory(Fault):
    """A byte of an item is altered in the store's memory, or on its disk in a way that its checksum does not see."""

    def strike(self, books: Books) -> None:
        def alter(instance: int, payload: bytes) -> bytes:
            return payload.replace(b"after 7 of pub 1", b"after 8 of pub 1")

        books.on_cached = alter

    def mend(self, books: Books) -> None:
        books.on_cached = None
        books.forget_parsed()


class IndexSkipsAnItem(Fault):
    """A row of the index is missing: its item is in the log, and nobody will find it."""

    def strike(self, books: Books) -> None:
        index = books.index(1)
        row = index.find(BROKEN)
        self.columns = [array(column.typecode, column) for column in index._columns()]
        for column in index._columns():
            del column[row]

    def mend(self, books: Books) -> None:
        for column, whole in zip(books.index(1)._columns(), self.columns, strict=True):
            column[:] = whole
        books.forget_parsed()


class IndexPointsElsewhere(Fault):
    """A row of the index names another entry: another item is delivered in its place."""

    def strike(self, books: Books) -> None:
        index = books.index(1)
        row = index.find(BROKEN)
        self.instance = index.instances[row]
        index.instances[row] = index.instances[row - 1]

    def mend(self, books: Books) -> None:
        index = books.index(1)
        index.instances[index.find(BROKEN)] = self.instance


class OnTheWayToTheConsumer(Fault):
    """What a store answers is altered on its way to the consumers of group 2."""

    groups = (2,)

    def strike(self, books: Books) -> None:
        def alter(request: GetRequest, response: GetResponse) -> None:
            if request.consumer_group_id == 2 and request.queue_id == QUEUES[1]:
                self.alter(response)

        books.on_get = alter

    def mend(self, books: Books) -> None:
        books.on_get = None

    @abstractmethod
    def alter(self, response: GetResponse) -> None:
        """Change the answer."""

    def place(self, response: GetResponse) -> int | None:
        """Which of its batches holds the item."""
        for place, batch in enumerate(response.batches):
            if batch.first_cursor <= BROKEN < batch.first_cursor + batch.header.count:
                return place
        return None


class ItemAltered(OnTheWayToTheConsumer):
    """A byte of an item."""

    def alter(self, response: GetResponse) -> None:
        place = self.place(response)
        if place is not None:
            batch = response.batches[place]
            batch.items = batch.items.replace(b"after 7 of pub 1", b"after 8 of pub 1")


class ItemLost(OnTheWayToTheConsumer):
    """An item is left out, and its batch says that there is one less."""

    def alter(self, response: GetResponse) -> None:
        place = self.place(response)
        if place is not None:
            batch = response.batches[place]
            items = QItems.FromString(batch.items)
            del items.items[BROKEN - batch.first_cursor]
            batch.items = items.SerializeToString()
            batch.header.count -= 1


class BatchLost(OnTheWayToTheConsumer):
    """A whole batch."""

    def alter(self, response: GetResponse) -> None:
        place = self.place(response)
        if place is not None:
            del response.batches[place]


class BatchGarbled(OnTheWayToTheConsumer):
    """A batch that cannot be read any more: it becomes a dead letter, which is not what was enqueued."""

    def alter(self, response: GetResponse) -> None:
        place = self.place(response)
        if place is not None:
            response.batches[place].items = response.batches[place].items[:-1]


class ConsumerLosesAnItem(Fault):
    """The consumer itself takes an item out of a batch and forgets it."""

    def strike(self, books: Books) -> None:
        def forgetful(*arguments: object) -> Iterator[object]:
            for slot, ours in read_batch(*arguments):  # type: ignore[arg-type]
                if slot.message.buffer != b"after 7 of pub 1":
                    yield slot, ours

        worker_module.read_batch = forgetful  # type: ignore[assignment]

    def mend(self, books: Books) -> None:
        worker_module.read_batch = read_batch


MENDABLE = (
    InMemory, IndexSkipsAnItem, IndexPointsElsewhere, ItemAltered, ItemLost, BatchLost, BatchGarbled,
    ConsumerLosesAnItem,
)  # fmt: skip
ALL = (OnTheWayToTheStore, *MENDABLE)


@contextmanager
def mended(fault: Fault, books: Books) -> Iterator[None]:
    try:
        yield
    finally:
        worker_module.read_batch = read_batch
        books.on_add = books.on_get = books.on_cached = None


async def prepared(books: Books, fault: Fault) -> None:
    """A clean beginning, then the fault, then more items, which nobody reads before all are stored."""
    await books.enqueue("before")
    await books.cluster.settle()
    assert books.alarms.raised == {}
    assert all(audit.agreed and not audit.disputed for audit in books.audits().values())
    books.hold()
    fault.arm(books)
    await books.enqueue("after")
    fault.strike(books)
    books.release()


def assert_only_the_right_rows_are_red(books: Books, fault: Fault) -> None:
    assert set(books.standing()) == {(QUEUES[1], group) for group in fault.groups}
    for one in books.standing().values():
        facts = one.alarm.facts
        assert (one.alarm.kind, one.alarm.labels["pub"]) == ("mismatch", "1")
        assert ITEMS <= int(str(facts["first_cursor"])) <= BROKEN <= int(str(facts["last_cursor"])) < 2 * ITEMS
        kinds = ("items", "digest", "unreadable")
        assert [facts[f"stored_{one}"] for one in kinds] != [facts[f"claimed_{one}"] for one in kinds]
    for place, audit in books.audits().items():
        assert bool(audit.disputed) == (place in books.standing()), place


@pytest.mark.parametrize("kind", ALL)
@pytest_twisted.ensureDeferred
async def test_alarm_tells_at_the_first_acknowledgement(kind: type[Fault], logged_errors: object) -> None:
    fault, books = kind(), Books("alarm")
    with mended(fault, books):
        async with books.cluster:
            await prepared(books, fault)
            await books.until(lambda: books.all_acked(2 * ITEMS))
            assert_only_the_right_rows_are_red(books, fault)
            assert all(audit.disputed == 1 for audit in books.audits().values() if audit.disputed)


@pytest.mark.parametrize("kind", MENDABLE)
@pytest_twisted.ensureDeferred
async def test_strict_refuses_and_delivers_again_until_it_is_right(kind: type[Fault], logged_errors: object) -> None:
    fault, books = kind(), Books("strict")
    with mended(fault, books):
        async with books.cluster:
            await prepared(books, fault)
            await books.until(lambda: len(books.standing()) == len(fault.groups))
            red = [books.audits()[QUEUES[1], group] for group in fault.groups]
            assert all(audit.refused == audit.disputed for audit in red)
            assert_only_the_right_rows_are_red(books, fault)
            assert all(books.acked(1, group) <= BROKEN for group in fault.groups)
            fault.mend(books)
            await books.cluster.settle()
            assert books.standing() == {}
            assert books.all_acked(2 * ITEMS)
            for group in (1, 2):
                assert {f"after {number} of pub 1".encode() for number in range(ITEMS)} <= books.handled_of(
                    1, group, "after"
                )


@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest_twisted.ensureDeferred
async def test_what_is_wrong_for_good_is_refused_for_good_and_not_in_a_hurry(reconcile: Reconcile) -> None:
    fault, books = OnTheWayToTheStore(), Books(reconcile)
    with mended(fault, books):
        async with books.cluster:
            await prepared(books, fault)
            began = books.cluster.clock.seconds()
            await books.until(lambda: len(books.standing()) == 2)
            await books.until(lambda: books.cluster.clock.seconds() > began + 60)
            assert_only_the_right_rows_are_red(books, fault)
            audit = books.audits()[QUEUES[1], 1]
            if reconcile == "alarm":
                assert (audit.disputed, audit.refused) == (1, 0)
            else:
                assert 3 <= audit.refused == audit.disputed <= 100
                assert books.acked(1, 1) == books.acked(1, 2) == BROKEN, "all before it, and nothing from it on"
                facts = books.standing()[QUEUES[1], 1].alarm.facts
                assert facts["first_cursor"] == facts["last_cursor"] == BROKEN


@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest.mark.parametrize(("finished", "digest"), [(0, 0), (ITEMS - 1, 5), (ITEMS, 5), (ITEMS + 1, 5)])
@pytest_twisted.ensureDeferred
async def test_a_consumer_that_acknowledges_what_it_has_not_handled(
    reconcile: Reconcile, finished: int, digest: int
) -> None:
    books = Books(reconcile, groups=[1])
    async with books.cluster:
        await books.enqueue("before")
        await books.cluster.settle()
        claim = AckClaim(start=0, stop=ITEMS, count=finished, digest_sum=digest)
        answer = await books.call(
            GetRequest(
                topic_id=1, store_id=1, queue_id=QUEUES[1], consumer_group_id=2, prev_cursor=ITEMS, claims=[claim]
            )
        )
        assert set(books.standing()) == {(QUEUES[1], 2)}
        [alarm] = books.standing().values()
        facts = alarm.alarm.facts
        assert (facts["first_cursor"], facts["last_cursor"], alarm.alarm.labels) == (0, ITEMS - 1, {"pub": "1"})
        assert (facts["stored_items"], facts["claimed_items"]) == (ITEMS, finished)
        assert (answer.reset, answer.prev_cursor) == ((True, 0) if reconcile == "strict" else (False, ITEMS))


@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest_twisted.ensureDeferred
async def test_batches_that_were_never_readable_hold_nobody_up_and_are_told_of(
    reconcile: Reconcile, logged_errors: object
) -> None:
    books = Books(reconcile)

    def garble(request: AddRequest) -> None:
        for batch in request.batches:
            if batch.header.queue_id == QUEUES[1] and b"after 7 of pub 1" in batch.items:
                batch.items = batch.items[:-1]

    async with books.cluster:
        await books.enqueue("before")
        await books.cluster.settle()
        books.on_add = garble
        await books.enqueue("after")
        await books.until(lambda: books.all_acked(2 * ITEMS))
        found = {place: one.alarm.facts for place, one in books.standing().items() if one.alarm.kind == "unreadable"}
        assert set(found) == {(QUEUES[1], 1), (QUEUES[1], 2)}
        for facts in found.values():
            assert int(str(facts["first_cursor"])) <= BROKEN <= int(str(facts["last_cursor"]))
            assert facts["unreadable_items"] == 1
        assert len(await books.cluster.dead_letters()) == 2


# ---- batches that a store has merged ---------------------------------------------------------------------------------

#: Batches of one entry, items of each, and which of them is the bad one.
MERGED, EACH, BAD = 5, 4, 2


def merged_batches() -> list[ItemBatch]:
    """Of pub 1."""
    batches = []
    for number in range(MERGED):
        items = [
            QItem(
                buffer=b"merged %d.%d" % (number, place),
                count=0,
                meta=Meta(producer_id=9, number=number * EACH + place, handle_id=1, pub_id=1),
            )
            for place in range(EACH)
        ]
        header = BatchHeader(
            queue_id=QUEUES[1], pub_id=1, consumer_group_ids=3, count=EACH, producer_id=9, sequence=number + 1,
            digest_sum=sum(item_digest(9, item.meta.number, item.buffer) for item in items) & MASK64,
        )  # fmt: skip
        batches.append(ItemBatch(header=header, items=QItems(items=items).SerializeToString()))
    return batches


def flipped(content: bytes) -> bytes:
    """One bit of the first byte of the bad batch's second item, which tells what follows, is another one."""
    place = content.index(b"merged %d.1" % BAD) - 1  # the length of the buffer
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


def names(numbers: Iterable[int]) -> list[bytes]:
    return [b"merged %d.%d" % (number, place) for number in numbers for place in range(EACH)]


@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest_twisted.ensureDeferred
async def test_a_bad_batch_costs_none_of_those_that_it_was_merged_with(
    reconcile: Reconcile, logged_errors: object
) -> None:
    """A byte is flipped in one of several batches before it is stored."""
    books = Books(reconcile)
    async with books.cluster:
        batches = merged_batches()
        batches[BAD].items = flipped(batches[BAD].items)
        await books.add(*batches)
        await books.until(lambda: all(books.acked(1, group) == MERGED * EACH for group in (1, 2)))
        for group in (1, 2):
            assert [buffer for ours, _, buffer in books.handled if ours == group] == names({*range(MERGED)} - {BAD})
        found = books.standing()
        assert {place: one.alarm.kind for place, one in found.items()} == {
            (QUEUES[1], group): "unreadable" for group in (1, 2)
        }
        assert [one.alarm.facts["unreadable_items"] for one in found.values()] == [EACH, EACH]
        letters = await books.cluster.dead_letters()
        assert [letter.item.buffer for letter in letters] == [batches[BAD].items] * 2
        assert all(not audit.disputed for audit in books.audits().values())


@pytest.mark.parametrize("reconcile", ["alarm", "strict"])
@pytest_twisted.ensureDeferred
async def test_what_is_garbled_on_its_way_once_is_fetched_again(reconcile: Reconcile) -> None:
    books = Books(reconcile, groups=[2])
    garbled: list[int] = []

    def garble(request: GetRequest, response: GetResponse) -> None:
        for batch in response.batches:
            if not garbled and b"merged %d.1" % BAD in batch.items:
                garbled.append(batch.header.count)
                batch.items = flipped(batch.items)

    books.on_get = garble
    async with books.cluster:
        await books.add(*merged_batches())
        await books.until(lambda: books.acked(1, 2) == MERGED * EACH)
        assert garbled == [MERGED * EACH], "the store had merged them"
        assert [buffer for _, _, buffer in books.handled] == names(range(MERGED)), "each once, in order"
        assert books.standing() == {}
        assert await books.cluster.dead_letters() == []


@pytest_twisted.ensureDeferred
async def test_what_is_garbled_on_its_way_each_time_is_a_mismatch_of_that_batch(logged_errors: object) -> None:
    books = Books("alarm", groups=[2])

    def garble(request: GetRequest, response: GetResponse) -> None:
        for batch in response.batches:
            if b"merged %d.1" % BAD in batch.items:
                batch.items = flipped(batch.items)

    books.on_get = garble
    async with books.cluster:
        await books.add(*merged_batches())
        await books.until(lambda: books.acked(1, 2) == MERGED * EACH)
        assert [buffer for _, _, buffer in books.handled] == names({*range(MERGED)} - {BAD})
        assert {place: one.alarm.kind for place, one in books.standing().items()} == {(QUEUES[1], 2): "mismatch"}
        books.on_get = None
        assert len(await books.cluster.dead_letters()) == 1
