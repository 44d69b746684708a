"""Of what clients send under one idempotency key one thing is stored, and all who sent it are told the same place.

Knows clients only. The items of a key differ when what is sent under it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phxqueue.testing.sim.checkers import Violation


class Keys:
    """What clients were told, by key.

    Attributes:
        repeated: answers with a place that another client had been told before.
        refused: answers that the key is another item's.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self.refused = 0
        self._items: dict[bytes, bytes] = {}  # item -> key
        self._places: dict[bytes, tuple[bytes, int, int]] = {}  # key -> (item, queue, cursor)

    def offered(self, key: bytes, item: bytes) -> None:
        """A client is about to send the item under the key."""
        self._items[item] = key

    def stored(self, key: bytes, item: bytes, queue_id: int, cursor: int) -> None:
        """A client was told that its item stands there."""
        known = self._places.setdefault(key, (item, queue_id, cursor))
        if known != (item, queue_id, cursor):
            raise Violation(f"key {key!r}: {known} was told before, {(item, queue_id, cursor)} now")
        self.repeated += 1

    def was_refused(self, key: bytes, item: bytes) -> None:
        """A client was told that the key is another item's."""
        known = self._places.get(key)
        if known is not None and known[0] == item:
            raise Violation(f"key {key!r}: {item!r} was stored under it, and is refused now")
        self.refused += 1

    def check_contents(self, contents: Mapping[int, Sequence[bytes]]) -> None:
        """At the end; `contents` is every queue, read from its beginning to its end."""
        found: dict[bytes, bytes] = {}
        for queue_id, items in contents.items():
            for item in items:
                key = self._items.get(item)
                if key is None:
                    continue
                if key in found:
                    raise Violation(f"key {key!r}: {found[key]!r} and {item!r} (queue {queue_id}) are both stored")
                found[key] = item
        for key, (item, queue_id, cursor) in self._places.items():
            if found.get(key) != item:
                there = found.get(key)
                raise Violation(f"key {key!r}: {item!r} was told to be at {queue_id}:{cursor}; found is {there!r}")
