"""Which alarms stand and when they are told: by value."""

from __future__ import annotations

from twisted.internet.task import Clock

from phxqueue.console.alarms import KEPT_OCCURRENCES, Alarm, Alarms
from phxqueue.console.desk import AlarmDesk, alarm_statuses, document
from phxqueue.console.events import EventRing


def alarm(queue: int = 1, *, lasting: bool = True, start: int = 0) -> Alarm:
    return Alarm(
        kind="mismatch",
        subject=(("store", 1), ("queue", queue), ("group", 2)),
        labels={"pub": "3"},
        cause="one was lost",
        remedy="look",
        facts={"first_cursor": start},
        lasting=lasting,
    )


def book(most: int = 100) -> Alarms:
    return Alarms(most=most, repeat_s=60, hold_s=600)


def test_what_comes_again_is_counted_and_told_now_and_then() -> None:
    alarms = book()
    told = [alarms.raise_alarm(alarm(start=second), second, 1000 + second) for second in range(150)]
    assert [second for second, one in enumerate(told) if one] == [0, 60, 120]
    [standing] = alarms.standing.values()
    assert (standing.count, standing.since, standing.last) == (150, 1000, 1149)
    assert alarms.raised == {"mismatch": 150}
    assert [facts["first_cursor"] for facts in standing.recent] == list(range(150 - KEPT_OCCURRENCES, 150))


def test_each_subject_is_an_alarm_of_its_own() -> None:
    alarms = book()
    assert all(alarms.raise_alarm(alarm(queue), 0, 0) for queue in range(10))
    assert len(alarms.standing) == 10
    assert "mismatch store 1 queue 7 group 2" in alarms.standing


def test_no_more_stand_than_there_is_room_for_and_the_others_are_counted() -> None:
    alarms = book(most=3)
    told = [alarms.raise_alarm(alarm(queue), 0, 0) for queue in range(10)]
    assert [one is not None for one in told] == [True] * 3 + [False] * 7
    assert (len(alarms.standing), alarms.left_out, alarms.raised["mismatch"]) == (3, 7, 10)


def test_lasting_ones_end_when_they_have_not_come_for_long() -> None:
    alarms = book()
    alarms.raise_alarm(alarm(1), 0, 0)
    alarms.raise_alarm(alarm(2, lasting=False), 0, 0)
    alarms.raise_alarm(alarm(1), 500, 500)
    assert alarms.expire(1099) == []
    assert [one.alarm.subject[1] for one in alarms.expire(1100)] == [("queue", 1)]
    assert list(alarms.standing) == [alarm(2).name]


def test_the_desk_tells_log_events_and_whoever_wants_to_know() -> None:
    clock, events = Clock(), EventRing(10)
    told: list[tuple[str, int]] = []
    desk = AlarmDesk(book(), events, clock.seconds, lambda: 5.0, [lambda state, one: told.append((state, one.count))])
    for _ in range(1000):
        desk.raise_alarm(alarm())
    clock.advance(60)
    desk.raise_alarm(alarm())
    desk.clear(alarm().name, "it came right")
    desk.clear(alarm().name, "it came right")
    assert told == [("raised", 1), ("again", 1001), ("cleared", 1001)]
    assert [event.facts["state"] for event in events.since(kind="alarm")] == ["raised", "again", "cleared"]
    first = next(events.since()).facts
    assert {name: first[name] for name in ("store", "queue", "group", "pub", "first_cursor", "remedy")} == {
        "store": 1, "queue": 1, "group": 2, "pub": "3", "first_cursor": 0, "remedy": "look",
    }  # fmt: skip


def test_the_desk_lets_go_of_what_is_over() -> None:
    clock, events = Clock(), EventRing(10)
    desk = AlarmDesk(book(), events, clock.seconds, clock.seconds)
    desk.raise_alarm(alarm())
    clock.advance(600)
    desk.look()
    assert desk.alarms.standing == {}
    assert [event.facts["state"] for event in events.since(1)] == ["cleared"]


def test_an_alarm_as_values() -> None:
    alarms = book()
    standing = alarms.raise_alarm(alarm(start=7), 0, 0)
    assert standing is not None
    values = document(standing)
    assert (values["name"], values["count"], values["facts"]) == (alarm().name, 1, {"first_cursor": 7})
    [status] = alarm_statuses(alarms)
    assert (status.name, dict(status.facts)) == (alarm().name, {"pub": "3", "first_cursor": "7"})


def test_only_the_newest_events_are_kept() -> None:
    ring = EventRing(3)
    for number in range(10):
        ring.add(0.0, "odd" if number % 2 else "even", f"event {number}")
    assert [event.number for event in ring.since()] == [8, 9, 10]
    assert [event.number for event in ring.since(8)] == [9, 10]
    assert [event.message for event in ring.since(kind="odd")] == ["event 7", "event 9"]
    assert ring.total == 10
