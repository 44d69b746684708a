"""At start-up: applying what was chosen before and is in the log, but not in the state machine's checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from phxqueue.journal.errors import CorruptEntry, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.replica.entry_reader import EntryReader
from phxqueue.replica.errors import EntryUnreadable
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.learn_server import core_entry

if TYPE_CHECKING:
    from phxqueue.replica.group_runtime import GroupRuntime

_log = Logger(namespace="phxqueue.replica.replay")


async def replay(
    group: GroupRuntime, journal: IJournal, reader: EntryReader, clock: Clock, max_bytes: int, retry_after: float
) -> int:
    """Apply what the log holds beyond the checkpoint; return how many entries that were.

    The group takes part in consensus meanwhile but serves nothing. A damaged entry is fetched from a peer, for as
    long as it takes; when all have trimmed it, a checkpoint takes its place.

    Args:
        max_bytes: how much of the log is held in memory at once.
        retry_after: the pause in seconds after which peers are asked again.
    """
    replayed = 0
    while group.behind:
        first = group.state_machine.applied + 1
        try:
            stored = await journal.read_entries(group.group_id, first, group.core.chosen, max_bytes)
            entries = [(instance, core_entry(entry)) for instance, entry in stored]
        except JournalOverloaded as busy:
            _log.warn("replay waits: {reason}", reason=str(busy))
            await _pause(clock, retry_after)
            continue
        except CorruptEntry as corrupt:
            _log.error("replay: {corrupt}", corrupt=str(corrupt))
            try:
                entries = [(corrupt.instance, await reader.fetch(corrupt))]
            except EntryUnreadable as unreadable:
                _log.error("replay waits: {reason}", reason=str(unreadable))
                group.on_checkpoint_needed(None)
                await _pause(clock, retry_after)
                continue
        if group.state_machine.applied + 1 == first:  # else a checkpoint was installed meanwhile
            group.apply_stored(entries)
            replayed += len(entries)
    return replayed


def _pause(clock: Clock, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred()
    clock.callLater(seconds, waiting.callback, None)
    return waiting
