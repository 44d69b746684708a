"""A consumer group's acknowledged cursor: once replicated it never goes back, and it is never ahead of the group.

What a consumer acknowledged is replicated within ``store_sync_interval_ms``; until then a failover may take it back,
and what was not replicated is delivered again. A replay moves the group and begins another *generation*; where it
stands is therefore compared by generation first. So three bounds hold for the position in every answer:

- it is not below what a master had applied from the log when the Get was sent;
- it is not above the highest position that any consumer of the group has asked to acknowledge in that generation, or
  where the replay put it;
- when all is quiet, the replicated position is the acknowledged one.

A reader that does not say of which generation its cursors are may acknowledge, after a replay that passes over items,
what it got before: that is finished all the same.
"""

from __future__ import annotations

from phxqueue.testing.sim.checkers import Violation

Key = tuple[int, int]  # (queue id, consumer group id)
Stand = tuple[int, int]  # (generation, cursor)


class Cursors:
    """Told of every acknowledgement, every replicated move, every replay and every answer."""

    def __init__(self) -> None:
        self._asked: dict[tuple[Key, int], int] = {}
        self._replicated: dict[Key, Stand] = {}
        self._chosen: dict[Key, Stand] = {}
        self._generations: dict[Key, set[int]] = {}
        self._given_up: dict[Key, Stand] = {}
        self._continued: dict[tuple[Key, int], int] = {}  # generation -> the one of which acknowledgements count too

    def replicated_floor(self, key: Key) -> Stand:
        """What no later answer may be below; to be remembered when a Get is sent."""
        return self._replicated.get(key, (0, 0))

    def asked(self, key: Key, position: int, generation: int = 0) -> None:
        """A consumer is about to acknowledge everything below `position`."""
        self._asked[key, generation] = max(self._asked.get((key, generation), 0), position)

    def replayed(self, key: Key, stand: Stand, *, continues: bool = False) -> None:
        """A chosen entry puts the group there. `continues`: acknowledgements of before may count."""
        generations = self._generations.setdefault(key, set())
        if continues:
            self._continued[key, stand[0]] = max(generations, default=0)
        generations.add(stand[0])
        self.asked(key, stand[1], stand[0])

    def _most_asked(self, key: Key, generation: int) -> int:
        most = self._asked.get((key, generation), 0)
        before = self._continued.get((key, generation))
        return most if before is None else max(most, self._most_asked(key, before))

    def given_up(self, key: Key, stand: Stand) -> None:
        """Nothing is kept for the group: when what was there has been trimmed, it may be told that it stands at 0."""
        self._given_up[key] = stand

    def place(self, key: Key, stand: Stand) -> int:
        """Where a group stands that is told so: it has nothing to read below where it was given up."""
        generation, begin = self._given_up.get(key, (0, 0))
        return max(stand[1], begin) if stand[0] == generation else stand[1]

    def chosen(self, key: Key, stand: Stand) -> None:
        """A chosen entry moves the cursor."""
        generation, position = stand
        if position > self._most_asked(key, generation):
            raise Violation(
                f"queue {key[0]} group {key[1]}: the log acknowledges up to {position} in generation {generation}, "
                f"consumers asked for no more than {self._most_asked(key, generation)}"
            )
        self._chosen[key] = max(self._chosen.get(key, (0, 0)), stand)

    def replicated(self, key: Key, stand: Stand) -> None:
        """A master has applied a move of the cursor."""
        self._replicated[key] = max(self._replicated.get(key, (0, 0)), stand)

    def answered(self, key: Key, floor: Stand, stand: Stand) -> None:
        """A Get sent when the replicated floor was `floor` says that everything below is acknowledged."""
        stand = stand[0], self.place(key, stand)
        generation, position = stand
        if generation and generation not in self._generations.get(key, ()):
            raise Violation(f"queue {key[0]} group {key[1]}: a Get names generation {generation}, which never began")
        if stand < floor:
            raise Violation(
                f"queue {key[0]} group {key[1]}: a Get says {position} is acknowledged in generation {generation}, "
                f"{floor[1]} in generation {floor[0]} was replicated before it was sent: the cursor went back"
            )
        if position > self._most_asked(key, generation):
            raise Violation(
                f"queue {key[0]} group {key[1]}: a Get says {position} is acknowledged in generation {generation}, "
                f"consumers asked for no more than {self._most_asked(key, generation)}: items were acknowledged "
                "that nobody had finished"
            )

    def settled(self, key: Key, position: int) -> bool:
        """Whether `position` has been replicated."""
        return max(self._chosen.get(key, (0, 0)), self._replicated.get(key, (0, 0)))[1] >= position
