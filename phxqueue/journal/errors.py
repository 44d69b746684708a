"""What can go wrong in the journal, one class per case, each text a sentence that says what to do.

At start-up `Journal.open` raises `WrongIdentity`, `DirectoryLocked`, `FormatVersion`, `Corrupt` or `Unusable`; all of
them mean "do not start this node". While running, a read may fail with `EntryMissing` or `CorruptEntry`; both concern
one entry and leave the journal in service. `JournalOverloaded` refuses one submission. Everything else that fails
while writing ends in `on_fatal`, never in an exception at the caller.
"""

from __future__ import annotations

START_OVER = (
    "empty the whole data directory and start the node: it comes back as a new "
    "incarnation, which does not vote before `phxqueue members replace` has let it in again"
)
"""The remedy for a directory that can no longer say what the node has promised and accepted."""


class JournalError(Exception):
    """Base of everything the journal raises."""


class WrongIdentity(JournalError):
    """The directory holds the data of another node (or of another cluster, store or number of Paxos groups)."""


class DirectoryLocked(JournalError):
    """Another process has this directory open. `pid` is that process, 0 when it could not be told."""

    def __init__(self, message: str, pid: int = 0) -> None:
        super().__init__(message)
        self.pid = pid


class FormatVersion(JournalError):
    """The directory was written in a format this version of PhxQueue does not read."""


class Unusable(JournalError):
    """The directory cannot be used at all: missing permission, no space, not a directory, unsafe setting."""


class Corrupt(JournalError):
    """Stored data cannot be trusted: Berkeley DB found a damaged page or log, or a record does not parse."""


class CorruptEntry(JournalError):
    """One entry's content does not match its checksum. Learn it again from a peer and put it anew.

    `checksum` is the proposer's, when that much of the record is sound: whatever has it is the entry.
    """

    def __init__(self, group: int, instance: int, detail: str, checksum: int | None = None) -> None:
        super().__init__(f"entry {instance} of group {group} is corrupt ({detail}); learn it from a peer again")
        self.group = group
        self.instance = instance
        self.checksum = checksum


class EntryMissing(JournalError):
    """An entry that was asked for is not in the journal: trimmed away, or never stored here."""

    def __init__(self, group: int, instance: int, first: int) -> None:
        super().__init__(f"entry {instance} of group {group} is not in the journal (the log begins at {first})")
        self.group = group
        self.instance = instance
        self.first = first


class JournalOverloaded(JournalError):
    """More is waiting for the disk than `max_pending_bytes` or `max_pending_reads` allows; nothing was taken."""


class JournalFailed(JournalError):
    """The journal has stopped after a write error: nothing is acknowledged any more; restart the node."""


class JournalClosed(JournalError):
    """The journal has been closed, or is closing."""
