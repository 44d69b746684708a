"""What an entry costs in the consensus core alone: `python -m benchmarks.paxos_core`.

Three cores in one process, messages handed over as objects and disks that are instant, so that all the time measured
is that of the core. Figures per entry and node: propose (or step of the Accept), the answers, the votes, handing out.
`calibration` is a loop of method calls measured in the same run: compare ratios to it, not microseconds, across
machines.
"""

from __future__ import annotations

import argparse
import time
from collections import deque

from phxqueue.paxos.config import GroupConfig, Member, Restored
from phxqueue.paxos.effects import Effects
from phxqueue.paxos.group import Group
from phxqueue.paxos.messages import Message


class Bench:
    """A group whose disks and network take no time; counts the time spent inside each core."""

    def __init__(self, size: int) -> None:
        members = tuple(Member(node_id) for node_id in range(size))
        self.now = 1.0
        self.groups = [
            Group(GroupConfig(group_id=0, node_id=node_id, members=members), Restored(), self.now, 0)
            for node_id in range(size)
        ]
        self.spent = [0.0] * size
        self.mail: deque[Message] = deque()
        self.written: deque[tuple[int, Effects]] = deque()
        self.applied = [0] * size

    def elect(self) -> int:
        """Let time pass until there is a master with a lease."""
        while True:
            for node_id, group in enumerate(self.groups):
                self.take(node_id, group.tick(self.now))
            self.settle()
            for node_id, group in enumerate(self.groups):
                if group.lease_valid(self.now):
                    return node_id
            self.now += 0.01

    def take(self, node_id: int, out: Effects) -> None:
        """Carry out what a core asks for."""
        if out.persist:
            self.written.append((node_id, out))
        self.mail.extend(out.send)
        self.applied[node_id] += len(out.chosen)

    def settle(self) -> None:
        """Deliver and persist until nothing is under way."""
        clock = time.perf_counter
        while self.mail or self.written:
            while self.mail:
                message = self.mail.popleft()
                begun = clock()
                out = self.groups[message.receiver].step(message, self.now)
                self.spent[message.receiver] += clock() - begun
                self.take(message.receiver, out)
            while self.written:
                node_id, out = self.written.popleft()
                self.mail.extend(out.send_after)
                if out.token is not None:
                    begun = clock()
                    after = self.groups[node_id].persisted(out.token, self.now)
                    self.spent[node_id] += clock() - begun
                    self.take(node_id, after)

    def propose(self, master: int, payload: bytes) -> None:
        """One proposal."""
        begun = time.perf_counter()
        _, out = self.groups[master].propose(payload, self.now)
        self.spent[master] += time.perf_counter() - begun
        self.take(master, out)


def calibration() -> float:
    """Nanoseconds per method call of this interpreter on this machine, now."""

    class Thing:
        def method(self, value: int) -> int:
            return value + 1

    thing, count, value = Thing(), 300_000, 0
    begun = time.perf_counter()
    for _ in range(count):
        value = thing.method(value)
    return (time.perf_counter() - begun) / count * 1e9


def measure(size: int, payload: int, in_flight: int, count: int) -> str:
    """A line of the table."""
    bench = Bench(size)
    master = bench.elect()
    body = bytes(payload)
    bench.spent = [0.0] * size
    bench.applied = [0] * size
    for _ in range(count // in_flight):
        for _ in range(in_flight):
            bench.propose(master, body)
        bench.settle()
        bench.now += 0.001
    done = bench.applied[master]
    others = [spent for node_id, spent in enumerate(bench.spent) if node_id != master]
    follower = f"{max(others) / done * 1e6:8.1f}" if others else f"{'-':>8}"
    return f"{size:5} {payload:8} {in_flight:9} {bench.spent[master] / done * 1e6:9.1f} {follower}"


def measure_idle(size: int, seconds: float) -> str:
    """What heartbeats cost an idle group: microseconds per second of its time, at the master and at a follower."""
    bench = Bench(size)
    master = bench.elect()
    bench.spent = [0.0] * size
    end = bench.now + seconds
    while bench.now < end:
        bench.now = max(bench.now, bench.groups[master].next_deadline())
        begun = time.perf_counter()
        out = bench.groups[master].tick(bench.now)
        bench.spent[master] += time.perf_counter() - begun
        bench.take(master, out)
        bench.settle()
        bench.now += 0.001
    others = [spent for node_id, spent in enumerate(bench.spent) if node_id != master]
    return f"{size:5} {bench.spent[master] / seconds * 1e6:9.0f} {max(others) / seconds * 1e6:9.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="entries per line")
    count = parser.parse_args().count
    print(f"calibration: {calibration():.0f} ns per method call")
    print("nodes  payload in flight  master us follower us")
    for size in (1, 3, 5):
        for payload, in_flight in ((100, 1), (100, 64), (65536, 16)):
            print(measure(size, payload, in_flight, count))
    print("idle, us per second and group")
    print("nodes    master  follower")
    for size in (3, 5):
        print(measure_idle(size, 200.0))


if __name__ == "__main__":
    main()
