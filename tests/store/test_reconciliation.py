"""Claims against what is stored: the true ones agree, whatever they cover; those with any fault do not."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.proto.digest import MASK64, Claim, item_digest
from phxqueue.proto.item_pb2 import ItemBatch, Meta, QItem, QItems
from phxqueue.store.entries import ParsedEntry
from phxqueue.store.index import QueueIndex
from phxqueue.store.queues import StoreQueues
from phxqueue.store.reconciliation import Audit, dispute
from phxqueue.store.views import View
from tests.store.fakes import VALUE, batch, command


@dataclass(frozen=True, slots=True)
class Stored:
    """One item, as the test knows it."""

    cursor: int
    mask: int
    digest: int


class Book:
    """A queue with its log, and beside it a plain list of what is in it."""

    def __init__(self) -> None:
        self.machine = StoreQueues()
        self.log: list[bytes] = []
        self.items: list[Stored] = []
        self.reads = 0
        self._number = 0

    @property
    def index(self) -> QueueIndex:
        return self.machine.queues[1]

    def make(self, count: int, mask: int) -> ItemBatch:
        """A batch of queue 1 with real items."""
        items, digest = QItems(), 0
        for _ in range(count):
            self._number += 1
            buffer = b"item %d" % self._number
            items.items.append(QItem(buffer=buffer, meta=Meta(producer_id=9, number=self._number)))
            one = item_digest(9, self._number, buffer)
            self.items.append(Stored(len(self.items), mask, one))
            digest += one
        return batch(1, count, items=items.SerializeToString(), mask=mask, digest=digest & MASK64)

    def append(self, *batches: ItemBatch) -> None:
        """One entry with these batches, and one of another queue among them."""
        payload = command(batch(2, 1), *batches)
        self.machine.apply(len(self.log), VALUE, payload)
        self.log.append(payload)

    def entry(self, instance: int) -> ParsedEntry | None:
        self.reads += 1
        return ParsedEntry(self.log[instance], ())

    def claim(self, start: int, stop: int, mask: int) -> Claim:
        """What an honest consumer claims."""
        ours = [item for item in self.items if start <= item.cursor < stop and (not mask or item.mask & mask)]
        return Claim(start, stop, len(ours), sum(item.digest for item in ours) & MASK64)

    def audit(self, claim: Claim, mask: int, rows: int = 1000) -> Audit:
        audit = Audit(self.index, claim.start, claim.stop, View(mask))
        for _ in range(1000):
            if audit.step(self.entry, rows, 64):
                return audit
        raise AssertionError("the audit does not come to an end")


def book_of(rng: random.Random) -> Book:
    """A queue as producers and retries make it: batches of several masks, alone and together in an entry."""
    book = Book()
    for _ in range(rng.randint(1, 12)):
        book.append(*(book.make(rng.randint(1, 5), rng.choice([1, 2, 3, 3])) for _ in range(rng.randint(1, 4))))
    return book


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2]), st.integers(1, 5))
def test_what_is_true_agrees_wherever_it_begins_and_ends(seed: int, mask: int, rows: int) -> None:
    rng = random.Random(seed)
    book = book_of(rng)
    start, stop = sorted(rng.sample(range(len(book.items) + 1), 2))
    claim = book.claim(start, stop, mask)
    assert book.audit(claim, mask, rows).agrees(claim)


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2]))
def test_what_is_false_does_not_agree(seed: int, mask: int) -> None:
    rng = random.Random(seed)
    book = book_of(rng)
    start, stop = sorted(rng.sample(range(len(book.items) + 1), 2))
    claim = book.claim(start, stop, mask)
    for false in (
        replace(claim, count=claim.count + 1),
        replace(claim, count=claim.count - 1),
        replace(claim, digest_sum=claim.digest_sum ^ (1 << rng.randrange(64))),
    ):
        assert not book.audit(false, mask).agrees(false)


def test_whole_rows_of_one_kind_are_checked_without_looking_at_items() -> None:
    book = Book()
    for _ in range(20):
        book.append(book.make(3, 1))
        book.append(book.make(2, 2))
    claim = book.claim(0, len(book.items), 1)
    assert claim.count == 60
    assert book.audit(claim, 1).agrees(claim)
    assert book.reads == 0


def test_entries_that_are_not_in_memory_are_named_and_then_used() -> None:
    book = Book()
    for _ in range(10):
        book.append(book.make(2, 1), book.make(2, 3))
    claim = book.claim(1, 39, 2)
    audit = Audit(book.index, 1, 39, View(2))
    read: set[int] = set()

    def entry(instance: int) -> ParsedEntry | None:
        return book.entry(instance) if instance in read else None

    rounds = 0
    while not audit.step(entry, 1000, 4):
        assert 1 <= len(audit.missing) <= 4
        assert not read.intersection(audit.missing)
        read.update(audit.missing)
        rounds += 1
    assert rounds == 3
    assert audit.agrees(claim)


def test_a_batch_that_cannot_be_read_counts_as_its_header_says() -> None:
    book = Book()
    broken = batch(1, 3, items=b"\x00\x01", mask=1, digest=77)
    book.append(broken, book.make(2, 3))
    claim = Claim(0, 4, 4, (77 + book.items[0].digest) & MASK64)
    assert book.audit(claim, 1).agrees(claim)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Claim(0, 4, 3, 0), "cursors 0 to 3: 4 items are stored and only 3 were finished: 1 were lost"),
        (Claim(0, 4, 6, 0), "cursors 0 to 3: 4 items are stored but 6 were finished: 2 were invented"),
        (Claim(0, 4, 4, 5), "one or more were altered, or handled in the place of others"),
    ],
)
def test_a_dispute_says_what_is_wrong(change: Claim, said: str) -> None:
    book = Book()
    book.append(book.make(4, 1))
    assert said in dispute(change, book.audit(change, 1))


def test_what_a_consumer_could_not_read_is_looked_at_closely() -> None:
    book = Book()
    broken = batch(1, 3, items=b"\x00\x01", mask=1, digest=77)
    book.append(broken)
    for _ in range(3):
        book.append(book.make(2, 1))
    digests = (77 + sum(item.digest for item in book.items)) & MASK64
    for unreadable, right in ((3, True), (2, False), (5, False)):
        claim = Claim(0, 9, 9, digests, (), unreadable)
        audit = Audit(book.index, 0, 9, View(1), verify=True)
        assert audit.step(book.entry, 1000, 64)
        assert audit.agrees(claim) == right
    assert book.audit(Claim(0, 9, 9, digests), 1).agrees(Claim(0, 9, 9, digests)), "as older consumers claim it"
