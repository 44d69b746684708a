"""Sends chosen entries from the own log to peers that lag behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.errors import CorruptEntry, JournalError
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import StoredEntry
from phxqueue.paxos.effects import ServeLearn
from phxqueue.paxos.entry import Entry
from phxqueue.paxos.messages import LearnReply, Message


def core_entry(stored: StoredEntry) -> Entry:
    """Return a stored entry as the core knows it."""
    return Entry(stored.ballot, stored.kind, stored.checksum, stored.payload)


class LearnServer:
    """Reads ranges of one group's log, off the reactor, at most one per peer at a time: peers ask again.

    Args:
        send: hands a message to the network.
        repair: asks the core to fetch an entry that turned out to be damaged here.
    """

    def __init__(
        self,
        group_id: int,
        node_id: int,
        journal: IJournal,
        send: Callable[[int, Message], None],
        repair: Callable[[int], None],
    ) -> None:
        self._group_id = group_id
        self._node_id = node_id
        self._journal = journal
        self._send = send
        self._repair = repair
        self._reading: set[int] = set()
        self._log = Logger(namespace="phxqueue.replica.learn")

    def serve(self, request: ServeLearn, last: int) -> None:
        """Answer a peer with what is chosen from `request.first` on, up to `last`, which is durable here."""
        if request.to in self._reading or request.first > last:
            return
        self._reading.add(request.to)
        reading = self._journal.read_entries(self._group_id, request.first, last, request.max_bytes)
        reading.addBoth(self._finished, request.to)
        reading.addCallbacks(self._reply, self._unreadable, callbackArgs=(request, last), errbackArgs=(request,))
        reading.addErrback(lambda failure: self._log.failure("serving a learner failed", failure))

    def _finished(self, result: Any, peer: int) -> Any:
        self._reading.discard(peer)
        return result

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
            self._repair(failure.value.instance)
