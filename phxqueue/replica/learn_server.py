"""Sends chosen entries from the own log to peers that lag behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.errors import CorruptEntry, JournalError
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import StoredEntry
from phxqueue.paxos.effects import ServeLearn
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.messages import LearnReply, Message
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.pace import Pace

PIECE_BYTES = 1 << 20
"""Most that is read for one answer: larger ones would hold up the reactor while they are encoded."""
LONGEST_WAIT_S = 0.25
"""An answer is not held back longer: the peer would ask another."""


def core_entry(stored: StoredEntry) -> Entry:
    """Return a stored entry as the core knows it."""
    return Entry(stored.ballot, stored.kind, stored.checksum, stored.payload)


class LearnServer:
    """Reads ranges of one group's log, off the reactor, at most one per peer at a time: peers ask again.

    Args:
        send: hands a message to the network.
        repair: asks the core to fetch an entry that turned out to be damaged here.
        pace: what all groups of the node together may give; a peer that catches up must not starve those that work.
    """

    def __init__(
        self,
        group_id: int,
        node_id: int,
        journal: IJournal,
        send: Callable[[int, Message], None],
        repair: Callable[[CorruptEntry], None],
        clock: Clock,
        pace: Pace,
    ) -> None:
        self._group_id = group_id
        self._node_id = node_id
        self._journal = journal
        self._send = send
        self._repair = repair
        self._clock = clock
        self._pace = pace
        self._reading: set[int] = set()
        self._log = Logger(namespace="phxqueue.replica.learn")

    def serve(self, request: ServeLearn, last: int) -> None:
        """Answer a peer with what is chosen from `request.first` on, up to `last`, which is durable here."""
        if request.to in self._reading or request.first > last:
            return
        if self._pace.behind(self._clock.seconds()) > LONGEST_WAIT_S:
            return  # it could not be held back for long enough: who sends anyway keeps no pace
        self._reading.add(request.to)
        size = min(request.max_bytes, PIECE_BYTES)
        reading = self._journal.read_entries(self._group_id, request.first, last, size)
        reading.addCallback(self._in_time)
        reading.addBoth(self._finished, request.to)
        reading.addCallbacks(self._reply, self._unreadable, callbackArgs=(request, last), errbackArgs=(request,))
        reading.addErrback(lambda failure: self._log.failure("serving a learner failed", failure))

    def _finished(self, result: Any, peer: int) -> Any:
        self._reading.discard(peer)
        return result

    def _in_time(
        self, stored: list[tuple[int, StoredEntry]]
    ) -> list[tuple[int, StoredEntry]] | Deferred[list[tuple[int, StoredEntry]]]:
        """Hold the answer back until the pace allows it."""
        wait = self._pace.wait(sum(len(entry.payload) for _, entry in stored), self._clock.seconds())
        if wait <= 0:
            return stored
        later: Deferred[list[tuple[int, StoredEntry]]] = Deferred()
        self._clock.callLater(min(wait, LONGEST_WAIT_S), later.callback, stored)
        return later

    def _reply(self, stored: list[tuple[int, StoredEntry]], request: ServeLearn, last: int) -> None:
        entries = tuple((instance, core_entry(entry)) for instance, entry in stored)
        self._send(request.to, LearnReply(self._node_id, request.to, request.first, last, entries))

    def _unreadable(self, failure: Failure, request: ServeLearn) -> None:
        failure.trap(JournalError)
        self._log.error(
            "group {group}: cannot read for node {peer}: {reason}",
            group=self._group_id,
            peer=request.to,
            reason=failure.getErrorMessage(),
        )
        if isinstance(failure.value, CorruptEntry):
            self._repair(failure.value)
