"""Writes down what clients did as a history that the linearizability checker can judge.

Queue ends (appends and what Gets say of the end) and acknowledged cursors; see
:mod:`phxqueue.testing.linearizability`. True time is the clock: no process could do better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phxqueue.testing.linearizability import Recorder, Verdict, check_history
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.checkers.reference import Key, StoredItem
from phxqueue.testing.sim.workload import STORE_ID
from phxqueue.testing.sim.world import World

MAX_STATES = 200_000


@dataclass(slots=True)
class _Get:
    """The operations that one Get is made of."""

    end: int
    read: int
    ack: int | None


class Recording:
    """The history of one run."""

    def __init__(self, world: World) -> None:
        self._recorder = Recorder(lambda: world.now)
        self._appends: dict[int, tuple[int, bytes]] = {}  # under way: token -> queue, first item
        self._gets: dict[int, _Get] = {}
        self._replayed: set[str] = set()
        self._next = 0

    # ---- producers ----------------------------------------------------------------------------------

    def append(self, client: str, queue_id: int, items: Sequence[bytes]) -> int:
        """A batch is about to be sent for the first time; return its token."""
        token = self._recorder.call("queue-end", f"{STORE_ID}/{queue_id}", client, "append", count=len(items))
        self._appends[token] = (queue_id, items[0])
        return token

    def appended(self, token: int, first: int) -> None:
        """Its producer was told where it stands."""
        del self._appends[token]
        self._recorder.returned(token, first=first)

    def not_appended(self, token: int) -> None:
        """Its producer was told that it is not stored, and gives up."""
        del self._appends[token]
        self._recorder.refused(token)

    # ---- consumers ----------------------------------------------------------------------------------

    def get(self, key: Key, acknowledge: int | None) -> int:
        """A Get is about to be sent; return its token."""
        queue_id, group = key
        call, cursor, client = self._recorder.call, f"{STORE_ID}/{queue_id}/{group}", f"group {group}"
        self._next += 1
        self._gets[self._next] = _Get(
            end=call("queue-end", f"{STORE_ID}/{queue_id}", client, "end"),
            read=call("cursor", cursor, client, "read"),
            ack=None if acknowledge is None else call("cursor", cursor, client, "ack", position=acknowledge),
        )
        return self._next

    def got(self, token: int, end: int, position: int) -> None:
        """It was answered."""
        get = self._gets.pop(token)
        self._recorder.returned(get.end, end=end)
        self._recorder.returned(get.read, position=position)
        if get.ack is not None:
            self._recorder.returned(get.ack)

    def not_got(self, token: int) -> None:
        """It was not; what it acknowledges may have been heard all the same."""
        get = self._gets.pop(token)
        self._recorder.refused(get.end)
        self._recorder.refused(get.read)
        if get.ack is not None:
            self._recorder.unknown(get.ack)

    # ---- nodes --------------------------------------------------------------------------------------

    def failover(self, key: Key, floor: int) -> None:
        """Another master begins; what it does not find replicated is not acknowledged any more."""
        name = f"{STORE_ID}/{key[0]}/{key[1]}"
        self._recorder.returned(self._recorder.call("cursor", name, "cluster", "failover", floor=floor))

    def replayed(self, key: Key) -> None:
        """The group was moved: who was told what, and in which generation, is for Cursors to judge."""
        self._replayed.add(f"{STORE_ID}/{key[0]}/{key[1]}")

    # ---- at the end ---------------------------------------------------------------------------------

    def check(self, queues: Mapping[int, Sequence[StoredItem]]) -> None:
        """Raise Violation when no order explains what was seen. `queues` tells what became of lost appends."""
        for token, (queue_id, item) in list(self._appends.items()):
            places = (place for place, stored in enumerate(queues.get(queue_id, ())) if stored.buffer == item)
            first = next(places, None)
            if first is None:
                self._recorder.refused(token)
            else:
                self._recorder.took_effect(token, first=first)
        self._appends.clear()
        operations = [one for one in self._recorder.operations() if one.key not in self._replayed]
        report = check_history(operations, max_states=MAX_STATES)
        if report.verdict is not Verdict.LINEARIZABLE:
            raise Violation(f"what clients saw has no order: {report}")
