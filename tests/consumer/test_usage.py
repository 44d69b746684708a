"""How busy a consumer says it is."""

from __future__ import annotations

import os

from phxqueue.consumer.source import QueueLag
from phxqueue.consumer.usage import COUNT_S, FEW, UsageMeter
from phxqueue.daemon.processor_time import processor_time


class Process:
    """A consumer whose times are made up."""

    def __init__(self) -> None:
        self.now = 100.0
        self.own = 5.0
        self.others: dict[int, float] = {}
        self.lag = {1: QueueLag(3, 0.0), 2: QueueLag(4, 0.0)}
        self.meter = UsageMeter(
            lambda: 0.25, lambda: self.lag, lambda: [*self.others, 99],
            clock=lambda: self.now, own_time=lambda: self.own, time_of=self.others.get,
        )  # fmt: skip

    def after(self, seconds: float, own: float, **others: float) -> float:
        """The load when so much time has passed, and so much of it was used by this process and by each other one."""
        self.now += seconds
        self.own += own
        for name, used in others.items():
            pid = int(name[1:])
            self.others[pid] = self.others.get(pid, 0.0) + used
        return self.meter.read().cpu


def test_the_load_is_that_of_the_busier_part() -> None:
    process = Process()
    assert process.after(2.0, 1.0) == 50.0
    assert process.after(2.0, 0.5, p1=3.0, p2=3.0) == 25.0, "new processes count from now on"
    assert process.after(2.0, 0.5, p1=2.0, p2=1.0) == 75.0, "the mean of them"
    del process.others[1]
    assert process.after(2.0, 0.5, p2=0.1) == 25.0


def test_many_queues_are_counted_now_and_then() -> None:
    process = Process()
    usage = process.meter.read()
    assert (usage.queues, usage.backlog, usage.slots) == (2, 7, 25.0)
    process.lag = {number: QueueLag(1, 0.0) for number in range(FEW + 1)}
    assert process.meter.read().queues == FEW + 1
    process.lag = {}
    process.now += COUNT_S / 2
    assert process.meter.read().queues == FEW + 1
    process.now += COUNT_S / 2
    assert process.meter.read().queues == 0


def test_processor_time_of_a_process() -> None:
    used = processor_time(os.getpid())
    assert used is not None
    assert abs(used - sum(os.times()[:2])) < 1.0
    assert processor_time(2**30) is None
