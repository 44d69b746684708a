"""When half messages are asked about and given up, by value."""

from __future__ import annotations

from phxqueue.store.half_schedule import HalfPolicy, HalfSchedule
from phxqueue.store.half_table import COMMITTED, Decided, Half, HalfTable

POLICY = HalfPolicy(after_ms=60_000, every_ms=10_000, checks=3, deadline_ms=100_000)


def prepare(table: HalfTable, at_ms: int, *, name: str = "pay", check_after_ms: int = 0) -> int:
    number = table.next_number
    table.add(Half(at_ms, number, 0, 1, 0, 1, 1, 1, 1, 0, 0, check_after_ms), name)
    return number


def decide(table: HalfTable, number: int, now_ms: int) -> None:
    half = table.take(number)
    assert half is not None
    table.remember(number, Decided(COMMITTED, 1, 1, 1, 0, half.prepared_ms), now_ms)


def asked(schedule: HalfSchedule, now_ms: int, name: str = "pay") -> list[int]:
    schedule.advance(now_ms)
    return [half.number for half in schedule.take_questions(name, 100)]


def test_it_is_asked_about_at_its_times_and_given_up_at_the_deadline() -> None:
    table = HalfTable()
    schedule = HalfSchedule(table, lambda pub_id: POLICY)
    prepare(table, 0)
    times = [now for now in range(0, 100_000, 1000) if asked(schedule, now)]
    assert times == [60_000, 70_000, 80_000]
    assert schedule.take_overdue(10) == []
    schedule.advance(100_000)
    assert schedule.take_overdue(10) == [1]
    assert schedule.take_overdue(10) == []
    schedule.give_back([1])
    assert schedule.take_overdue(10) == [1]


def test_a_new_master_asks_once_for_what_was_missed() -> None:
    table = HalfTable()
    prepare(table, 0)
    schedule = HalfSchedule(table, lambda pub_id: POLICY)
    assert asked(schedule, 75_000) == [1]
    assert asked(schedule, 76_000) == []
    assert asked(schedule, 80_000) == [1]
    assert asked(schedule, 99_000) == []


def test_its_own_time_goes_before_that_of_the_pub_and_names_are_apart() -> None:
    table = HalfTable()
    schedule = HalfSchedule(table, lambda pub_id: POLICY)
    prepare(table, 0, check_after_ms=1000)
    prepare(table, 0, name="ship")
    assert asked(schedule, 1000) == [1]
    assert asked(schedule, 60_000, "ship") == [2]
    assert schedule.next_ms == 70_000


def test_what_is_decided_costs_no_memory_for_long() -> None:
    table = HalfTable()
    schedule = HalfSchedule(table, lambda pub_id: POLICY)
    for number in range(1, 20_001):
        prepare(table, number)
        decide(table, number, number)
        schedule.advance(number)
    assert schedule.remembered < 2100
    for _ in range(5000):
        prepare(table, 20_001)
    schedule.advance(90_000)  # nobody hears the questions
    for number in range(20_001, 25_001):
        decide(table, number, 90_001)
    schedule.advance(90_001)
    assert schedule.remembered < 2100
