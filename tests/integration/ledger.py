"""A client that keeps books: what it sent, what was confirmed, and whether that is what was handled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.gather import gather
from phxqueue.producer import EnqueueError, OutcomeUnknown, Producer, ProducerClosed, Receipt
from tests.integration.cluster import TestedCluster

Entry = tuple[int, int]
"""(uin, number): the identity of an item; the numbers of a uin rise in the order of the calls."""


@dataclass
class Books:
    """What became of every item, as far as the producer was told."""

    sent: list[Entry] = field(default_factory=list)
    confirmed: set[Entry] = field(default_factory=set)
    unknown: set[Entry] = field(default_factory=set)
    refused: set[Entry] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)


class LedgerClient:
    """Enqueues for some uins at the same time, `depth` items of each on their way at once, until it is stopped.

    Args:
        rest_s: between two items of one of those `depth`.
        pad: how many bytes to put behind the number of an item (for tests.integration.handlers:record_number).
    """

    def __init__(
        self,
        reactor: Any,
        producer: Producer,
        uins: Iterable[int] = range(1, 9),
        depth: int = 3,
        *,
        rest_s: float = 0.0,
        pad: Callable[[], int] = lambda: 0,
    ) -> None:
        self.books = Books()
        self._rest_s = rest_s
        self._pad = pad
        self._reactor = reactor
        self._producer = producer
        self._numbers = dict.fromkeys(uins, 0)
        self._depth = depth
        self._stopping = False
        self._running: Deferred[list[None]] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._stopping = False
        self._running = Deferred.fromCoroutine(
            gather(self._send_for(uin) for uin in self._numbers for _ in range(self._depth))
        )

    async def stop(self) -> Books:
        """Send nothing more, and wait for every outcome."""
        self._stopping = True
        if self._running is not None:
            await self._running
        return self.books

    async def confirmed(self, more: int) -> None:
        """Wait until so many more items are confirmed."""
        wanted = len(self.books.confirmed) + more
        while len(self.books.confirmed) < wanted:
            await self._pause()

    def _pause(self, seconds: float = 0.01) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)

    async def _send_for(self, uin: int) -> None:
        while not self._stopping:
            entry = uin, self._numbers[uin]
            self._numbers[uin] += 1
            self.books.sent.append(entry)
            try:
                receipt = await self._producer.enqueue(1, 1, self._content(entry[1]), uin=uin)
            except ProducerClosed:
                return  # the test has failed elsewhere
            except EnqueueError as error:
                (self.books.unknown if isinstance(error, OutcomeUnknown) else self.books.refused).add(entry)
                self.books.errors.append(str(error))
                await self._pause()
            else:
                self._confirmed(entry, receipt)
                if self._rest_s:
                    await self._pause(self._rest_s)

    def _content(self, number: int) -> bytes:
        size = self._pad()
        return b"%d %s" % (number, bytes(size).replace(b"\0", b".")) if size else b"%d" % number

    def _confirmed(self, entry: Entry, receipt: Receipt) -> None:
        self.books.confirmed.add(entry)


@dataclass(frozen=True, slots=True)
class Handled:
    """One line of the consumers' ledger: which process handled what."""

    pid: int
    uin: int
    text: str


class HandledLog:
    """What the consumers wrote down (tests/integration/handlers.py), in the order in which it was handled."""

    def __init__(self, path: Path) -> None:
        self.lines: list[Handled] = []
        self.entries: list[Entry] = []
        self.distinct: set[Entry] = set()
        self._path = path
        self._read = 0

    def look(self) -> HandledLog:
        """Take in what was written since the last look, whole lines only."""
        if self._path.exists():
            with self._path.open("rb") as ledger:
                ledger.seek(self._read)
                new, _, _ = ledger.read().rpartition(b"\n")
            if new:
                self._read += len(new) + 1
                self._take(new.decode())
        return self

    def _take(self, content: str) -> None:
        for line in content.split("\n"):
            pid, uin, text = line.split(" ", 2)
            self.lines.append(Handled(int(pid), int(uin), text))
            if text.isdigit():
                self.entries.append((int(uin), int(text)))
                self.distinct.add(self.entries[-1])


def handled(path: Path) -> list[Entry]:
    """The items of a LedgerClient that were handled, in that order."""
    return HandledLog(path).look().entries


def handled_texts(cluster: TestedCluster) -> list[str]:
    """The content of everything that was handled, in that order."""
    return [line.text for line in HandledLog(cluster.ledger).look().lines]


async def everything_handled(cluster: TestedCluster, books: Books) -> list[Entry]:
    """Wait until all that was confirmed has been handled, check it, and return it in the order of its handling."""
    log = HandledLog(cluster.ledger)
    while books.confirmed - log.look().distinct:
        await cluster.pause()
    check(books, log.entries)
    return log.entries


def check(books: Books, found: Sequence[Entry]) -> None:
    """Nothing confirmed is lost, nothing is invented, each uin is in order. Twice is allowed: at least once."""
    lost = books.confirmed - set(found)
    assert not lost, f"{len(lost)} confirmed items were never handled: {sorted(lost)[:10]}"
    invented = set(found) - set(books.sent)
    assert not invented, f"{len(invented)} items were never sent: {sorted(invented)[:10]}"
    came_back = books.refused & set(found)
    assert not came_back, f"{len(came_back)} items are in the queue though refused: {sorted(came_back)[:10]}"
    last: dict[int, int] = {}
    for uin, number in dict.fromkeys(found):  # each at its first time: a redelivery begins again further back
        assert number > last.get(uin, -1), f"uin {uin}: {number} was handled after {last[uin]}"
        last[uin] = number
