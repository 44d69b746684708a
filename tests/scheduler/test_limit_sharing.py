"""One speed limit over several consumers, shared out by demand: kept within 5 % over ten seconds, whatever happens.

Virtual time; consumers' token buckets, their calls and the scheduler are the real ones.
"""

from __future__ import annotations

import pytest

from phxqueue.consumer.demand import DemandMeter
from tests.scheduler.limits_rig import Rig

PLENTY = 1e9
#: From the start of a scheduler until it hands out anything, at most: one lease. Then shares settle at once.
SETTLED_S = 4.0


@pytest.mark.parametrize("rate", [20, 100, 1000])
def test_the_whole_limit_is_used_while_demand_is_uneven(rate: int) -> None:
    rig = Rig(rate, 0.5, 0.3, 0.2)
    busy, steady, _ = rig.consumers
    busy.backlog = PLENTY
    steady.arriving = 0.3 * rate
    rig.run(20)
    windows = rig.windows(SETTLED_S)
    assert 0.95 <= min(windows) <= max(windows) <= 1.05
    assert steady.backlog < rate / 2, "who wants less than its part waits for nobody"


def test_the_limit_follows_demand_that_moves() -> None:
    """Everything that wants to go moves from one consumer to another, every five seconds."""
    rig = Rig(200, 0.5, 0.3, 0.2)
    a, b, c = rig.consumers
    a.backlog = PLENTY
    rig.run(10)
    for giver, taker in ((a, b), (b, c), (c, a), (a, c)):
        giver.backlog = 0
        taker.backlog = PLENTY
        rig.run(5)
    windows = rig.windows(SETTLED_S)
    assert 0.95 <= min(windows) <= max(windows) <= 1.05


def test_the_limit_holds_and_is_used_while_a_consumer_dies() -> None:
    rig = Rig(200, 0.4, 0.3, 0.3)
    for consumer in rig.consumers:
        consumer.backlog = PLENTY
    rig.run(14)
    rig.consumers[0].die()
    rig.run(14)
    windows = rig.windows(SETTLED_S)
    assert 0.95 <= min(windows) <= max(windows) <= 1.05


def test_the_part_of_a_consumer_that_is_cut_off_is_used_after_a_lease() -> None:
    rig = Rig(200, 0.4, 0.3, 0.3)
    for consumer in rig.consumers:
        consumer.backlog = PLENTY
    rig.run(14)
    hanging = rig.consumers[0]
    rig.wire.cut.add(hanging.name)
    hanging.alive = False  # but its connections stay
    rig.run(16)
    assert max(rig.windows(SETTLED_S)) <= 1.05
    lost = 1 - min(rig.windows(SETTLED_S))
    assert 0.08 < lost < 0.16, "0.4 of it for about three seconds of ten"
    assert min(rig.windows(18.0)) >= 0.95


def test_without_a_scheduler_everybody_keeps_to_the_part_of_its_queues() -> None:
    rig = Rig(200, 0.5, 0.3, 0.2)
    a, b, _ = rig.consumers
    a.backlog = PLENTY
    b.backlog = PLENTY
    rig.run(14)
    rig.kill_scheduler()
    rig.run(8)
    before = a.handled, b.handled
    rig.run(10)
    assert (a.handled - before[0]) / 2000 == pytest.approx(0.5, abs=0.02)
    assert (b.handled - before[1]) / 2000 == pytest.approx(0.3, abs=0.02)
    rig.start_scheduler()
    rig.run(16)
    windows = rig.windows(SETTLED_S)
    assert max(windows) <= 1.05, "not more at any time, neither when it goes nor when another one comes"
    assert min(rig.windows(32.0 + SETTLED_S)) >= 0.95


def test_a_consumer_starts_by_its_queues_when_no_scheduler_answers_for_a_lease() -> None:
    rig = Rig(200, 0.5, 0.5)
    rig.kill_scheduler()
    a, b = rig.consumers
    a.backlog = PLENTY
    rig.run(2.5)
    assert a.handled == 0, "there may be others that have all of it"
    rig.run(11)
    assert min(rig.windows(3.2)) == pytest.approx(0.5, abs=0.03)
    assert b.handled == 0


def test_limits_that_go_are_asked_about_no_more() -> None:
    rig = Rig(200, 0.5, 0.5)
    rig.run(5)
    a = rig.consumers[0]
    assert rig.wire.scheduler is not None
    before = rig.wire.calls
    for consumer in rig.consumers:
        consumer.speed.configure(consumer.speed.throttle.__class__())
    rig.run(5)
    assert rig.wire.calls <= before + len(rig.consumers)
    a.speed.configure(a.speed.throttle.__class__((rig.limit,)))
    a.backlog = PLENTY
    rig.run(5)
    assert a.handled > 200 * 5 * 0.8


def test_demand_is_what_passed_and_what_waits() -> None:
    meter = DemandMeter(0.0)
    now, taken = 0.0, 0
    for _ in range(40):
        now, taken = now + 0.1, taken + 5
        wanted = meter.wanted(now, taken, 0, 100.0)
    assert wanted == pytest.approx(51.5, rel=0.02)
    assert meter.wanted(now, taken, 30, 100.0) == pytest.approx(81.5, rel=0.02), "to be worked off within a second"
    assert meter.wanted(now, taken, 30, 100.0) == 201.0, "it does not get less: there may be any number"
    now += 0.1
    assert meter.wanted(now, taken, 0, 100.0) < 81.5, "nothing waits any more"
    assert meter.wanted(now + 0.1, taken, 0, 100.0) == 0.0, "four items are missing"
