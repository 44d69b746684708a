"""Items that take their consumer's process down, against real queues: attempts that no crash resets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from phxqueue.config import Cluster, Consumer, ConsumerGroup, ConsumerNode, Topic
from phxqueue.consumer import ConsumerService, Result
from phxqueue.consumer.slots import Slot
from phxqueue.consumer.suspects import KILLED, Suspects, begin, put_on_record, verdict
from phxqueue.producer import NewItem, Producer
from phxqueue.producer.attempts import ATTEMPTS, LAST_ERROR, REASON
from phxqueue.producer.items import read_cookies
from phxqueue.proto.item_pb2 import QItem, QItems
from phxqueue.testing import small_topic
from phxqueue.testing.memory.store import MemoryStores
from tests.producer.rig import watch

ME = Consumer(ip="127.0.0.1", port=1)


class Process:
    """One consumer process; once it is dead nothing it says is heard, and it hears nothing."""

    def __init__(self, world: World) -> None:
        self.dead = False
        self._world = world
        topic = world.topic
        node = ConsumerNode(
            cluster=Cluster(topics=(topic,)), topic=topic, consumer=ME, consumer_group_ids=(1,), handlers={},
            stop_timeout_s=1.0,
        )  # fmt: skip
        self._calls: list[Deferred[Any]] = []
        producer: Any = self
        self._service = ConsumerService(node, self, producer, {1: self._handle}, world.clock)
        self._service.startService()

    def call(self, *args: Any, **kwargs: Any) -> Deferred[Any]:
        if self.dead:
            return Deferred()
        answer: Deferred[Any] = Deferred()
        called = self._world.stores.call(*args, **kwargs)
        called.addCallbacks(
            lambda response: None if self.dead else answer.callback(response),
            lambda failure: None if self.dead else answer.errback(failure),
        )
        self._calls.append(called)
        return answer

    def enqueue_attempt(self, *args: Any, **kwargs: Any) -> Any:
        return self._world.producer.enqueue_attempt(*args, **kwargs)

    def stop(self) -> None:
        """End gracefully, whatever the handlers are at."""
        stopping = self._service.stopService()
        for _ in range(20):
            self._world.clock.advance(0.1)
        assert stopping.called
        self.end()

    def end(self) -> None:
        """Nothing of it is left: its connections are closed, and it does nothing any more."""
        self.dead = True
        for call in self._world.clock.getDelayedCalls():
            owner = getattr(call.func, "__self__", None)
            if owner is not None and type(owner).__module__.startswith("phxqueue.consumer"):
                call.cancel()
        for called in self._calls:
            called.addErrback(lambda failure: Deferred())
            called.cancel()

    def _handle(self, context: Any, item: Any) -> Any:
        if self.dead:
            return Deferred()
        self._world.handled.append(item.buffer)
        if self._world.hurried:
            return Deferred()
        if item.buffer.startswith(b"killer"):
            self.dead = True
            return Deferred()
        return Result.OK


class World:
    """Queues in memory on a clock of our own, and one consumer process after another."""

    def __init__(self, topic: Topic | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        one = topic or small_topic([1], queues=1)
        object.__setattr__(one, "consumers", (ME,))
        self.topic = one
        self.stores = MemoryStores(one, self.clock, self.clock.seconds)
        self.producer = Producer(one, self.stores, self.clock, wall_clock=self.clock.seconds)
        self.handled: list[bytes] = []
        self.deaths = 0
        self.hurried = False  # nobody has the time to finish anything

    def enqueue(self, *buffers: bytes) -> None:
        watch(self.producer.enqueue_many([NewItem(1, 1, buffer) for buffer in buffers]))
        self.clock.pump([0.01] * 10)

    def live(self, processes: int) -> None:
        """Let so many processes live for a while, one after the other, or die before."""
        for _ in range(processes):
            process = Process(self)
            for _ in range(600):
                self.clock.advance(0.01)
                if process.dead:
                    break
            self.deaths += process.dead
            process.end()

    def restart(self, processes: int) -> None:
        """Let so many processes begin, and stop them gracefully at once."""
        for _ in range(processes):
            process = Process(self)
            self.clock.pump([0.01] * 10)
            process.stop()

    @property
    def behind(self) -> int:
        """Items that are not acknowledged."""
        return sum(
            status.end_cursor - group.acked
            for _, status in self.stores.queues()
            for group in status.groups
            if status.queue_id < 1 << 20
        )

    def dead_letters(self) -> list[QItem]:
        found = []
        [group] = self.stores._groups
        for payload in group._entries:
            for batch in group_batches(payload):
                if batch.header.queue_id >= 1 << 20:
                    found += QItems.FromString(batch.items).items
        return found


def group_batches(payload: bytes) -> Any:
    from phxqueue.proto.store_pb2 import StoreCommand

    return StoreCommand.FromString(payload).batches


def test_an_item_that_kills_its_consumer_is_a_dead_letter_after_its_attempts_and_the_others_are_handled() -> None:
    world = World()
    others = [b"item %d" % number for number in range(30)]
    world.enqueue(*others[:10], b"killer", *others[10:])
    world.live(12)
    [letter] = world.dead_letters()
    notes = read_cookies(letter.sys_cookies)
    assert (letter.buffer, notes[REASON], notes[ATTEMPTS], notes[KILLED]) == (
        b"killer", b"attempts exhausted", b"3", b"3",
    )  # fmt: skip
    assert b"takes the process down" in notes[LAST_ERROR]
    assert set(world.handled) == {*others, b"killer"}
    assert world.behind == 0
    assert world.deaths == world.handled.count(b"killer") <= 7


def test_two_killers_side_by_side_both_end_as_dead_letters() -> None:
    world = World(small_topic([1], attempts=1, queues=1))
    world.enqueue(b"a", b"killer 1", b"killer 2", b"b")
    world.live(14)
    assert sorted(letter.buffer for letter in world.dead_letters()) == [b"killer 1", b"killer 2"]
    assert {b"a", b"b"} <= set(world.handled)
    assert world.behind == 0


def test_consumers_that_end_without_anybodys_fault_cost_nobody_an_attempt() -> None:
    world = World()
    world.enqueue(*[b"%d" % number for number in range(50)])
    world.live(8)
    world.enqueue(b"last")
    world.live(3)
    assert world.dead_letters() == []
    assert sorted(world.handled) == sorted([*(b"%d" % number for number in range(50)), b"last"])


def test_graceful_stops_are_no_crashes() -> None:
    world = World()
    world.enqueue(b"a", b"b")
    world.hurried = True
    world.restart(6)
    world.hurried = False
    world.live(1)
    assert world.handled.count(b"a") == 7, "nobody has ended its attempt"
    assert (world.behind, world.dead_letters()) == (0, [])


def test_graceful_stops_between_them_do_not_hide_crashes() -> None:
    world = World(small_topic([1], attempts=1, queues=1))
    world.enqueue(b"killer")
    for _ in range(4):
        world.hurried = True
        world.restart(2)
        world.hurried = False
        world.live(1)
    assert world.deaths == 3
    [letter] = world.dead_letters()
    assert letter.buffer == b"killer"
    assert world.behind == 0


def slot(cursor: int) -> Slot:
    return Slot(cursor, QItem(), 0, 0, 10, 1)


def ordered(**settings: Any) -> World:
    one = small_topic([1], queues=1)
    group = ConsumerGroup(consumer_group_id=1, ordered=True, **settings)
    return World(replace(one, consumer_groups=(group,)))


def test_in_an_ordered_group_a_killer_is_buried_in_its_place() -> None:
    world = ordered()
    watch(world.producer.enqueue_many([NewItem(1, 1, text, 7) for text in (b"a", b"killer", b"b", b"c")]))
    world.clock.pump([0.01] * 10)
    world.live(8)
    [letter] = world.dead_letters()
    assert (letter.buffer, read_cookies(letter.sys_cookies)[REASON]) == (b"killer", b"attempts exhausted")
    assert list(dict.fromkeys(world.handled)) == [b"a", b"killer", b"b", b"c"]
    assert world.handled.index(b"b") > max(place for place, text in enumerate(world.handled) if text == b"killer")
    assert world.behind == 0


def test_a_group_that_never_gives_up_does_not_do_so_because_of_restarts() -> None:
    world = ordered(ordered_retries=-1)
    watch(world.producer.enqueue_many([NewItem(1, 1, text, 7) for text in (b"killer", b"b")]))
    world.clock.pump([0.01] * 10)
    world.live(9)
    assert world.dead_letters() == []
    assert set(world.handled) == {b"killer"}
    assert world.deaths == 9


@pytest.mark.parametrize(
    ("begins", "on_record", "over"), [(1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 1), (1, 1, 0), (2, 1, 1)]
)
def test_verdicts(begins: int, on_record: int, over: int) -> None:
    one = slot(7)
    for _ in range(on_record):
        put_on_record(one)
    assert bool(verdict(one, begins)) == bool(over)
    assert (begin(begins, 9, one) is not None) == (begins >= 3 or bool(over))


def test_only_the_first_can_be_convicted_and_nothing_beyond_the_end_is_suspect() -> None:
    suspects = Suspects(4, 12)
    for cursor in (10, 11, 12):
        suspects.add(slot(cursor))
    told = [suspects.next(), suspects.next(), suspects.next()]
    assert [one is not None and (one[0].cursor, bool(one[1])) for one in told] == [(10, True), (11, False), False]
    assert [one.cursor for one in suspects.drop(lambda slot: True)] == [12]
