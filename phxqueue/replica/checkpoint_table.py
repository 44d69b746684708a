"""Where the checkpoints of one group lie in the journal, its own and one on its way in from a peer.

| table | key | value |
|---|---|---|
| checkpoints | group | the state machine's state |
| segments, or segments.E in epoch E > 0 | group, key of the segment | the segment |
| epochs | group | E u32: which table of segments the checkpoint rests on; absent: 0 |
| staging | group | whose checkpoint is being fetched into the segments of epoch E + 1 |
| gap | group | first, last i64: entries below an installed checkpoint that are still to be fetched |

A checkpoint from a peer is gathered in the segments of the next epoch, blob by blob, and nobody looks at them. The one
transaction that installs it writes the state, the new epoch, the chosen mark and the gap; whatever crash happens, the
node has the old checkpoint with the old segments or the new with the new. What is left of the other epoch is deleted
afterwards, or at the next start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from phxqueue.journal.errors import JournalError, JournalOverloaded
from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import DeleteBlob, PutBlob, PutChosen, TrimEntries, Write
from phxqueue.replica.interfaces import Checkpoint, IStateMachine

CHECKPOINTS = "checkpoints"
SEGMENTS = "segments"
EPOCHS = "epochs"
STAGING = "staging"
GAP = "gap"
MEMBERSHIP = "membership"

GROUP_KEY = struct.Struct(">H")
_EPOCH = struct.Struct(">I")
_SOURCE = struct.Struct(">HQI")
_GAP = struct.Struct(">qq")
_DELETES = 1000
"""Blobs deleted in one submission."""
MOST_WRITES = 10_000
"""Of a checkpoint in one transaction: the journal refuses larger ones."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whose segments: a key names the same segment for ever within one epoch of one data directory."""

    node_id: int
    incarnation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries first..last are needed and not in the log yet; everything above is."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A checkpoint whose segments are staged, ready to be installed.

    Attributes:
        applied: its instance.
        needed: the lowest instance whose entry belongs to it.
        state: of the state machine.
        membership: state of the membership at that instance; None: the initial one.
        gap: needed entries that are not here yet.
        first: the log has everything from here to `applied`.
    """

    applied: int
    needed: int
    state: bytes
    membership: bytes | None
    gap: Gap | None
    first: int


def durable(journal: IJournal, writes: list[Write]) -> Deferred[None]:
    """Submit; the Deferred fires when it is durable, and fails with JournalError when the journal refuses it."""
    done: Deferred[None] = Deferred()
    try:
        journal.submit(writes, lambda: done.callback(None))
    except JournalError:
        done.errback(Failure())
    return done


class CheckpointTable:
    """Of one group. Made at start-up: it reads, blocking, what there is.

    Attributes:
        epoch: of the segments in use.
        segments: their keys.
        source: whose checkpoint is staged, if any; `staged`: the keys that are here.
        gap: see Gap.
    """

    def __init__(self, journal: IJournal, group_id: int) -> None:
        self._journal = journal
        self._group_id = group_id
        self._key = GROUP_KEY.pack(group_id)
        self._untaken: list[Write] = []
        epoch, source, gap = self._load(EPOCHS), self._load(STAGING), self._load(GAP)
        self.epoch = 0 if epoch is None else int(_EPOCH.unpack(epoch)[0])
        self.source = None if source is None else Source(*_SOURCE.unpack(source))
        self.gap = None if gap is None else Gap(*_GAP.unpack(gap))
        self.segments: set[bytes] = set()
        self.staged = {key for key, _ in self._load_segments(self.epoch + 1)}
        self._leftover = [(self.epoch - 1, key) for key, _ in self._load_segments(self.epoch - 1)]
        if self.source is None:
            self._leftover += [(self.epoch + 1, key) for key in self.staged]
            self.staged = set()

    # ---- start-up ------------------------------------------------------------------------------

    def restore(self, machine: IStateMachine) -> None:
        """Put the last checkpoint, if there is one, into the state machine."""
        state = self._load(CHECKPOINTS)
        if state is not None:
            segments = self._noting(self._load_segments(self.epoch))
            machine.restore(state, segments)
            for _ in segments:  # one that takes only what it needs has not seen all keys
                pass

    def _noting(self, segments: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for key, value in segments:
            self.segments.add(key)
            yield key, value

    def _load(self, table: str) -> bytes | None:
        return next((value for key, value in self._journal.load_blobs(table, self._key) if key == self._key), None)

    def _load_segments(self, epoch: int) -> Iterator[tuple[bytes, bytes]]:
        if epoch < 0:
            return
        for key, value in self._journal.load_blobs(_table(epoch), self._key):
            yield key[len(self._key) :], value

    def clean(self) -> None:
        """Delete what is left of other epochs, some of it; call it again when that is durable."""
        some, self._leftover = self._leftover[:_DELETES], self._leftover[_DELETES:]
        if not some:
            return
        try:
            writes = [DeleteBlob(_table(epoch), self._key + key) for epoch, key in some]
            self._journal.submit(writes, self.clean)
        except JournalError:
            self._leftover += some  # the next installation, or the next start, will see to it

    # ---- own checkpoints -------------------------------------------------------------------------

    @property
    def refused(self) -> bool:
        """Whether the journal did not take the last one."""
        return bool(self._untaken)

    def write(self, checkpoint: Checkpoint, done: Callable[[], None]) -> bool:
        """Write a checkpoint, with everything it rests on, in one transaction. False: the journal does not take it now.

        Segments are handed out once: what the journal did not take goes with the next checkpoint, which rests on it.
        With very many of them new ones are written before it, where nobody misses or heeds them, and old ones deleted
        after it; those that a crash leaves over go with the epoch.
        """
        table = _table(self.epoch)
        segments: list[Write] = self._untaken
        segments += [PutBlob(table, self._key + key, value) for key, value in checkpoint.segments]
        segments += [DeleteBlob(table, self._key + key) for key in checkpoint.dropped]
        self.segments.update(key for key, _ in checkpoint.segments)
        self.segments.difference_update(checkpoint.dropped)
        state: list[Write] = [
            PutBlob(CHECKPOINTS, self._key, checkpoint.state),
            PutChosen(self._group_id, checkpoint.applied),
        ]
        deleted: list[DeleteBlob] = []
        if len(segments) > MOST_WRITES:
            deleted = [write for write in segments if isinstance(write, DeleteBlob)]
            segments = [write for write in segments if not isinstance(write, DeleteBlob)]
        try:
            while len(segments) > MOST_WRITES:
                self._journal.submit(segments[:MOST_WRITES], _nothing)
                segments = segments[MOST_WRITES:]
            self._journal.submit([*segments, *state], self._then_deleting(deleted, done) if deleted else done)
        except JournalOverloaded:
            self._untaken = [*segments, *deleted]
            return False
        self._untaken = []
        return True

    def _then_deleting(self, deleted: list[DeleteBlob], done: Callable[[], None]) -> Callable[[], None]:
        gone = [(self.epoch, write.key[len(self._key) :]) for write in deleted]

        def durable() -> None:
            self._leftover += gone
            self.clean()
            done()

        return durable

    def read(self, key: bytes) -> Deferred[bytes | None]:
        """Read a segment; None: it is gone."""
        return self._journal.read_blob(_table(self.epoch), self._key + key)

    def read_membership(self) -> Deferred[bytes | None]:
        """Read the durable state of the group's membership; None: it has never been changed."""
        return self._journal.read_blob(MEMBERSHIP, self._key)

    # ---- one from a peer -------------------------------------------------------------------------

    def begin(self, source: Source) -> None:
        """From now on segments of `source` are staged; those of another are worth nothing. Raises JournalOverloaded."""
        if source == self.source:
            return
        self._journal.submit([PutBlob(STAGING, self._key, _SOURCE.pack(*_fields(source))), *self._unstage()], _nothing)
        self.source, self.staged = source, set()

    def _unstage(self) -> list[Write]:
        return [DeleteBlob(_table(self.epoch + 1), self._key + key) for key in self.staged]

    def discard(self) -> None:
        """What is staged is no good, or not wanted any more."""
        if self.source is not None:
            self._journal.submit([DeleteBlob(STAGING, self._key), *self._unstage()], _nothing)
            self.source, self.staged = None, set()

    def stage(self, key: bytes, value: bytes) -> Deferred[None]:
        """Keep one segment; fires when it is durable."""
        done = durable(self._journal, [PutBlob(_table(self.epoch + 1), self._key + key, value)])
        return done.addCallback(lambda _: self.staged.add(key))

    def read_staged(self, key: bytes) -> Deferred[bytes | None]:
        """Read a staged segment."""
        return self._journal.read_blob(_table(self.epoch + 1), self._key + key)

    def installing(self, incoming: Incoming) -> list[Write]:
        """Return the writes that make the staged checkpoint the group's own."""
        writes: list[Write] = [
            PutBlob(CHECKPOINTS, self._key, incoming.state),
            PutBlob(EPOCHS, self._key, _EPOCH.pack(self.epoch + 1)),
            DeleteBlob(STAGING, self._key),
            PutChosen(self._group_id, incoming.applied),
            # What is below was needed by the state that is replaced, if at all.
            TrimEntries(self._group_id, min(incoming.first, incoming.needed)),
            self.gap_write(incoming.gap),
        ]
        if incoming.membership is not None:
            writes.append(PutBlob(MEMBERSHIP, self._key, incoming.membership))
        return writes

    def installed(self, incoming: Incoming) -> None:
        """Those writes are durable."""
        self._leftover += [(self.epoch, key) for key in self.segments]
        self.epoch += 1
        self.segments, self.staged, self.source = self.staged, set(), None
        self.gap = incoming.gap
        self._untaken = []
        self.clean()

    def gap_write(self, gap: Gap | None) -> Write:
        """Return the write that says what is missing from now on. Set `gap` when it is durable."""
        return DeleteBlob(GAP, self._key) if gap is None else PutBlob(GAP, self._key, _GAP.pack(gap.first, gap.last))


def _table(epoch: int) -> str:
    return SEGMENTS if epoch == 0 else f"{SEGMENTS}.{epoch}"


def _fields(source: Source) -> tuple[int, int, int]:
    return source.node_id, source.incarnation, source.epoch


def _nothing() -> None:
    """Nobody waits for this."""
