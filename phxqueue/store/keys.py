"""Idempotency keys that applications give: what was stored under each of them lately. Replicated state; pure.

The pair (producer_id, sequence) (:mod:`phxqueue.store.idempotence`) keeps one producer's retries from being stored
twice. A key does the same for whoever sends it: another process, the same program after a crash, a user who clicks
twice. It names an item within its pub. Of two batches with one key the first that is chosen is stored; the second gets
its outcome when it is the same by `body_digest`, and is refused when it is not.

How long and how many keys are remembered is told by the log itself (KeyBounds, in front of batches with keys), for
replicas have to forget alike. A key is never forgotten before its time: when there are too many, new ones are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import xxhash

from phxqueue.net.status import Status
from phxqueue.proto.item_pb2 import BatchHeader
from phxqueue.proto.store_pb2 import KeyBounds
from phxqueue.replica.portions import Portions
from phxqueue.store.columns import ColumnReader, ColumnWriter
from phxqueue.store.outcomes import TIMER_BIT, KeyDuplicate, Refusal
from phxqueue.store.remembered import Remembered

#: Constants of the command version.
MAX_KEY_BYTES = 64
MOST_KEYS = 10_000_000

_BLOB_KEY = b"k"
# Time, two halves of the key, digest of the body, cursor, queue id << 32 | items, deliver_at_ms.
_NUMBERS = 7


class PubKeys:
    """The keys of one pub.

    Attributes:
        window_ms: how long each is remembered.
        most: how many are at a time; new ones are refused beyond.
    """

    def __init__(self, pub_id: int, window_ms: int = 0, most: int = 0) -> None:
        self.window_ms = window_ms
        self.most = most
        self.rows = Remembered(_BLOB_KEY + pub_id.to_bytes(4, "big"), _NUMBERS)


class KeyWindows:
    """The keys of all pubs, in one Paxos group."""

    def __init__(self) -> None:
        self._pubs: dict[int, PubKeys] = {}

    def __len__(self) -> int:
        """Keys remembered, of all pubs."""
        return sum(len(pub.rows) for pub in self._pubs.values())

    def known_bounds(self, pub_id: int) -> tuple[int, int] | None:
        """Return (window_ms, most) as the log said last; None: it never did."""
        pub = self._pubs.get(pub_id)
        return None if pub is None else (pub.window_ms, pub.most)

    def bound(self, bounds: KeyBounds) -> None:
        """From here on keys of a pub are remembered so long, and so many of them."""
        pub = self._pubs.get(bounds.pub_id)
        if pub is None:
            pub = self._pubs[bounds.pub_id] = PubKeys(bounds.pub_id)
        pub.window_ms, pub.most = bounds.window_ms, min(bounds.most, MOST_KEYS)

    def begin(self, now_ms: int) -> None:
        """Start an entry: forget what is too old."""
        for pub in self._pubs.values():
            pub.rows.forget(now_ms - pub.window_ms)

    def recall(self, header: BatchHeader) -> KeyDuplicate | Refusal | None:
        """What became of the batch that had this key; None: there was none lately."""
        pub = self._pubs.get(header.pub_id)
        found = None if pub is None else pub.rows.find(_number(header.idempotency_key))
        if found is None:
            return None
        at_ms, (digest, cursor, packed, deliver_at_ms) = found
        queue_id, count = packed >> 32, packed & 0xFFFFFFFF
        if digest != header.body_digest or count != header.count:
            return Refusal(
                Status.ALREADY_EXISTS,
                f"idempotency_key {bytes(header.idempotency_key)!r} of pub {header.pub_id} was used for something else "
                f"at {at_ms} (Unix milliseconds; queue {queue_id}): another item needs another key",
            )
        delayed = bool(cursor & TIMER_BIT)
        return KeyDuplicate(cursor & ~TIMER_BIT, count, delayed, queue_id=queue_id, deliver_at_ms=deliver_at_ms)

    def no_room(self, header: BatchHeader) -> Refusal | None:
        """The refusal of a new key when there are too many."""
        pub = self._pubs.get(header.pub_id)
        if pub is not None and len(pub.rows) < pub.most:
            return None
        most, window_ms = (0, 0) if pub is None else (pub.most, pub.window_ms)
        return Refusal(
            Status.RESOURCE_EXHAUSTED,
            f"pub {header.pub_id} has {most} idempotency keys of the last {window_ms / 1000:g} s in this Paxos group "
            "(idempotency_keys and idempotency_window_s of the pub): keys are not forgotten before their time, so new "
            "ones are refused until some are old enough",
        )

    def remember(self, header: BatchHeader, cursor: int, now_ms: int) -> None:
        """A batch with a key was stored just now; `cursor`: of its first item, or TIMER_BIT and its timer number."""
        values = header.body_digest, cursor, header.queue_id << 32 | header.count, header.deliver_at_ms
        self._pubs[header.pub_id].rows.add(now_ms, _number(header.idempotency_key), values)

    # ---- checkpoints -----------------------------------------------------------------------------

    def seal(self) -> list[tuple[bytes, bytes]]:
        """Write what is new since the last call and fills a segment; return it as (key, blob)."""
        return [blob for pub in self._pubs.values() for blob in pub.rows.seal()]

    def take_dead(self) -> list[bytes]:
        """Return the keys of blobs that nothing refers to any more, once each."""
        return [key for pub in self._pubs.values() for key in pub.rows.take_dead()]

    def write(self, out: ColumnWriter, *, whole: bool = False) -> None:
        """Write what is in no blob; `whole`: all there is, as replicas have it alike."""
        out.u32(len(self._pubs))
        for pub_id, pub in sorted(self._pubs.items()):
            out.numbers((pub_id, pub.window_ms, pub.most))
            if whole:
                pub.rows.write_whole(out)
            else:
                pub.rows.write(out)

    def reading(self, source: ColumnReader, blobs: Mapping[bytes, bytes]) -> Portions[None]:
        """Read what `write` wrote, into an empty object. Raises CorruptCheckpoint."""
        for _ in range(source.u32()):
            pub_id, window_ms, most = source.numbers(3)
            pub = self._pubs[pub_id] = PubKeys(pub_id, window_ms, most)
            yield from pub.rows.reading(source, blobs)

    def letting_go(self) -> Portions[None]:
        """Free what is remembered: nobody looks at it any more."""
        for pub in self._pubs.values():
            yield from pub.rows.letting_go()


def _number(key: bytes) -> int:
    """A key as 128 bits: two different ones are never the same in practice, and never taken for one another even then,
    unless their bodies are, too.
    """
    return xxhash.xxh3_128_intdigest(key)
