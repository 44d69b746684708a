"""The journal as its users see it; `phxqueue.journal.journal.Journal` is the real one, the simulator has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from phxqueue.journal.records import GroupState, NodeIdentity, StoredEntry, Write


class IJournal(Interface):
    """Durable storage of one node, for all its Paxos groups.

    Order contract:

    1. Submissions become durable in the order they were submitted, each one atomically.
    2. `done` is called in the reactor thread, after the synchronous commit that contains *all* writes of its
       submission; calls come in submit order and never from within `submit`.
    3. After a write or sync error no `done` is ever called again: `on_fatal(reason)` is called once instead.
    4. Reads see everything whose `done` has been called. Asking for what is not known to be durable is the caller's
       mistake and may be answered with what a crash would still take back.
    """

    identity: NodeIdentity = Attribute("Whose data this is, with the incarnation of the directory.")

    overloaded: bool = Attribute(
        "True while more than `max_pending_bytes` wait for the disk. Ask *before* making new state (before proposing, "
        "before stepping the core with a peer's accept: drop that message as a lossy network would). A submission "
        "made nevertheless is still taken up to twice the bound, beyond it `submit` raises JournalOverloaded."
    )

    accepting: bool = Attribute(
        "False while the file system has less than `min_free_bytes` free: refuse enqueues with RESOURCE_EXHAUSTED; "
        "reads, acknowledgements and trimming go on. True again by itself above the resume mark (hysteresis)."
    )

    def on_accepting_changed(callback: Callable[[bool], None]) -> None:
        """Have `callback(accepting)` called in the reactor thread at each change of `accepting`."""

    def load_group(group: int) -> GroupState:
        """Read what a restart needs. Blocking: at start-up only, before the first submission for the group."""

    def load_blobs(table: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) by rising key for all keys beginning with `prefix`. Blocking: at start-up only."""

    def submit(writes: Sequence[Write], done: Callable[[], None] | None = None) -> None:
        """Queue `writes` as one atomic unit; `done()` once all of them are durable.

        Raises ValueError for a write that cannot be (nothing is queued), JournalOverloaded beyond the hard bound,
        JournalFailed after a fatal error, JournalClosed after close().
        """

    def read_entries(group: int, first: int, last: int, max_bytes: int) -> Deferred[list[tuple[int, StoredEntry]]]:
        """Read entries first..last (inclusive) off the reactor, stopping before `max_bytes` of payload are exceeded.

        At least one entry is returned, however large. The answer is a contiguous run from `first`; it ends early at an
        entry that is missing or corrupt, and when that is the very first one the Deferred fails with EntryMissing or
        CorruptEntry.
        """

    def read_instances(group: int, instances: Sequence[int]) -> Deferred[list[StoredEntry]]:
        """Read exactly these entries, in the order given; fails with EntryMissing or CorruptEntry naming the first."""

    def read_blob(table: str, key: bytes) -> Deferred[bytes | None]:
        """Read one value of a small table off the reactor; None: there is none."""

    def delete_entries(group: int, below: int) -> Deferred[None]:
        """Submit TrimEntries(group, below) alone; fires when the space has been given back."""

    def close() -> Deferred[None]:
        """Take no more, commit everything submitted, call every `done`, take a last checkpoint, let go of the lock."""
