"""A consumer group's acknowledged cursor: once replicated it never goes back, and it is never ahead of the group.

What a consumer acknowledged is replicated within ``store_sync_interval_ms``; until then a failover may take it back,
and what was not replicated is delivered again. So three bounds hold for the position in every answer:

- it is not below what a master had applied from the log when the Get was sent;
- it is not above the highest position that any consumer of the group has asked to acknowledge;
- when all is quiet, the replicated position is the acknowledged one.
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

Key = tuple[int, int]  # (queue id, consumer group id)


class Cursors:
    """Told of every acknowledgement, every replicated move and every answer."""

    def __init__(self) -> None:
        self._asked: dict[Key, int] = {}
        self._replicated: dict[Key, int] = {}
        self._chosen: dict[Key, int] = {}

    def replicated_floor(self, key: Key) -> int:
        """What no later answer may be below; to be remembered when a Get is sent."""
        return self._replicated.get(key, 0)

    def asked(self, key: Key, position: int) -> None:
        """A consumer is about to acknowledge everything below `position`."""
        self._asked[key] = max(self._asked.get(key, 0), position)

    def chosen(self, key: Key, position: int) -> None:
        """A chosen entry moves the cursor."""
        if position > self._asked.get(key, 0):
            raise Violation(
                f"queue {key[0]} group {key[1]}: the log acknowledges up to {position}, consumers asked for no more "
                f"than {self._asked.get(key, 0)}"
            )
        self._chosen[key] = max(self._chosen.get(key, 0), position)

    def replicated(self, key: Key, position: int) -> None:
        """A master has applied a move of the cursor."""
        self._replicated[key] = max(self._replicated.get(key, 0), position)

    def answered(self, key: Key, floor: int, position: int) -> None:
        """A Get sent when the replicated floor was `floor` says that everything below `position` is acknowledged."""
        if position < floor:
            raise Violation(
                f"queue {key[0]} group {key[1]}: a Get says {position} is acknowledged, {floor} was replicated before "
                "it was sent: the cursor went back"
            )
        if position > self._asked.get(key, 0):
            raise Violation(
                f"queue {key[0]} group {key[1]}: a Get says {position} is acknowledged, consumers asked for no more "
                f"than {self._asked.get(key, 0)}: items were acknowledged that nobody had finished"
            )

    def settled(self, key: Key, position: int) -> bool:
        """Whether `position` has been replicated."""
        return max(self._chosen.get(key, 0), self._replicated.get(key, 0)) >= position
