"""Conditions become alarms when they last, and are over when they are gone for a while; and which ones there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import pytest
from twisted.internet.task import Clock

from phxqueue.config.settings import LockLimits
from phxqueue.console.alarms import Alarm
from phxqueue.console.condition_watch import LOOK_S, ConditionWatch
from phxqueue.console.conditions import AGAIN_S, CLEAR_AFTER_S, Condition, Conditions, Lately
from phxqueue.console.consumer_conditions import (
    BUFFERS_FULL,
    FULL_S,
    HANDLER_FAILING,
    REFUSED,
    STOPPED,
    STOPPED_S,
    UNKNOWN_HANDLE,
    UNREACHABLE,
    WINDOW_S,
    ConsumerConditions,
    QueueState,
)
from phxqueue.console.desk import LogDesk
from phxqueue.console.replica_conditions import (
    DISK_FULL,
    LEASE_STORM,
    NO_MASTER,
    NO_MASTER_S,
    STORM_WINDOW_S,
    TABLE_FULL,
    WAITERS_FULL,
    ReplicaConditions,
)
from phxqueue.console.scheduler_conditions import NO_CONSUMER, NO_LOCK, SILENT, scheduler_conditions
from phxqueue.consumer.workshop import Stats
from phxqueue.proto.status_pb2 import GroupStatus, LockTableStatus, NodeStatusResponse


def condition(which: int = 1, after_s: float = 10.0) -> Condition:
    return Condition(Alarm(kind="trouble", subject=(("queue", which),), cause="it is so", remedy="mend it"), after_s)


def kinds(present: Iterable[Condition]) -> list[str]:
    return [one.alarm.kind for one in present]


# ---- hysteresis --------------------------------------------------------------------------------------


def test_what_lasts_is_raised_once_and_what_is_gone_for_a_while_is_over() -> None:
    conditions = Conditions()
    told = []
    for second in range(0, 100, 5):
        raised, over = conditions.look(second, [condition()] if second < 50 else [])
        told += [(second, "raised")] * len(raised) + [(second, "over")] * len(over)
    assert told == [(10, "raised"), (45 + CLEAR_AFTER_S, "over")]


def test_what_goes_on_is_raised_again_as_it_is_by_then() -> None:
    conditions = Conditions()
    told = []
    for second in range(0, 1000, 5):
        now = condition()
        raised, _ = conditions.look(second, [replace(now, alarm=replace(now.alarm, cause=f"for {second} s"))])
        told += [one.cause for one in raised]
    assert told == ["for 10 s", "for 310 s", "for 610 s", "for 910 s"]


def test_an_alarm_that_is_taken_down_while_its_condition_lasts_comes_back() -> None:
    clock = Clock()
    desk = LogDesk(clock.seconds, clock.seconds)
    watch = ConditionWatch(clock, desk)
    watch.looks.append(lambda now: [condition()])
    watch.start()
    clock.pump([LOOK_S] * 4)
    desk.clear("trouble queue 1", "by hand")
    clock.pump([LOOK_S] * 10)
    assert not desk.alarms.standing
    clock.pump([LOOK_S] * int(AGAIN_S / LOOK_S))
    assert set(desk.alarms.standing) == {"trouble queue 1"}
    watch.stop()


def test_a_moment_of_trouble_is_not_told_nor_is_one_of_relief() -> None:
    conditions = Conditions()
    for second in (0, 5, 15, 20):  # never ten seconds without a break
        assert conditions.look(second, [condition()]) == ([], [])
        assert conditions.look(second + 1, []) == ([], [])
    conditions.look(100, [condition()])
    assert len(conditions.look(110, [condition()])[0]) == 1
    for second in range(115, 300, 5):  # it comes and goes
        assert conditions.look(second, [condition()] if second % 20 else []) == ([], [])


def test_they_are_told_apart_and_bounded() -> None:
    conditions = Conditions()
    raised, _ = conditions.look(0, [condition(which, 0.0) for which in range(2000)])
    assert [one.subject[0][1] for one in raised] == list(range(1000))


def test_lately_forgets_what_is_older_than_its_window() -> None:
    lately = Lately(60)
    assert lately.risen(0, {"bad": 5}) == {"bad": 0}, "what was before is nobody's news"
    assert lately.risen(30, {"bad": 8}) == {"bad": 3}
    assert lately.risen(90, {"bad": 9}) == {"bad": 1}
    assert lately.risen(200, {"bad": 9, "new": 3}) == {"bad": 0, "new": 0}


def test_the_watch_raises_and_clears_at_the_desk_and_survives_a_defect(logged_errors: Any) -> None:
    clock = Clock()
    desk = LogDesk(clock.seconds, clock.seconds)
    watch = ConditionWatch(clock, desk)
    watch.start()
    assert not clock.getDelayedCalls(), "there is nothing to look at"
    present: list[Condition] = [condition()]
    watch.looks += [lambda now: 1 / 0, lambda now: present]  # type: ignore[list-item,return-value]
    watch.start()
    clock.pump([LOOK_S] * 4)
    assert set(desk.alarms.standing) == {"trouble queue 1"}
    present.clear()
    clock.pump([LOOK_S] * 8)
    assert not desk.alarms.standing
    watch.stop()
    assert not clock.getDelayedCalls()
    assert logged_errors.flush(ZeroDivisionError)


# ---- stores and lock groups ----------------------------------------------------------------------------


def node(**fields: Any) -> NodeStatusResponse:
    return NodeStatusResponse(**{"lock_id": 1, "node_id": 2, "accepting": True, **fields})


def test_a_group_without_master_and_a_full_disk() -> None:
    looks = ReplicaConditions()
    assert kinds(looks.look(0, node(groups=[GroupStatus(group_id=0, master_node_id=0)]))) == []
    found = list(looks.look(0, node(groups=[GroupStatus(group_id=3)], accepting=False)))
    assert kinds(found) == [NO_MASTER, DISK_FULL]
    assert (found[0].alarm.name, found[0].after_s) == ("no-master lock 1 paxos group 3", NO_MASTER_S)
    assert kinds(looks.look(0, node(accepting=False))) == [], "it has not started yet"
    store = next(iter(looks.look(0, NodeStatusResponse(store_id=4, groups=[GroupStatus()], accepting=True))))
    assert store.alarm.name == "no-master store 4 paxos group 0"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"locks": 50, "strings": 39}, []),
        ({"locks": 50, "strings": 40}, [TABLE_FULL]),
        ({"bytes": 60_000}, [TABLE_FULL]),
        ({"waiters": 8}, []),
        ({"waiters": 9}, [WAITERS_FULL]),
    ],
)
def test_tables_and_waiters_nearly_at_their_bounds(table: dict[str, int], expected: list[str]) -> None:
    limits = LockLimits(table_keys=100, table_bytes=65_536, max_waiters=10)
    looks = ReplicaConditions(limits)
    assert kinds(looks.look(0, node(lock_tables=[LockTableStatus(group_id=0, **table)]))) == expected
    assert kinds(ReplicaConditions().look(0, node(lock_tables=[LockTableStatus(group_id=0, **table)]))) == []


def test_a_storm_of_leases_that_run_out() -> None:
    looks = ReplicaConditions(LockLimits())

    def look(now: float, expired: int, locks: int = 50) -> list[str]:
        return kinds(looks.look(now, node(lock_tables=[LockTableStatus(group_id=0, locks=locks, expired=expired)])))

    assert look(0, 1000) == [], "before it was looked at"
    assert look(5, 1019) == []
    assert look(10, 1020) == [LEASE_STORM]
    assert look(15, 1020, locks=1000) == [], "a small part of them"
    assert look(20 + STORM_WINDOW_S, 1020) == []


# ---- schedulers ------------------------------------------------------------------------------------------


def scheduler(*, master: bool = True, failing: str = "", alive: tuple[str, ...] = ("a", "b")) -> list[str]:
    present = scheduler_conditions("test", master, failing, ["a", "b"], dict.fromkeys(alive), 30.0)
    return [one.alarm.name for one in present]


def test_what_a_scheduler_sees() -> None:
    assert scheduler() == []
    assert scheduler(alive=("b",)) == [f"{SILENT} topic test consumer a"]
    assert scheduler(alive=()) == [f"{NO_CONSUMER} topic test"]
    assert scheduler(master=False, alive=()) == [], "the master sees them"
    assert scheduler(master=False, failing="no master", alive=()) == [f"{NO_LOCK} topic test"]


# ---- consumers ---------------------------------------------------------------------------------------------


class Consumer:
    def __init__(self) -> None:
        self.stats = Stats()
        self.queues: list[QueueState] = []
        self.held = 0
        self._looks = ConsumerConditions("10.0.0.1:8001", handler_timeout_s=10.0)

    def look(self, now: float) -> list[str]:
        return kinds(self._looks.look(now, asdict(self.stats), self.queues, self.held, 1000))

    def queue(self, position: int | None, **fields: bool) -> None:
        states = {"resting": False, "unreachable": False, **fields}
        self.queues = [QueueState(consumer_group_id=1, store_id=2, queue_id=3, position=position, **states)]


def test_handlers_that_fail_most_of_the_time() -> None:
    one = Consumer()
    one.stats.handled = one.stats.raised = 500
    assert one.look(0) == [], "before it was looked at"
    one.stats.handled, one.stats.raised = 600, 549
    assert one.look(5) == []
    one.stats.timed_out = 1
    assert one.look(10) == [HANDLER_FAILING]
    one.stats.handled = 700
    assert one.look(15) == []
    other = Consumer()
    other.look(0)
    other.stats.handled = other.stats.raised = 9
    assert other.look(5) == [], "too few to say"


def test_what_nobody_handles_and_what_is_refused() -> None:
    one = Consumer()
    one.look(0)
    one.stats.unknown_handle = one.stats.refused_acks = 1
    assert one.look(5) == [UNKNOWN_HANDLE, REFUSED]
    assert one.look(5 + WINDOW_S) == []


def test_a_queue_that_stands_still() -> None:
    one = Consumer()
    one.queue(7)
    assert one.look(0) == []
    assert one.look(STOPPED_S) == [STOPPED]
    one.queue(8)
    assert one.look(STOPPED_S + 5) == []
    one.queue(None)
    assert one.look(STOPPED_S + 10) == [], "there is nothing to finish"
    one.queue(8)
    assert one.look(2 * STOPPED_S) == []
    one.queue(8, resting=True)
    assert one.look(5 * STOPPED_S) == [], "it is paused"


def test_a_store_that_cannot_be_reached_and_full_buffers() -> None:
    one = Consumer()
    one.queue(7, unreachable=True)
    one.held = 950
    assert one.look(0) == [UNREACHABLE, BUFFERS_FULL]
    [full] = list(ConsumerConditions("c", 1.0).look(0, asdict(one.stats), [], 1000, 1000))
    assert full.after_s == FULL_S
