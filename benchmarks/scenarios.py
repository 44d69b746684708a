"""The rows of the speed table: what is sent, and what others reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row.

    Attributes:
        key: to choose it on the command line.
        work: what it is, for the table.
        size: bytes of a message.
        in_flight: enqueues on their way at the same time.
        batch: messages of one enqueue_many; 1: plain enqueue.
        qps: messages a second; 0: as many as possible.
        prototype: what the rough prototype of this design reached on a quiet machine (messages a second), or None.
        goal: what has to be reached, for the table.
        end_to_end: measure from enqueue to arrival at the reader.
        daemon: read with a real consumer daemon and a handler instead of the plain reader.
    """

    key: str
    work: str
    size: int
    in_flight: int
    batch: int = 1
    qps: float = 0.0
    prototype: float | None = None
    goal: str = ""
    end_to_end: bool = False
    daemon: bool = False


SCENARIOS = (
    Scenario(key="one", work="100 B, one in flight", size=100, in_flight=1, prototype=1190, goal="p50 0.80 ms"),
    Scenario(key="64", work="100 B, 64 in flight", size=100, in_flight=64, prototype=45_000, goal="p99 2 ms"),
    Scenario(key="512", work="100 B, 512 single-item requests in flight", size=100, in_flight=512, prototype=104_000),
    Scenario(
        key="batches", work="100 B in client batches of 500, 8 in flight", size=100, in_flight=8, batch=500,
        prototype=580_000,
    ),
    Scenario(key="1k", work="1 KB in batches of 64, 8 in flight", size=1024, in_flight=8, batch=64, prototype=85_000),
    Scenario(
        key="latency", work="end to end at 1,000/s", size=100, in_flight=64, qps=1000, end_to_end=True,
        goal="p50 < 2 ms, p99 < 5 ms",
    ),
)  # fmt: skip
