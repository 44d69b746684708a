"""What clients do while the cluster is treated badly, and when they were last told that it works."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from twisted.internet.task import LoopingCall

from phxqueue.producer import Receipt
from tests.chaos.cluster import ChaosCluster
from tests.integration.ledger import Books, Entry, HandledLog, LedgerClient

#: Items a second in all, about: 2 producers, 12 uins each, 2 on their way per uin.
PRODUCERS, UINS, DEPTH, REST_S = 2, 12, 2, 0.15
#: How often what was handled is looked at: gaps in it are known as exactly.
LOOK_S = 0.05
#: Some items are large: they travel in messages and transactions of their own.
LARGE_SHARE, LARGE_BYTES, SMALL_BYTES = 0.005, 150_000, 400


class Service:
    """When anything was confirmed: how often, and the longest time without since the last look."""

    def __init__(self, reactor: Any) -> None:
        self.times = 0
        self._reactor = reactor
        self._last = reactor.seconds()
        self._longest = 0.0

    def saw(self) -> None:
        """It happened just now."""
        now = self._reactor.seconds()
        self.times += 1
        self._longest = max(self._longest, now - self._last)
        self._last = now

    def begin(self) -> None:
        """The next gap counts from the last time before now."""
        self._longest = 0.0

    @property
    def silence(self) -> float:
        """Seconds since the last time."""
        seconds: float = self._reactor.seconds() - self._last
        return seconds

    @property
    def longest(self) -> float:
        """The longest silence since `begin`, one that goes on included."""
        return max(self._longest, self.silence)


class Consumption:
    """When items of each uin were handled: the longest that any of them had to wait, since the last look.

    Every uin has something to be handled all the time, as long as there is service at all.

    Attributes:
        times: how many items were handled, by uin.
    """

    def __init__(self, reactor: Any, uins: Iterable[int]) -> None:
        self.times = dict.fromkeys(uins, 0)
        self._reactor = reactor
        self._last: dict[int, float] = {}
        self._longest = 0.0

    def saw(self, uins: Iterable[int]) -> None:
        """Items of these were handled just now."""
        now = self._reactor.seconds()
        for uin in uins:
            self.times[uin] += 1
            self._longest = max(self._longest, now - self._last.get(uin, now))
            self._last[uin] = now

    def begin(self) -> None:
        """The next wait counts from the last time before now."""
        self._longest = 0.0

    @property
    def longest(self) -> float:
        """The longest wait since `begin`, one that goes on included."""
        now: float = self._reactor.seconds()
        return max(self._longest, now - min(self._last.values(), default=now))


class BookkeepingClient(LedgerClient):
    """A LedgerClient that also keeps where each item was said to be, and tells of every confirmation."""

    def __init__(self, reactor: Any, producer: Any, uins: range, rng: random.Random, service: Service) -> None:
        super().__init__(reactor, producer, uins, DEPTH, rest_s=REST_S, pad=self._size)
        self.receipts: dict[Entry, Receipt] = {}
        self._rng = rng
        self._service = service

    def _size(self) -> int:
        return self._rng.randrange(LARGE_BYTES if self._rng.random() < LARGE_SHARE else SMALL_BYTES)

    def _confirmed(self, entry: Entry, receipt: Receipt) -> None:
        super()._confirmed(entry, receipt)
        self.receipts[entry] = receipt
        self._service.saw()


class Workload:
    """All bookkeeping clients of a round, and the eyes on the consumers.

    Attributes:
        service, consumption: of what was confirmed to producers, and of what consumers handled.
        log: what consumers handled; None before the start.
    """

    def __init__(self, reactor: Any, seed: str) -> None:
        self.service = Service(reactor)
        self.consumption = Consumption(reactor, range(1, 1 + PRODUCERS * UINS))
        self.log: HandledLog | None = None
        self.clients: list[BookkeepingClient] = []
        self._reactor = reactor
        self._seed = seed
        self._looking = LoopingCall(self._look)

    async def start(self, cluster: ChaosCluster) -> None:
        """Connect and begin to send."""
        for number in range(PRODUCERS):
            first = 1 + number * UINS
            rng = random.Random(f"{self._seed}/{number}")
            uins = range(first, first + UINS)
            client = BookkeepingClient(self._reactor, await cluster.producer(), uins, rng, self.service)
            self.clients.append(client)
            client.start()
        self.log = HandledLog(cluster.ledger)
        self._looking.clock = self._reactor
        self._looking.start(LOOK_S)

    def _look(self) -> None:
        assert self.log is not None
        before = len(self.log.lines)
        self.consumption.saw(line.uin for line in self.log.look().lines[before:])

    def close(self) -> None:
        """Look at the consumers no more."""
        if self._looking.running:
            self._looking.stop()

    async def stop(self) -> Books:
        """Send nothing more, wait for every outcome, and return the books of all."""
        books = Books()
        for client in self.clients:
            one = await client.stop()
            books.sent += one.sent
            books.confirmed |= one.confirmed
            books.unknown |= one.unknown
            books.refused |= one.refused
            books.errors += one.errors
        return books

    @property
    def receipts(self) -> dict[Entry, Receipt]:
        return {entry: receipt for client in self.clients for entry, receipt in client.receipts.items()}
