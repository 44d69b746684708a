"""Server-side batch enqueue: decides which waiting batches leave in the next entry, and when. Pure.

An entry costs about the same whether it carries one batch or five hundred (a Paxos round, a journal record and an fsync
on every node), so requests that arrive while others are on their way wait for company:

- nothing in flight: what is there leaves at once; an idle system adds no latency;
- fewer than ``open_entries`` in flight: the same. Two entries under way keep disk and network busy while the next one
  gathers; more of them would only be smaller, and each costs CPU on three nodes;
- otherwise an entry leaves when it is full (``entry_batches`` or ``entry_bytes``), or when its oldest batch has
  waited ``delay_s``: then the entries in flight are slow for another reason (a far region, a busy disk), and waiting
  for them is pointless. The caller sees to it that the Paxos window has room.

With 64 or 512 requests in flight this settles by itself at entries of about a half of them, each filling while the ones
before it are being fsynced, as group commit does in a database.

Batches are carried as bytes: an entry is the concatenation of what the producers serialized (a repeated field of
protobuf is its elements one after another), measured twice as fast as handing the parsed messages to another message.

Cursor moves ride on the next entry, whatever it is; alone they leave after ``sync_s``.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from phxqueue.proto.digest import MOST_DROPPED
from phxqueue.proto.store_pb2 import CursorMove
from phxqueue.store.passed_on import DROP_VERSION
from phxqueue.store.queues import BATCH_VERSION, LEDGER_VERSION

TokenT = TypeVar("TokenT")

Key = tuple[int, int]
"""(queue id, consumer group id)"""
Stretches = tuple[tuple[int, int], ...]
"""(first, stop) of cursors, rising"""

Passed = tuple[int, int, int, int]
"""(retried, dead, expired, unproven)"""

#: Contradicted claims that wait for an entry.
MOST_DISPUTES = 1000

_BATCH_TAG = b"\x1a"  # StoreCommand.batches: field 3, length-delimited
_MOVE_TAG = b"\x22"  # StoreCommand.cursor_moves: field 4, length-delimited
_HEAD = struct.Struct("<BBBQ")  # version (field 1, varint below 128), timestamp_ms (field 2, fixed64)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SHORT = 1 << 12
_BATCH_PREFIX = tuple(_BATCH_TAG + _varint(length) for length in range(_SHORT))


def frame_batch(raw: bytes) -> bytes:
    """A serialized ItemBatch as it stands inside a serialized StoreCommand."""
    length = len(raw)
    return (_BATCH_PREFIX[length] if length < _SHORT else _BATCH_TAG + _varint(length)) + raw


def frame_field(number: int, raw: bytes) -> bytes:
    """Another serialized message as it stands inside a serialized StoreCommand, as its field of that number."""
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


@dataclass(frozen=True, slots=True, kw_only=True)
class BatcherLimits:
    """The bounds of one group's batcher.

    Attributes:
        entry_batches: batches in one entry; one larger request travels alone.
        entry_bytes: bytes of one entry, likewise.
        entry_moves: cursor moves in one entry; what is beyond waits for the next.
        open_entries: entries in flight up to which one that is not full leaves at once.
        delay_s: longest a batch waits for company, in seconds.
        sync_s: longest a cursor move waits for an entry to ride on, in seconds.
        queue_requests: requests waiting; more are refused.
        queue_bytes: bytes waiting; more are refused. One request always fits into an empty queue.
    """

    entry_batches: int = 500
    entry_bytes: int = 1 << 20
    entry_moves: int = 1000
    open_entries: int = 2
    delay_s: float = 0.002
    sync_s: float = 0.2
    queue_requests: int = 20_000
    queue_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Proposal(Generic[TokenT]):
    """An entry to propose.

    Attributes:
        payload: a serialized StoreCommand.
        tokens: one per request in it, in the order of their batches.
        moves: the cursor moves in it: (queue id, consumer group id) -> (generation, acked).
        dropped: (first, stop) of the items dropped below those, for moves that have any.
        disputes: frames of the contradicted claims in it.
    """

    payload: bytes
    tokens: list[TokenT]
    moves: dict[Key, tuple[int, int]]
    dropped: dict[Key, Stretches]
    disputes: list[bytes]


class Batcher(Generic[TokenT]):
    """What waits to be proposed in one Paxos group."""

    def __init__(self, limits: BatcherLimits) -> None:
        self.limits = limits
        # frames, batches, token, arrival, version
        self._requests: deque[tuple[bytes, int, TokenT, float, int]] = deque()
        self._bytes = 0
        self._batches = 0
        self._moves: dict[Key, tuple[int, int]] = {}
        self._dropped: dict[Key, Stretches] = {}
        self._disputes: deque[bytes] = deque(maxlen=MOST_DISPUTES)
        self._passed: dict[Key, Passed] = {}
        self._moves_since = 0.0

    @property
    def waiting_requests(self) -> int:
        return len(self._requests)

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    @property
    def waiting_moves(self) -> int:
        return len(self._moves)

    def has_room(self, size: int) -> bool:
        """Whether a request of that many bytes may wait here."""
        limits = self.limits
        return not self._requests or (
            len(self._requests) < limits.queue_requests and self._bytes + size <= limits.queue_bytes
        )

    def offer(self, frames: bytes, batches: int, token: TokenT, now: float, version: int = BATCH_VERSION) -> None:
        """Take a request in; the caller has asked `has_room`.

        Args:
            frames: its batches, each as `frame_batch` gives it. They stay together in one entry.
            batches: how many they are.
            token: comes back with the proposal.
            now: seconds, of the same clock as everywhere here.
            version: what an entry with them needs.
        """
        self._requests.append((frames, batches, token, now, version))
        self._bytes += len(frames)
        self._batches += batches

    def move(
        self,
        queue_id: int,
        consumer_group_id: int,
        acked: int,
        now: float,
        dropped: Stretches = (),
        generation: int = 0,
    ) -> None:
        """Take a cursor move in; of several for one cursor the highest of the last generation counts, and what was
        dropped of them all.
        """
        if not self._moves and not self._disputes:
            self._moves_since = now
        key = (queue_id, consumer_group_id)
        last = self._moves.get(key, (generation, 0))
        if generation > last[0]:  # what waits was acknowledged before a replay
            self._dropped.pop(key, None)
        self._moves[key] = max((generation, acked), last)
        if dropped and generation >= last[0]:
            together = sorted({*self._dropped.get(key, ()), *dropped})
            self._dropped[key] = tuple(together[:MOST_DROPPED])

    def pass_on(self, key: Key, passed: Passed) -> None:
        """What became of the items that a group has acknowledged in a queue, added up for good: its moves tell that."""
        self._passed[key] = passed

    def passed(self, key: Key) -> Passed | None:
        """What was told last; None: nothing since the last `clear`."""
        return self._passed.get(key)

    def dispute(self, frame: bytes, now: float) -> None:
        """Take a claim in that was contradicted: it leaves with the moves. Of too many the oldest are forgotten."""
        if not self._moves and not self._disputes:
            self._moves_since = now
        self._disputes.append(frame)

    def take(self, in_flight: int, now: float, timestamp_ms: int, *, at_once: bool = False) -> Proposal[TokenT] | None:
        """Return the entry that should leave now, or None. Call it again until it says None.

        Args:
            in_flight: entries of the group that are on their way.
            now: seconds.
            timestamp_ms: what the entry's timestamp shall be, Unix milliseconds.
            at_once: do not wait for anything; for shutting down.
        """
        due = now if at_once and (self._requests or self._moves or self._disputes) else self.next_due(in_flight, now)
        if due is None or due > now:
            return None
        parts = [b""]
        tokens, version = self._take_requests(parts)
        disputes = list(self._disputes)
        parts += disputes
        self._disputes.clear()
        moves, dropped = self._take_moves(parts)
        if dropped:
            version = max(version, DROP_VERSION)
        elif disputes or self._passed:
            version = max(version, LEDGER_VERSION)
        parts[0] = _HEAD.pack(0x08, version, 0x11, timestamp_ms)
        return Proposal(b"".join(parts), tokens, moves, dropped, disputes)

    def next_due(self, in_flight: int, now: float) -> float | None:
        """When `take` has something, if nothing else happens: `now` = at once, None = never."""
        limits, due = self.limits, None
        if self._requests:
            if (
                in_flight < limits.open_entries
                or self._batches >= limits.entry_batches
                or self._bytes >= limits.entry_bytes
            ):
                return now
            due = self._requests[0][3] + limits.delay_s
        if (self._moves or self._disputes) and (due is None or self._moves_since + limits.sync_s < due):
            due = self._moves_since + limits.sync_s
        return due

    def clear(self) -> list[TokenT]:
        """Forget everything; return the tokens of the requests, which were surely not proposed."""
        tokens = [request[2] for request in self._requests]
        self._requests.clear()
        self._moves.clear()
        self._dropped.clear()
        self._disputes.clear()
        self._passed.clear()
        self._bytes = self._batches = 0
        return tokens

    def _take_requests(self, parts: list[bytes]) -> tuple[list[TokenT], int]:
        requests, tokens = self._requests, []
        batches = size = 0
        needed = BATCH_VERSION
        while requests:
            frames, count, token, _, version = requests[0]
            if batches and (
                batches + count > self.limits.entry_batches or size + len(frames) > self.limits.entry_bytes
            ):
                break
            requests.popleft()
            parts.append(frames)
            tokens.append(token)
            batches += count
            size += len(frames)
            if version > needed:
                needed = version
        self._batches -= batches
        self._bytes -= size
        return tokens, needed

    def _take_moves(self, parts: list[bytes]) -> tuple[dict[Key, tuple[int, int]], dict[Key, Stretches]]:
        if len(self._moves) <= self.limits.entry_moves and not self._dropped:
            moves, self._moves = self._moves, {}
        else:
            moves = {key: self._moves.pop(key) for key in self._first_moves()}
        dropped = {key: self._dropped.pop(key) for key in moves if key in self._dropped} if self._dropped else {}
        for (queue_id, consumer_group_id), (generation, acked) in moves.items():
            move = CursorMove(
                queue_id=queue_id, consumer_group_id=consumer_group_id, acked=acked, generation=generation
            )
            for first, stop in dropped.get((queue_id, consumer_group_id), ()):
                move.dropped.add(first=first, count=stop - first)
            if self._passed and (passed := self._passed.get((queue_id, consumer_group_id))) is not None:
                move.retried, move.dead, move.expired, move.unproven = passed
            raw = move.SerializeToString()
            parts.append(_MOVE_TAG + _varint(len(raw)) + raw)
        return moves, dropped

    def _first_moves(self) -> list[Key]:
        """As many as one entry takes, by their number and by what was dropped; at least one."""
        found: list[Key] = []
        room = MOST_DROPPED
        for key in self._moves:
            room -= len(self._dropped.get(key, ()))
            if found and (room < 0 or len(found) == self.limits.entry_moves):
                break
            found.append(key)
        return found
