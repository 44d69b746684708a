"""The payloads of recent entries, bounded by bytes: what readers that keep up are served from."""

from __future__ import annotations

from collections import OrderedDict


class EntryCache:
    """Keeps the most recently applied payloads of one group; the oldest leave first.

    Readers at the tail find their entry here; a reader far behind goes to the journal, and what it reads there is
    not put in, so that one replay does not evict what everybody else is about to read.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._payloads: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._payloads)

    @property
    def size(self) -> int:
        """Sum of the sizes of the cached payloads."""
        return self._bytes

    def put(self, instance: int, payload: bytes) -> None:
        """Remember the payload of a newly applied instance."""
        if instance in self._payloads:
            return
        self._payloads[instance] = payload
        self._bytes += len(payload)
        while self._bytes > self._max_bytes and self._payloads:
            _, evicted = self._payloads.popitem(last=False)
            self._bytes -= len(evicted)

    def get(self, instance: int) -> bytes | None:
        """Return the payload, or None when it has left or never was here."""
        return self._payloads.get(instance)
