"""Reads queues for `phxqueue consume`: prints first, acknowledges afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import DeferredLock

from phxqueue.admin.rendering import Place
from phxqueue.config import DEAD_LETTER_BASE, group_bit
from phxqueue.consumer.claims import Ack, Claims
from phxqueue.net.routing import Caller, Route
from phxqueue.proto.digest import MASK64, Claim, item_digest
from phxqueue.proto.item_pb2 import QItem, QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetBatch, GetRequest, GetResponse

FETCH_ITEMS = 1000
FETCH_BYTES = 1 << 20
WAIT_MS = 10_000
#: Beyond the long poll itself: how long a Get may take, a failover included.
DEADLINE_S = 5.0
#: Printed with one write; what a broken pipe makes us print again next time.
WRITE_BYTES = 64 * 1024


class OutputFull(Exception):
    """As many items are printed as were wanted."""


class Output:
    """Where all queues print to, one at a time, up to `limit` items in all.

    Args:
        write: writes bytes completely before it is done.
        render: turns an item into bytes.
        limit: items to print at most; None: no limit.
    """

    def __init__(
        self, write: Callable[[bytes], Any], render: Callable[[QItem, Place], bytes], limit: int | None
    ) -> None:
        self.printed = 0
        self._write = write
        self._render = render
        self._limit = limit
        self._turn = DeferredLock()

    @property
    def room(self) -> int:
        """Items that may still be printed."""
        return FETCH_ITEMS if self._limit is None else max(self._limit - self.printed, 0)

    async def print(self, items: Iterator[tuple[Place, QItem]], printed: Callable[[Place, QItem], None]) -> None:
        """Print items in order; `printed` is told of each once it has been written.

        Raises:
            OutputFull: the limit is reached; what fits has been printed.
            BrokenPipeError: nobody reads; of what was not written `printed` is not told.
        """
        await self._turn.acquire()
        try:
            piece: list[tuple[Place, QItem]] = []
            text = b""
            for place, item in items:
                if self._limit is not None and self.printed + len(piece) >= self._limit:
                    break
                piece.append((place, item))
                text += self._render(item, place)
                if len(text) >= WRITE_BYTES:
                    await self._flush(piece, text, printed)
                    piece, text = [], b""
            await self._flush(piece, text, printed)
        finally:
            self._turn.release()
        if not self.room:
            raise OutputFull

    async def _flush(
        self, piece: list[tuple[Place, QItem]], text: bytes, printed: Callable[[Place, QItem], None]
    ) -> None:
        if text:
            await self._write(text)
        for place, item in piece:
            self.printed += 1
            printed(place, item)


@dataclass(frozen=True, slots=True)
class Reading:
    """What all readers of one command have in common.

    peek: move no cursor. follow: wait for more when a queue is empty.
    """

    topic_id: int
    consumer_group_id: int
    peek: bool
    follow: bool


class QueueReader:
    """Reads one queue of a consumer group until it is told to stop (cancelled), or the queue is empty."""

    def __init__(
        self, reading: Reading, caller: Caller, route: Route, store_id: int, queue_id: int, output: Output
    ) -> None:
        self.name = f"store {store_id} queue {queue_id}"
        self.resets = 0
        self._reading = reading
        self._caller = caller
        self._route = route
        self._store_id = store_id
        self._queue_id = queue_id
        self._output = output
        self._next: int | None = None  # where the next Get starts
        self._history: int | None = None  # of the store, in which these cursors mean something
        self._generation: int | None = None  # of the group in the queue, likewise
        self._finished = 0  # everything below has been printed
        self._acked: int | None = None  # None: not known yet
        self._claims = Claims()
        self._count = 0  # printed or passed over since the last claim
        self._digest_sum = 0

    async def run(self) -> None:
        """Fetch, print, acknowledge with the next fetch. Raises what `Output.print` raises, and RpcError."""
        while True:
            response = await self._get(self._output.room, WAIT_MS if self._reading.follow else 0)
            self._resynchronize(response)
            await self._output.print(self._items(response), self._printed)
            self._finished = max(self._finished, response.next_cursor)
            self._next = response.next_cursor
            if not response.batches and not self._reading.follow:
                return

    async def acknowledge(self) -> None:
        """Tell the store what has been printed since the last Get."""
        if not self._reading.peek and self._acked is not None and self._finished > self._acked:
            await self._get(0, 0)

    async def _get(self, limit: int, wait_ms: int) -> GetResponse:
        request = GetRequest(
            topic_id=self._reading.topic_id,
            store_id=self._store_id,
            queue_id=self._queue_id,
            consumer_group_id=self._reading.consumer_group_id,
            limit=min(limit, FETCH_ITEMS),
            limit_bytes=FETCH_BYTES,
            wait_ms=wait_ms,
            random=self._reading.peek,
        )
        if self._next is not None:
            request.next_cursor = self._next
        if self._history is not None:
            request.history = self._history
        if self._generation is not None and not self._reading.peek:
            request.generation = self._generation
        ack = self._take_ack()
        if ack is not None:
            ack.write(request)
        wait_s = wait_ms / 1000
        searching = GetRequest()
        searching.CopyFrom(request)
        searching.wait_ms = 0
        response: GetResponse = await self._caller.call(
            self._route,
            GET,
            request,
            DEADLINE_S + wait_s,
            try_timeout_s=wait_s + DEADLINE_S / 2,
            searching=searching,
        )
        self._claims.settle(response.durable_cursor)
        return response

    def _take_ack(self) -> Ack | None:
        if self._reading.peek or self._acked is None or self._finished <= self._acked:
            return None
        self._claims.add(Claim(self._acked, self._finished, self._count, self._digest_sum & MASK64))
        self._acked = self._finished
        self._count = self._digest_sum = 0
        return self._claims.ack()

    def _resynchronize(self, response: GetResponse) -> None:
        """Follow the store when it says that the group stands elsewhere: somebody else reads for it, too, or the store
        was built from a backup.
        """
        self._history, self._generation = response.history, response.generation
        if self._acked is not None and not response.reset:
            return
        if self._next is not None:
            self.resets += 1
        self._finished = self._acked = response.prev_cursor
        self._count = self._digest_sum = 0
        self._claims.clear()

    def _items(self, response: GetResponse) -> Iterator[tuple[Place, QItem]]:
        start = response.prev_cursor if self._next is None or response.reset else self._next
        for batch in response.batches:
            yield from self._items_of(batch, start)

    def _items_of(self, batch: GetBatch, start: int) -> Iterator[tuple[Place, QItem]]:
        """The items of a batch that are ours: it may begin before `start` and hold other groups' items."""
        bit = group_bit(self._reading.consumer_group_id)
        everything = self._queue_id >= DEAD_LETTER_BASE
        for offset, item in enumerate(QItems.FromString(batch.items).items):
            cursor = batch.first_cursor + offset
            mask = item.consumer_group_ids or batch.header.consumer_group_ids
            if cursor < start:
                continue
            if everything or mask & bit:
                yield Place(self._store_id, self._queue_id, cursor), item
            else:
                self._done(cursor, item)

    def _printed(self, place: Place, item: QItem) -> None:
        self._done(place.cursor, item)

    def _done(self, cursor: int, item: QItem) -> None:
        """An item is printed, or is for other groups."""
        self._finished = cursor + 1
        self._count += 1
        self._digest_sum += item_digest(item.meta.producer_id, item.meta.number, item.buffer)
