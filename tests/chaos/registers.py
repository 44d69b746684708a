"""Clients of the lock service's strings that write down when each operation was called and returned, and with what.

What they write is checked against the model of a register with versions (phxqueue.testing.linearizability).
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from phxqueue.admin.gather import gather
from phxqueue.lock.client import ClientClosed, LockClient, LockError, OutcomeUnknown, Refused, VersionMismatch
from phxqueue.testing.linearizability import Operation, Recorder
from tests.chaos.cluster import ChaosCluster

KEYS = ("alpha", "beta", "gamma")
CLIENTS = 3
#: Pause between two operations of one client on one key, on average.
PAUSE_S = 0.3


@dataclass
class Registers:
    """Runs the clients, collects what they saw.

    Attributes:
        answered: operations that got an answer so far.
    """

    reactor: Any
    cluster: ChaosCluster
    rng: random.Random
    recorder: Recorder = field(default_factory=lambda: Recorder(time.monotonic))
    answered: int = 0
    _clients: list[LockClient] = field(default_factory=list)
    _stopping: bool = False
    _running: Deferred[Any] | None = None

    async def start(self) -> None:
        """Connect everybody and begin."""
        for _ in range(CLIENTS):
            client = await LockClient.connect(self.cluster.cluster, self.cluster.topic.topic_id, reactor=self.reactor)
            self._clients.append(client)
        working = [
            self._work(client, key, f"writer {number}.{key}")
            for number, client in enumerate(self._clients)
            for key in KEYS
        ]
        self._running = Deferred.fromCoroutine(gather(working))

    async def stop(self) -> None:
        """Let every client finish its operation."""
        self._stopping = True
        if self._running is not None:
            await self._running

    async def close(self) -> None:
        """Stop at once, whatever is under way."""
        self._stopping = True
        if self._running is not None:
            self._running.addErrback(lambda failure: failure.trap(CancelledError))
            self._running.cancel()
        for client in self._clients:
            await client.close()

    def operations(self) -> list[Operation]:
        """The history."""
        return self.recorder.operations()

    async def _work(self, client: LockClient, key: str, name: str) -> None:
        version, number = 0, 0
        while not self._stopping:
            number += 1
            try:
                version = await self._one(client, key, name, f"{name} {number}", version)
            except ClientClosed:
                return
            except LockError:
                pass  # no answer: it is in the history as that
            else:
                self.answered += 1
            await deferLater(self.reactor, self.rng.uniform(0.0, 2.0) * PAUSE_S, lambda: None)

    async def _one(self, client: LockClient, key: str, name: str, value: str, version: int) -> int:
        """One operation; returns the version that the next compare-and-swap expects."""
        kind = self.rng.random()
        if kind < 0.35:
            return await self._read(client, key, name)
        if kind < 0.75:
            return await self._swap(client, key, name, value, version)
        if kind < 0.92:
            return await self._write(client, key, name, value)
        return await self._delete(client, key, name)

    async def _read(self, client: LockClient, key: str, name: str) -> int:
        token = self.recorder.call("versioned-register", key, name, "read")
        try:
            found = await client.get(key)
        except LockError:
            self.recorder.refused(token)  # nothing was read
            raise
        value, version = (None, 0) if found is None else (found.value.decode(), found.version)
        self.recorder.returned(token, value=value, version=version)
        return version

    async def _swap(self, client: LockClient, key: str, name: str, value: str, expected: int) -> int:
        token = self.recorder.call("versioned-register", key, name, "cas", expected=expected, value=value)
        try:
            version = await client.set(key, value.encode(), expected_version=expected)
        except VersionMismatch:
            self.recorder.returned(token, version=None)
            return await self._read(client, key, name)
        except LockError as error:
            self._no_answer(token, error)
            raise
        self.recorder.returned(token, version=version)
        return version

    async def _write(self, client: LockClient, key: str, name: str, value: str) -> int:
        token = self.recorder.call("versioned-register", key, name, "write", value=value)
        try:
            version = await client.set(key, value.encode())
        except LockError as error:
            self._no_answer(token, error)
            raise
        self.recorder.returned(token, version=version)
        return version

    async def _delete(self, client: LockClient, key: str, name: str) -> int:
        """Of a string that is not there it is a read."""
        token = self.recorder.call("versioned-register", key, name, "write", value=None)
        missing = self.recorder.call("versioned-register", key, name, "read")
        try:
            deleted = await client.delete(key)
        except LockError as error:
            self._no_answer(token, error)
            self.recorder.refused(missing)
            raise
        if deleted:
            self.recorder.returned(token, version=None)
            self.recorder.refused(missing)
        else:
            self.recorder.refused(token)
            self.recorder.returned(missing, value=None, version=0)
        return 0

    def _no_answer(self, token: int, error: LockError) -> None:
        surely_not = isinstance(error, Refused) and not isinstance(error, OutcomeUnknown)
        (self.recorder.refused if surely_not else self.recorder.unknown)(token)
