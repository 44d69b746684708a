"""Reads applied entries back: from memory, else from the journal, and a damaged one from a peer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.errors import CorruptEntry, JournalError, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.paxos.entry import Entry
from phxqueue.replica.entry_cache import EntryCache
from phxqueue.replica.errors import EntryUnreadable, Overloaded
from phxqueue.replica.interfaces import Clock


class EntryReader:
    """Serves payloads of one group. A corrupt entry is fetched again from a peer and never handed out.

    Args:
        repair: asks the core to fetch one chosen entry from a peer; its answer arrives through `repaired`.
        repair_timeout: seconds after which a reader stops waiting for a repair.
        max_waiting_repairs: readers that may wait for repairs at once; more fail with EntryUnreadable at once.
    """

    def __init__(
        self,
        group_id: int,
        journal: IJournal,
        clock: Clock,
        repair: Callable[[CorruptEntry], None],
        *,
        cache_bytes: int,
        repair_timeout: float = 5.0,
        max_waiting_repairs: int = 1000,
    ) -> None:
        self.cache = EntryCache(cache_bytes)
        self._group_id = group_id
        self._journal = journal
        self._clock = clock
        self._repair = repair
        self._repair_timeout = repair_timeout
        self._max_waiting_repairs = max_waiting_repairs
        self._waiting: dict[int, list[Deferred[Entry]]] = {}
        self._waiting_count = 0
        self._log = Logger(namespace="phxqueue.replica.reader")

    def read(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """Return the payloads of applied entries, in order; fails with EntryUnreadable or Overloaded."""
        cached: list[bytes | None] = [self.cache.get(instance) for instance in instances]
        missing = [instance for instance, payload in zip(instances, cached, strict=True) if payload is None]
        if not missing:
            return succeed([payload for payload in cached if payload is not None])
        return Deferred.fromCoroutine(self._read(cached, missing))

    def read_stored(self, instances: Sequence[int]) -> Deferred[list[bytes]]:
        """Return payloads as they lie in the journal; fails with EntryUnreadable (damaged ones too) or Overloaded."""

        def failed(failure: Failure) -> list[bytes]:
            failure.trap(JournalError)
            kind = Overloaded if failure.check(JournalOverloaded) else EntryUnreadable
            raise kind(f"group {self._group_id}: {failure.getErrorMessage()}")

        read = self._journal.read_instances(self._group_id, list(instances))
        return read.addCallbacks(lambda entries: [entry.payload for entry in entries], failed)

    async def _read(self, cached: list[bytes | None], missing: list[int]) -> list[bytes]:
        repaired: dict[int, bytes] = {}
        found: dict[int, bytes] = {}
        while True:
            wanted = [instance for instance in missing if instance not in repaired]
            try:
                # The journal verifies checksums.
                stored = await self._journal.read_instances(self._group_id, wanted)
                found = {instance: entry.payload for instance, entry in zip(wanted, stored, strict=True)}
                break
            except CorruptEntry as corrupt:
                # Each turn repairs one more of `missing`, so this ends.
                self._log.error("{corrupt}", corrupt=str(corrupt))
                repaired[corrupt.instance] = (await self.fetch(corrupt)).payload
            except JournalOverloaded as error:
                raise Overloaded(f"group {self._group_id}: {error}") from error
            except JournalError as error:
                raise EntryUnreadable(f"group {self._group_id}: {error}") from error
        found.update(repaired)
        rest = iter(missing)
        return [found[next(rest)] if payload is None else payload for payload in cached]

    def fetch(self, corrupt: CorruptEntry) -> Deferred[Entry]:
        """Have a damaged entry fetched from a peer (and written back); fails with EntryUnreadable."""
        if self._waiting_count >= self._max_waiting_repairs:
            return fail(EntryUnreadable(f"{corrupt}; {self._waiting_count} readers wait for repairs already"))
        waiting: Deferred[Entry] = Deferred(lambda gone: self._leave(corrupt.instance, gone))
        self._waiting_count += 1
        first = corrupt.instance not in self._waiting
        self._waiting.setdefault(corrupt.instance, []).append(waiting)
        timer = self._clock.callLater(self._repair_timeout, self._give_up, corrupt, waiting)

        def done(result: Any) -> Any:
            self._waiting_count -= 1
            if timer.active():
                timer.cancel()
            return result

        waiting.addBoth(done)
        if first:
            self._repair(corrupt)
        return waiting

    def repaired(self, instance: int, entry: Entry) -> None:
        """Take the news that the core has fetched an entry from a peer."""
        for waiting in self._waiting.pop(instance, ()):
            waiting.callback(entry)

    def _give_up(self, corrupt: CorruptEntry, waiting: Deferred[Entry]) -> None:
        self._leave(corrupt.instance, waiting)
        waiting.errback(EntryUnreadable(f"{corrupt}; no peer sent it within {self._repair_timeout} s"))

    def _leave(self, instance: int, waiting: Deferred[Entry]) -> None:
        """A reader waits no more. When it was the only one, the next one has to ask again."""
        readers = self._waiting.get(instance, [])
        if waiting in readers:
            readers.remove(waiting)
        if not readers:
            self._waiting.pop(instance, None)
