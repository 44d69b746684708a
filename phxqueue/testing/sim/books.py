"""Everything that is written down about one run: what the clients did, what was chosen, and who checks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xxhash

from phxqueue.proto.store_pb2 import GetResponse, StoreCommand
from phxqueue.testing.sim.chains.accounts import ChainAccounts
from phxqueue.testing.sim.checkers.book_keeping import BookKeeping
from phxqueue.testing.sim.checkers.cursors import Cursors
from phxqueue.testing.sim.checkers.delays import Delays
from phxqueue.testing.sim.checkers.founding import Founding
from phxqueue.testing.sim.checkers.halves import Halves
from phxqueue.testing.sim.checkers.keys import Keys
from phxqueue.testing.sim.checkers.leaving import Leaving
from phxqueue.testing.sim.checkers.ledger import Ledger
from phxqueue.testing.sim.checkers.reads import Reads
from phxqueue.testing.sim.checkers.reference import FirstCursor, Key, Reference, Stand
from phxqueue.testing.sim.checkers.replays import Replays
from phxqueue.testing.sim.checkers.timers import Timers
from phxqueue.testing.sim.checkers.together import Together
from phxqueue.testing.sim.recording import Recording
from phxqueue.testing.sim.workload import GRACE, STORE_ID, Workload, tells_generation
from phxqueue.testing.sim.world import WallClocks, World


class Books:
    """Where clients report; hands each report to the checkers it concerns, and hashes the history.

    Attributes:
        acknowledgements: when producers were told of a stored batch, by true time.
    """

    def __init__(self, world: World, workload: Workload) -> None:
        self.workload = workload
        self.ledger = Ledger()
        self.reads = Reads()
        self.cursors = Cursors()
        self.reference = Reference()
        self.recording = Recording(world)
        self.acknowledgements: list[float] = []
        self.replays = Replays()
        self.founding = Founding()
        self.leaving = Leaving(GRACE, workload.wall_skew)
        self.timers = Timers(workload.wall_skew)
        self.halves = Halves()
        self.keys = Keys()
        self.together = Together()
        self.chains = ChainAccounts(lambda queue_id, cursor: self.reference.queues[queue_id][cursor].buffer)
        self.keeping = BookKeeping()
        self._delays = Delays(workload.wall_skew)
        self._world = world
        self._moves: dict[tuple[int, int], dict[Key, Stand]] = {}  # (group, instance) -> where cursors stand after it
        self._history = xxhash.xxh3_64()

    @property
    def digest(self) -> int:
        """Hash of everything written down so far, with its times: equal for equal histories."""
        return self._history.intdigest()

    def note(self, *event: Any) -> None:
        """Add an event to the history."""
        self._history.update(repr((self._world.now, event)).encode())

    # ---- producers ----------------------------------------------------------------------------------

    def offered(self, lane: tuple[int, ...], number: int, item: bytes, mask: int) -> None:
        """See Ledger."""
        self.ledger.offered(lane, number, item, mask)
        self._delays.offered(item, self._world.now)
        self.founding.offered(item, self._world.now)

    def added(self, queue_id: int, floor: int, cursor: int, items: Sequence[bytes]) -> None:
        """A batch, first sent when the acknowledged end of its queue was `floor`, was acknowledged."""
        self.note("added", queue_id, cursor, len(items))
        self.acknowledgements.append(self._world.now)
        self.founding.stored(items, self._world.now)
        self.reference.check_added(queue_id, cursor, items)
        self.reads.added(queue_id, floor, cursor, len(items))
        for offset, item in enumerate(items):
            self.ledger.was_acknowledged((STORE_ID, queue_id), cursor + offset, item)

    # ---- consumers ----------------------------------------------------------------------------------

    def get_floors(self, key: Key) -> tuple[int, Stand]:
        """What an answer to a Get sent now may not be below: the queue's end, the acknowledged cursor."""
        return self.reads.acknowledged_end(key[0]), self.cursors.replicated_floor(key)

    def got(
        self, key: Key, floors: tuple[int, Stand], wanted: int | None, response: GetResponse
    ) -> list[tuple[int, bytes]]:
        """A consumer that wanted to go on at `wanted` got an answer; return the (cursor, item) pairs new to it."""
        queue_id, group = key
        self.note("got", key, response.prev_cursor, response.next_cursor, response.reset)
        self.reads.read(queue_id, floors[0], response.end_cursor)
        self.cursors.answered(key, floors[1], (response.generation, response.prev_cursor))
        stand = response.generation, response.prev_cursor
        start = self.cursors.place(key, stand) if response.reset or wanted is None else wanted
        bit = 1 << (group - 1)
        items = self.reference.check_read(queue_id, bit, start, response.next_cursor, response.batches)
        delay = self.workload.delay(queue_id)
        for cursor, item in items:
            self.ledger.was_delivered((STORE_ID, queue_id), cursor, item, bit)
            self.timers.delivered(item, self._world.now)
            self.halves.delivered(item)
            self.replays.delivered(key, response.generation, cursor)
            if delay:
                self._delays.delivered(item, delay, self._world.now)
        return items

    # ---- nodes --------------------------------------------------------------------------------------

    def chosen(self, group_id: int, instance: int, payload: bytes, first: FirstCursor) -> None:
        """The next entry of a Paxos group was applied somewhere, for the first time."""
        self.note("chosen", group_id, instance, len(payload))
        moves = self._moves.setdefault((group_id, instance), {})
        for key, stand in self.reference.chosen(group_id, instance, payload, first).items():
            self.cursors.chosen(key, stand)
            moves[key] = stand
        for replay in self.reference.replayed:
            self.replays.chosen(replay.name, replay.group, replay.generation, replay.outcome)
            for queue_id, (target, acked) in replay.outcome.items():
                key, stand = (queue_id, replay.group), (replay.generation, target)
                self.cursors.replayed(key, stand, continues=target > acked and not tells_generation(key))
                self.recording.replayed(key)
                self.cursors.chosen(key, stand)
                moves[key] = stand
        for _, group in self.reference.life.leaving:
            self.leaving.leaves(group)
        for placed in self.reference.placed:
            key, stand = placed.key, (instance + 1, placed.position)
            self.note("placed", key, placed.was, placed.position, placed.given_up)
            self.cursors.replayed(key, stand)
            self.recording.replayed(key)
            self.cursors.chosen(key, stand)
            moves[key] = stand
            if not placed.given_up:
                self.founding.placed(key[0], *stand)
            if placed.left:
                proposed = StoreCommand.FromString(payload).timestamp_ms / 1000 - WallClocks.EPOCH
                self.leaving.given_up(key[1], self._world.now, proposed)
            if placed.given_up:
                self.cursors.given_up(key, stand)
                self.replays.given_up(key, placed.was)
            self.replays.placed(key, instance + 1, placed.was, placed.position)
        self.keeping.chosen(group_id, payload, self.reference)
        if self.workload.chains:
            self.chains.chosen(group_id, payload)

    def master_began(self, group_id: int, paxos_groups: int) -> None:
        """A node became master of a Paxos group."""
        for queue_id in self.workload.queues:
            if queue_id % paxos_groups == group_id:
                for group in self.workload.groups:
                    self.recording.failover((queue_id, group), self.cursors.replicated_floor((queue_id, group))[1])

    def applied_by_master(self, group_id: int, instance: int) -> None:
        """A master applied an entry: what it says of cursors holds for every answer from now on."""
        for key, stand in self._moves.get((group_id, instance), {}).items():
            self.cursors.replicated(key, stand)
