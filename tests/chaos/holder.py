"""``python -m tests.chaos.holder CONFIG FILE SEED``: a process that takes locks and writes down what it believes.

It is killed, and stopped for longer than its leases. Whether two processes ever believed to hold the same lock is
judged from what all of them have written (tests/chaos/exclusion.py).
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from phxqueue.admin import edge
from phxqueue.admin.gather import gather
from phxqueue.daemon.readiness import notify
from phxqueue.lock.client import Held, LockClient, LockError, LockTimeout, NotHeld
from tests.chaos.exclusion import GOT, USED, Belief

NAMES = ("one", "two", "three")
#: That want each of the locks in this process; there are several processes.
CONTENDERS = 2
LEASES_S = (1.0, 2.0, 5.0)


class Holder:
    """Takes locks, uses them a few times, gives them back or forgets about them."""

    def __init__(self, reactor: Any, client: LockClient, rng: random.Random, file: int) -> None:
        self._reactor = reactor
        self._client = client
        self._rng = rng
        self._file = file

    async def contend(self, name: str) -> None:
        """Without end."""
        while True:
            asked = time.monotonic()
            try:
                held = await self._client.acquire(name, self._rng.choice(LEASES_S), self._rng.uniform(0.5, 10.0))
            except LockTimeout:
                continue
            except LockError:
                await self._pause(0.2)  # no master just now
                continue
            await self._use(name, held, asked)
            if self._rng.random() < 0.9:
                with suppress(LockError):  # it was lost, or nobody could be told: the lease ends it
                    await held.release()
            del held  # else it would be renewed
            await self._pause(0.05)

    async def _use(self, name: str, held: Held, asked: float) -> None:
        told = False
        for _ in range(self._rng.randint(1, 10)):
            now = time.monotonic()
            try:
                token = held.token
            except NotHeld:
                return
            if not told:
                self._write(Belief(os.getpid(), name, GOT, token, asked, now))
                told = True
            # Believed at a moment after `now`: then also at `now`.
            self._write(Belief(os.getpid(), name, USED, token, asked, now))
            await self._pause(0.1)

    def _write(self, belief: Belief) -> None:
        os.write(self._file, f"{belief}\n".encode())  # in one piece, whenever we are killed

    def _pause(self, mean: float) -> Deferred[None]:
        return deferLater(self._reactor, self._rng.uniform(0.0, 2.0) * mean, lambda: None)


async def main(reactor: Any, config: str, path: str, seed: str) -> None:
    """Hold locks until the process ends."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rng = random.Random(seed)
    async with await LockClient.connect(config, "test", reactor=reactor) as client:
        notify({"READY": "1", "MAINPID": str(os.getpid())})
        holders = [Holder(reactor, client, random.Random(rng.random()), file) for _ in range(CONTENDERS)]
        await gather(holder.contend(name) for holder in holders for name in NAMES)


def run(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    config, path, seed = arguments
    try:
        edge.run(lambda reactor: main(reactor, config, path, seed))
    except edge.Interrupted as interrupted:
        return interrupted.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
