"""Where each consumer group stands in each queue, as far as only the master knows. Pure; forgotten with mastership.

Replicated is only `acked` (:class:`~phxqueue.store.state.QueueState`): everything below it is done. Here are

- acknowledgements that were answered but are still on their way into the log: lost with the master, at most
  ``store_sync_interval_ms`` of them, and then redelivered;
- `delivered`, the end of what was handed out: it recognises the reader that continues. Anybody else, and a reader whose
  last answer got lost, starts again at `acked`: at least once;
- to whom that was handed out: after a replay cursors alone do not tell a reader that has heard of it from one that has
  not.
"""

from __future__ import annotations

from collections.abc import Hashable

Key = tuple[int, int]
"""(queue id, consumer group id)"""
Reader = Hashable
"""Who reads: whatever tells one reader from another."""


class Positions:
    """The volatile positions of one Paxos group's queues. As many keys as there are served queues times groups."""

    def __init__(self) -> None:
        self._delivered: dict[Key, int] = {}
        self._readers: dict[Key, Reader] = {}  # who was handed the last of it
        self._acknowledged: dict[Key, int] = {}

    def clear(self) -> None:
        """Forget everything: mastership begins or ends."""
        self._delivered.clear()
        self._readers.clear()
        self._acknowledged.clear()

    def keys(self) -> set[Key]:
        """Every (queue id, consumer group id) something is known of."""
        return {*self._delivered, *self._acknowledged}

    def acked(self, key: Key, replicated: int) -> int:
        """Every item below this is done, given what the replicated state says."""
        return max(self._acknowledged.get(key, 0), replicated)

    def acknowledge(self, key: Key, cursor: int, replicated: int) -> bool:
        """Raise the acknowledged position; False when it is there already, so nothing has to be replicated."""
        if cursor <= self.acked(key, replicated):
            return False
        self._acknowledged[key] = cursor
        return True

    def delivered(self, key: Key) -> int | None:
        """The end of what was handed out under this mastership; None = nothing yet."""
        return self._delivered.get(key)

    def was_handed_to(self, key: Key, reader: Reader) -> bool:
        """Whether the last of what this master has handed out, since the last replay, was for that reader."""
        return key in self._readers and self._readers[key] == reader

    def deliver(self, key: Key, cursor: int, reader: Reader = None) -> None:
        """Everything below was handed out, the last of it to this reader, or is not for this group."""
        self._delivered[key] = cursor
        self._readers[key] = reader

    def put(self, key: Key, cursor: int) -> None:
        """A replay has put the group here: nothing beyond was handed out or acknowledged."""
        self._acknowledged.pop(key, None)
        self._readers.pop(key, None)
        self._delivered[key] = cursor

    def start(self, key: Key, wanted: int | None, acked: int, end: int, *, believed: bool = True) -> tuple[int, bool]:
        """Decide where a Get begins.

        Args:
            wanted: the cursor the reader wants to continue at; None = wherever its group stands.
            acked: the group's acknowledged position.
            end: one past the queue's last item.
            believed: whether its cursors are known to be of this life of the group: of after the last replay.

        Returns:
            The cursor, and whether the reader has to be told that it is not the one it wanted.
        """
        if wanted is None:
            return acked, False
        delivered = self._delivered.get(key)
        if not believed:
            matches = wanted == acked
        elif delivered is None:
            # A new master does not know what the old one handed out: the reader does.
            matches = acked <= wanted <= end
        else:
            matches = wanted == delivered and wanted >= acked
        return (wanted, False) if matches else (acked, wanted != acked)
