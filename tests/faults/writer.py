"""A process with a journal, to be struck: stores entries until it is killed or its journal has stopped.

    python -m tests.faults.writer DIRECTORY FIRST '{"cache_bytes": ...}' [PAYLOAD_BYTES [TRIM_EVERY]]

With TRIM_EVERY it trims what is chosen every so many instances, and keeps all log files.

It prints `open INCARNATION`, `holds FIRST LAST` (the run of entries found, all of them checked), then the number of
every instance that was told durable, `fatal REASON` when the journal has stopped (exit status 1), or `refused REASON`
when it could not be opened (exit status 3). It ends in order at SIGTERM.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.python.failure import Failure

from phxqueue.config.settings import JournalSettings
from phxqueue.journal.database import Database
from phxqueue.journal.errors import JournalError
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutChosen, PutEntry, TrimEntries, WantedIdentity, Write
from phxqueue.paxos.entry import entry_checksum

reactor: Any = the_reactor

NODE = WantedIdentity(cluster="test", store_id=1, node_id=0, paxos_groups=2)
FATAL, REFUSED = 1, 3
DEPTH = 4
UNCHOSEN = 10
"""The chosen mark follows so many instances behind: these many accepts are not known to be chosen."""


def payload_of(instance: int, size: int) -> bytes:
    return (b"%d " % instance * (size // 2 + 1))[:size]


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Writer:
    def __init__(self, directory: Path, first: int, settings: JournalSettings, size: int, trim_every: int = 0) -> None:
        self.status = 0
        self._next = first
        self._size = size
        self._trim_every = trim_every
        self._journal = Journal.open(
            directory,
            NODE,
            settings,
            reactor,
            self._fatal,
            verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
        )
        say("open", self._journal.identity.incarnation)
        state = self._journal.load_group(0)
        found = self._journal._reader.entries(0, state.first, state.chosen, 1 << 40) if state.chosen >= 0 else []
        found += state.entries
        for instance, entry in found:
            assert entry.payload == payload_of(instance, size), instance
        instances = [instance for instance, _ in found]
        assert instances == list(range(state.first, state.first + len(found))), instances
        say("holds", state.first, state.first + len(found) - 1)

    def run(self) -> int:
        for _ in range(DEPTH):
            reactor.callWhenRunning(self._submit)
        reactor.addSystemEventTrigger("before", "shutdown", self._close)
        reactor.run()
        return self.status

    def _submit(self) -> None:
        if not reactor.running or self.status:
            return
        instance, self._next = self._next, self._next + 1
        payload = payload_of(instance, self._size)
        entry = PutEntry(0, instance, 1, entry_checksum(0, payload), 0, payload)

        def done() -> None:
            say(instance)
            reactor.callLater(0, self._submit)

        chosen = max(-1, instance - UNCHOSEN)
        writes: list[Write] = [entry, PutChosen(0, chosen)]
        if self._trim_every and chosen > 0 and instance % self._trim_every == 0:
            writes.append(TrimEntries(0, chosen))
        try:
            self._journal.submit(writes, done)
        except JournalError as error:
            say("not taken:", error)

    def _fatal(self, reason: str) -> None:
        say("fatal", reason)
        self.status = FATAL
        reactor.stop()

    def _close(self) -> Any:
        return self._journal.close().addErrback(self._not_closed)

    def _not_closed(self, failure: Failure) -> None:
        failure.trap(JournalError)
        say("not closed:", failure.getErrorMessage())
        self.status = FATAL


def main() -> int:
    directory, first, settings, *more = sys.argv[1:]
    size, trim_every = ([int(number) for number in more] + [500, 0][len(more) :])[:2]
    if trim_every:
        Database.remove_old_logs = lambda self: 0  # type: ignore[method-assign]
    try:
        writer = Writer(Path(directory), int(first), JournalSettings(**json.loads(settings)), size, trim_every)
    except JournalError as error:
        say("refused", type(error).__name__, error)
        return REFUSED
    return writer.run()


if __name__ == "__main__":
    sys.exit(main())
