"""One dead-letter queue: reading it, and taking letters out of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from phxqueue.admin.dlq.letters import Filter, Letter, LetterId, group_of
from phxqueue.config import Topic, dead_letter_queue
from phxqueue.consumer.claims import Ack
from phxqueue.net.routing import Caller
from phxqueue.net.status import RpcError, Status
from phxqueue.producer.routes import store_route
from phxqueue.proto.digest import MASK64, Claim, item_digest
from phxqueue.proto.item_pb2 import QItems
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetBatch, GetRequest, GetResponse

FETCH_ITEMS = 500
FETCH_BYTES = 1 << 20
DEADLINE_S = 5.0

Put = Callable[[Letter], "Deferred[Any]"]
"""put(letter): enqueue something in the place of a letter; fires when that is durable."""


@dataclass(slots=True)
class Standing:
    """How far a consumer group is in a dead-letter queue, and what lies behind its position and was read."""

    acked: int
    count: int = 0
    digest_sum: int = 0
    taking: bool = False  # a letter of its has been taken out: all behind it moves


@dataclass(slots=True)
class Taken:
    """What became of the letters of a queue."""

    seen: int = 0
    taken: int = 0
    moved: int = 0  # stayed, but lie at the end of the queue now


class DeadLetters:
    """The dead letters of one pub in one store: of whichever consumer groups, also ones that our files do not know.

    Groups may have been created at run time, or be gone: letters say whose they are.
    """

    def __init__(self, caller: Caller, topic: Topic, store_id: int, pub_id: int) -> None:
        self.store_id = store_id
        self.pub_id = pub_id
        self._caller = caller
        self._topic = topic
        self._queue_id = dead_letter_queue(pub_id)
        self._route = store_route(topic, store_id, topic.store(store_id).group_of_queue(self._queue_id))
        self._standings: dict[int, Standing] = {}

    async def read(self) -> AsyncIterator[Letter]:
        """Yield the letters that are there, oldest first; moves nothing.

        Raises:
            RpcError: as the store answers.
        """
        async for page in self._pages(frozenset()):
            for letter in page:
                if self._is_there(letter):
                    yield letter

    async def take(self, wanted: Filter, most: int, replace: Put, keep: Put) -> Taken:
        """Take letters out.

        Args:
            most: no more of them.
            replace: called with each letter that is taken out.
            keep: enqueues a copy of a letter at the end of this very queue.

        Raises:
            RpcError: as the store answers.
            EnqueueError: of `replace` or `keep`; what was not acknowledged until then is still there.
        """
        done = Taken()
        groups = await self._groups_of(wanted, most)
        async for page in self._pages(groups):
            puts: list[Deferred[Any]] = []
            for letter in page:
                if not self._is_there(letter):
                    continue
                done.seen += 1
                if letter.group not in groups:
                    continue
                # Whatever is acknowledged is gone: so everything of the group moves, in its order.
                self._standings[letter.group].taking = True
                if done.taken < most and wanted.fits(letter):
                    puts.append(replace(letter))
                    done.taken += 1
                else:
                    puts.append(keep(letter))
                    done.moved += 1
            for stored, outcome in await DeferredList(puts, consumeErrors=True):
                if not stored:
                    outcome.raiseException()
            await self._acknowledge(self._position)
        return done

    async def _groups_of(self, wanted: Filter, most: int) -> set[int]:
        """The consumer groups of the letters that will be taken out."""
        groups: set[int] = set()
        async for letter in self.read():
            if wanted.fits(letter):
                groups.add(letter.group)
                most -= 1
                if not most:
                    break
        return groups

    def _is_there(self, letter: Letter) -> bool:
        standing = self._standings.get(letter.group)
        return standing is not None and letter.place.cursor >= standing.acked

    async def _pages(self, taken_from: Collection[int]) -> AsyncIterator[list[Letter]]:
        """Everything from the oldest that is kept to where the queue ends now, letters and what was one.

        Args:
            taken_from: groups whose letters will be acknowledged: what each passes is added up from its position on.
        """
        self._standings = {}
        for group in sorted(taken_from):
            await self._find_standing(group)
        response = await self._get(GetRequest(random=True))
        self._position, end = response.next_cursor, response.end_cursor
        while self._position < end:
            request = GetRequest(next_cursor=self._position, limit=FETCH_ITEMS, limit_bytes=FETCH_BYTES, random=True)
            response = await self._get(request)
            page = [letter for batch in response.batches for letter in self._letters(batch)]
            for group in sorted({letter.group for letter in page}.difference(self._standings, {0})):  # 0: nobody's
                await self._find_standing(group)
            if response.next_cursor <= self._position:
                return
            self._position = response.next_cursor
            yield page

    async def _find_standing(self, group: int) -> None:
        self._standings[group] = Standing((await self._get(GetRequest(consumer_group_id=group))).prev_cursor)

    def _letters(self, batch: GetBatch) -> list[Letter]:
        """The letters of a batch that begins where it may, and what each adds to every group's sums."""
        letters = []
        for cursor, item in enumerate(QItems.FromString(batch.items).items, batch.first_cursor):
            if cursor < self._position:
                continue
            digest = item_digest(item.meta.producer_id, item.meta.number, item.buffer)
            for standing in self._standings.values():
                if cursor >= standing.acked:
                    standing.count += 1
                    standing.digest_sum += digest
            place = LetterId(self.store_id, self.pub_id, cursor)
            group = group_of(item, batch.header.consumer_group_ids)
            letters.append(Letter(place, item, group, batch.timestamp_ms))
        return letters

    async def _acknowledge(self, position: int) -> None:
        """What was taken out, or lies at the end now, is done with."""
        for group, standing in self._standings.items():
            if standing.taking and position > standing.acked:
                claim = Claim(standing.acked, position, standing.count, standing.digest_sum & MASK64)
                request = GetRequest(consumer_group_id=group)
                Ack(position, (claim,)).write(request)
                response = await self._get(request)
                if response.prev_cursor < position:
                    raise RpcError(
                        Status.VERSION_MISMATCH,
                        f"somebody else works on the dead letters of pub {self.pub_id} (store {self.store_id}): look "
                        "at them again",
                    )

    async def _get(self, request: GetRequest) -> GetResponse:
        request.topic_id, request.store_id, request.queue_id = self._topic.topic_id, self.store_id, self._queue_id
        response: GetResponse = await self._caller.call(
            self._route, GET, request, DEADLINE_S, try_timeout_s=DEADLINE_S / 2
        )
        return response
