"""What queues share: turns at the handler slots, the bound on memory, one log line per outage."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from phxqueue.consumer.sharing import Budget, HandlerSlots, StoreHealth


class Queue:
    """Somebody with so many items; each stays at work until `end`."""

    def __init__(self, slots: HandlerSlots, name: str, items: int, trace: list[str]) -> None:
        self.slots = slots
        self.name = name
        self.items = items
        self.trace = trace

    def handle_one(self) -> bool:
        self.items -= 1
        self.trace.append(self.name)
        return self.items > 0

    def pump(self) -> None:
        while self.items and self.slots.take(self):
            self.handle_one()


def test_who_waits_for_a_slot_gets_his_turn_before_who_asks_now() -> None:
    clock = Clock()
    slots = HandlerSlots(2, clock)
    trace: list[str] = []
    first, second, third = (Queue(slots, name, 3, trace) for name in "abc")
    first.pump()
    second.pump()
    assert trace == ["a", "a"]
    slots.give()
    third.pump()
    assert trace == ["a", "a"], "a and b were first"
    clock.advance(0)
    assert trace == ["a", "a", "a"]
    for _ in range(6):
        slots.give()
        clock.advance(0)
    assert trace == ["a", "a", "a", "b", "c", "b", "c", "b", "c"]
    slots.give()
    clock.advance(0)
    assert slots.free == 1


def test_who_leaves_the_line_is_not_called() -> None:
    clock = Clock()
    slots = HandlerSlots(1, clock)
    trace: list[str] = []
    first, second = Queue(slots, "a", 1, trace), Queue(slots, "b", 1, trace)
    first.pump()
    second.pump()
    slots.leave(second)
    slots.give()
    clock.advance(0)
    assert trace == ["a"]
    assert slots.free == 1


class Fetcher:
    def __init__(self, fetch: Callable[[], None]) -> None:
        self.fetch = fetch


def test_the_budget_is_shared_by_what_is_asked_for_and_wakes_who_had_to_wait() -> None:
    clock = Clock()
    budget = Budget(limit=1000, floor=100, clock=clock)
    woken: list[str] = []
    one, two = Fetcher(lambda: woken.append("one")), Fetcher(lambda: woken.append("two"))
    assert budget.begin(one, wish=600) == 600
    assert budget.begin(two, wish=600) == 500, "half of it"
    budget.end()
    budget.add(950)
    assert budget.begin(two, wish=600) == 100, "the least that makes sense"
    budget.end()
    budget.add(100)
    assert budget.begin(one, wish=600) == 0
    assert budget.begin(two, wish=600) == 0
    budget.release(10)
    clock.advance(0)
    assert woken == []
    budget.release(100)
    clock.advance(0)
    assert woken == ["one", "two"]


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        clock = Clock()
        health = StoreHealth("store 7", clock)
        health.worked()
        assert not health.failing
        for _ in range(3):
            health.failed("no majority")
        assert health.failing
        clock.advance(2.5)
        health.worked()
        health.worked()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [(event["log_level"].name, event["what"]) for event in events] == [("warn", "store 7"), ("info", "store 7")]
    assert events[1]["seconds"] == 2.5
