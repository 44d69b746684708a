"""A reader as the stores know it: where it stands in its queue, in which life of the queue, and who it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from phxqueue.consumer.claims import Ack
from phxqueue.consumer.settings import ConsumerSettings
from phxqueue.consumer.source import Source
from phxqueue.proto.methods import GET
from phxqueue.proto.store_pb2 import GetRequest, GetResponse

#: Long polls of several queues end at the same multiples of so many seconds.
TOGETHER_S = 0.25


class Reader:
    """Says Get for one queue.

    Attributes:
        position: where the store thinks we are; None: it shall say where our group stands.
    """

    def __init__(
        self, source: Source, settings: ConsumerSettings, clock: IReactorTime, jitter: Callable[[], float]
    ) -> None:
        self.position: int | None = None
        self._history: int | None = None  # of the store, in which our cursors mean something
        self._generation: int | None = None  # of the group in the queue, likewise
        self._id = int.from_bytes(os.urandom(8), "little") or 1
        self._fetched = False  # the store may have handed something out
        self._source = source
        self._settings = settings
        self._clock = clock
        self._jitter = jitter

    def fetch(self, ack: Ack | None, items: int, size: int) -> Deferred[Any]:
        """Acknowledge, and ask for so many items or bytes; wait for the first one, if there is none."""
        wait_s = self._wait_s()
        request = self._request(ack)
        request.limit = items
        request.limit_bytes = size
        request.wait_ms = int(wait_s * 1000)
        request.reader_id = self._id
        self._fetched = True
        searching = GetRequest()
        searching.CopyFrom(request)
        searching.wait_ms = 0
        settings = self._settings
        return self._source.caller.call(
            self._source.route,
            GET,
            request,
            settings.get_deadline_s + wait_s,
            try_timeout_s=settings.try_timeout_s + wait_s,
            searching=searching,
        )

    def acknowledge(self, ack: Ack) -> Deferred[Any]:
        """Acknowledge, and ask for nothing."""
        return self._source.caller.call(self._source.route, GET, self._request(ack), self._settings.get_deadline_s)

    def leave(self, ack: Ack | None) -> Deferred[Any] | None:
        """Acknowledge, and tell the store that we end of our own will. None: there is nothing to tell."""
        if ack is None and not self._fetched:
            return None
        request = self._request(ack)
        request.reader_id = self._id
        request.leaving = True
        return self._source.caller.call(self._source.route, GET, request, self._settings.final_ack_s)

    def lives_in(self, response: GetResponse) -> bool:
        """Whether our cursors mean the same to whoever answered so."""
        return (self._history, self._generation) == (response.history, response.generation)

    def follow(self, response: GetResponse) -> None:
        """The next Get goes on where this answer ends."""
        self._history, self._generation = response.history, response.generation
        self.position = response.next_cursor

    def _wait_s(self) -> float:
        """How long a Get may wait: in groups, for answers that come together cost less than one by one.

        Not all at the same moment: a thousand idle queues that began together would come back together.
        """
        wait_s = self._settings.get_wait_s * (0.75 + 0.25 * self._jitter())
        over = (self._clock.seconds() + wait_s) % TOGETHER_S
        return wait_s - over if wait_s > 8 * TOGETHER_S else wait_s

    def _request(self, ack: Ack | None) -> GetRequest:
        place = self._source.place
        request = GetRequest(
            topic_id=self._source.topic_id,
            store_id=place.store_id,
            queue_id=place.queue_id,
            consumer_group_id=place.consumer_group_id,
            fencing_token=self._source.fencing_token,
        )
        if self.position is not None:
            request.next_cursor = self.position
        if self._history is not None:
            request.history = self._history
        if self._generation is not None:
            request.generation = self._generation
        if ack is not None:
            ack.write(request)
        return request
