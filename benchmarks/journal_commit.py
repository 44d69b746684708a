"""How fast the journal commits: `python benchmarks/journal_commit.py --directory DIR`.

Prints, after a calibration (a bare write + fdatasync of the same size into a file of zeros, measured in the same run):
the latency of one submission at a time from an idle reactor, commits and megabytes per second with several entries per
commit, and the same beside a Python thread that never rests. DIR has to lie on the disk that is meant.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from phxqueue.config.settings import JournalSettings
from phxqueue.journal import bdb
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import PutChosen, PutEntry, WantedIdentity, Write

SIZES = (200, 8 << 10, 64 << 10, 512 << 10)
ENTRIES = (1, 8, 64)
MAX_COMMIT_BYTES = 16 << 20


class BusyThread:
    """A thread of pure Python, as a reactor under load is."""

    def __init__(self, busy: bool) -> None:
        self._stop = not busy
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        number = 0
        while not self._stop:
            number += 1

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._stop = True
        self._thread.join()


def calibrate(directory: Path, size: int, seconds: float) -> list[float]:
    """Return the times of write + fdatasync, one after another, into a file that is there already."""
    path = directory / "calibration"
    total = max(8 << 20, 4 * size)
    data = os.urandom(size)
    times: list[float] = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.write(fd, bytes(total))
        os.fsync(fd)
        offset, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 20:
            began = time.perf_counter()
            os.pwrite(fd, data, offset)
            os.fdatasync(fd)
            times.append(time.perf_counter() - began)
            offset = (offset + size) % (total - size)
    finally:
        os.close(fd)
        path.unlink()
    return times


async def one_at_a_time(journal: Journal, first: int, entries: int, size: int, seconds: float) -> list[float]:
    """Return the times from submit to done, each submission waiting for the one before."""
    payload = os.urandom(size)
    times: list[float] = []
    instance, end = first, time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 20:
        writes: list[Write] = [PutChosen(0, instance - 1)]
        writes += [PutEntry(0, instance + n, 1, 0, 0, payload) for n in range(entries)]
        instance += entries
        waiting: Deferred[None] = Deferred()
        began = time.perf_counter()
        journal.submit(writes, lambda waiting=waiting: waiting.callback(None))  # type: ignore[misc]
        await waiting
        times.append(time.perf_counter() - began)
    return times


def describe(times: Sequence[float]) -> str:
    """Return p50 and p99 in microseconds."""
    ordered = sorted(times)
    return f"{ordered[len(ordered) // 2] * 1e6:8.0f} {ordered[int(len(ordered) * 0.99)] * 1e6:8.0f}"


async def measure(directory: Path, options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Measure everything and report it line by line."""
    settings = JournalSettings(**dict(option.split("=", 1) for option in options.set))
    report(f"{'what':28} {'p50 µs':>8} {'p99 µs':>8} {'commits/s':>10} {'MB/s':>8}")
    for busy in (False, True):
        for size in SIZES:
            if not busy:
                times = calibrate(directory, size, options.seconds / 2)
                rate = 1 / statistics.mean(times)
                report(f"{'bare fdatasync, ' + str(size):28} {describe(times)} {rate:10.0f} {rate * size / 1e6:8.1f}")
            for entries in ENTRIES:
                if entries * size > MAX_COMMIT_BYTES:
                    continue
                with tempfile.TemporaryDirectory(dir=directory) as home:
                    journal = Journal.open(
                        home, WantedIdentity("bench", 1, 0, 1), settings, reactor, sys.exit,
                        binding=bdb.load(options.binding),
                    )  # fmt: skip
                    with BusyThread(busy):
                        times = await one_at_a_time(journal, 0, entries, size, options.seconds)
                    rate = 1 / statistics.mean(times)
                    what = f"{entries} x {size}{', busy' if busy else ''}"
                    report(f"{what:28} {describe(times)} {rate:10.0f} {rate * entries * size / 1e6:8.1f}")
                    await journal.close()


def main(_reactor: object, *arguments: str) -> Deferred[None]:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path.cwd())
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--binding", choices=bdb.BINDINGS)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of JournalSettings")
    options = parser.parse_args(arguments)
    measured: Awaitable[None] = measure(options.directory, options, lambda line: print(line, flush=True))
    return Deferred.fromCoroutine(measured)  # type: ignore[arg-type]


if __name__ == "__main__":
    react(main, sys.argv[1:])
