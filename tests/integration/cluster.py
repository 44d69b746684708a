"""The cluster of a test: the one of phxqueue.admin.processes, and what tests ask of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

from phxqueue.admin.certificates import operator_tls
from phxqueue.admin.clients import open_pool
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.child import Child
from phxqueue.admin.processes.cluster import ProcessCluster
from phxqueue.admin.processes.files import STORE_ID, ClusterSpec
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.net.pool import ConnectionPool
from phxqueue.producer import CheckBack, Producer
from phxqueue.producer.settings import ProducerSettings

REPOSITORY = Path(__file__).resolve().parents[2]
LEDGER_VARIABLE = "PHXQUEUE_TEST_LEDGER"
LOOK_AGAIN_S = 0.02
#: A daemon that must not come up has so long to say why, on a machine with other things to do.
REFUSAL_TIMEOUT_S = 60.0
#: Of a topic. A busy machine may take longer over an election than producers are to wait for one; where the claim is
#: that a fault costs them nothing, the machine must not decide.
PATIENT = {"producer_no_master_patience_s": 20}


class TestedCluster(ProcessCluster):
    """A cluster whose consumers write what they handle into `ledger` (tests/integration/handlers.py)."""

    __test__ = False
    #: A machine with other things to do may take ten times as long; the limit of a test is longer still.
    start_timeout_s = 80.0
    stop_timeout_s = 60.0

    def __init__(self, reactor: Any, directory: Path, spec: ClusterSpec, *, notify: NotifySocket | None = None) -> None:
        directory.mkdir()
        self.ledger = directory / "ledger.txt"
        self.reactor = reactor
        self._pool: ConnectionPool | None = None
        self._producers: list[Producer] = []
        environment = {"PYTHONPATH": str(REPOSITORY), LEDGER_VARIABLE: str(self.ledger)}
        super().__init__(reactor, directory, spec, environment=environment, notify=notify)

    async def producer(self, *, name: str = "", check_back: CheckBack | None = None, **settings: Any) -> Producer:
        """A producer that is closed with the cluster; settings are fields of ProducerSettings."""
        bounds = replace(ProducerSettings.from_topic(self.topic.settings), **settings)
        topic = self.topic.topic_name
        made = await Producer.connect(self.cluster, topic, settings=bounds, name=name, check_back=check_back)
        self._producers.append(made)
        return made

    @property
    def pool(self) -> ConnectionPool:
        if self._pool is None:
            self._pool = open_pool(self.reactor, self.cluster, self.topic, operator_tls(self.cluster))
        return self._pool

    async def close(self) -> None:
        for producer in self._producers:
            # What is still under way at the end of a test is of no interest.
            producer.settings = producer.settings.__class__(close_timeout_s=0.05)
        for closing in [producer.close() for producer in self._producers]:
            await closing
        if self._pool is not None:
            await self._pool.close()
        await super().close()

    async def reports(self, timeout_s: float = 2.0) -> list[NodeReport]:
        return await ask_all(self.pool, self.topic, timeout_s)

    async def master(self) -> Child:
        """The node that is master now; waits for an election to end."""
        while True:
            master = master_of(await self.reports(), STORE_ID, 0)
            if master is not None:
                return self.stores[master.node.node_id]
            await self.pause()

    async def ballot(self) -> int:
        """The highest that any node knows, once all have answered: it rises with every election."""
        while True:
            groups = [report.group(0) for report in await self.reports()]
            ballots = [group.ballot for group in groups if group is not None]
            if len(ballots) == len(self.stores):
                return max(ballots)
            await self.pause()

    async def followers(self) -> list[Child]:
        master = await self.master()
        return [child for child in self.stores if child is not master]

    async def applied_everywhere(self) -> list[int]:
        """Wait until every node has applied what the master has; returns what each has then."""
        while True:
            reports = await self.reports()
            applied = [state.applied if (state := report.group(0)) is not None else -1 for report in reports]
            if len(set(applied)) == 1 and applied[0] >= 0 and master_of(reports, STORE_ID, 0) is not None:
                return applied
            await self.pause()

    async def applied_everywhere_so_far(self) -> None:
        """Wait until every node has applied what the master had at this moment; load may go on."""
        wanted = -1
        while True:
            reports = await self.reports()
            applied = [state.applied if (state := report.group(0)) is not None else -1 for report in reports]
            if wanted < 0 and master_of(reports, STORE_ID, 0) is not None:
                wanted = max(applied)
            if 0 <= wanted <= min(applied):
                return
            await self.pause()

    async def pause(self) -> None:
        """Between two looks at something that tells nobody when it changes."""
        await deferLater(self.reactor, LOOK_AGAIN_S, lambda: None)

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``phxqueue ARGUMENTS`` against this cluster; returns status, output, errors."""
        command = [sys.executable, "-m", "phxqueue.admin.main", "-c", str(self.config), *arguments]
        return await run_command(self.reactor, command, self.directory)

    async def does(self, *arguments: str) -> str:
        """Run a command that has to succeed; returns its output."""
        status, output, errors = await self.run(*arguments)
        assert status == 0, _said(arguments, status, output, errors)
        return output

    async def refuses(self, *arguments: str) -> str:
        """Run a command that has to be refused, with status 1; returns all that it says."""
        status, output, errors = await self.run(*arguments)
        assert status == 1, _said(arguments, status, output, errors)
        return output + errors

    async def until(self, holds: Callable[[int, str, str], bool], *arguments: str) -> str:
        """Run a command again and again until `holds(status, output, errors)`; returns that output.

        For what a cluster comes to by itself, and for commands that look or ask once where the answer may be late. A
        test whose time is over meanwhile fails with what was said last.
        """
        last = 0, "", "(it did not end)"
        try:
            while True:
                last = await self.run(*arguments)
                if holds(*last):
                    return last[1]
                await self.pause()
        except CancelledError:
            raise AssertionError(f"time is over; {_said(arguments, *last)}") from None

    async def refused(self, role: str, node_file: Path) -> tuple[int, str]:
        """Start a daemon that must not come up; returns its exit status and everything it said."""
        child = self.child("refused", role, node_file)
        child.output.unlink(missing_ok=True)
        child.spawn()
        try:
            await child.ended().addTimeout(REFUSAL_TIMEOUT_S, self.reactor)
        except TimeoutError:
            await child.kill()
            raise AssertionError(f"it runs, although it should have refused to:\n{self.log_of(child)}") from None
        assert child.exit_status is not None, child.outcome
        return child.exit_status, self.log_of(child)

    def change(self, name: str, **fields: Any) -> Path:
        """Change fields of a file in etc/; returns its path."""
        path = self.directory / "etc" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        return path

    def log_of(self, child: Child) -> str:
        return child.output.read_text()


def _said(arguments: Sequence[str], status: int, output: str, errors: str) -> str:
    return f"phxqueue {' '.join(arguments)}: status {status}\n{output}{errors}"


async def run_command(reactor: Any, command: Sequence[str], directory: Path) -> tuple[int, str, str]:
    """Run a program to its end; returns status, output, errors. Cancelled: nothing that it has started goes on."""
    running = _Command()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = reactor.spawnProcess(running, "setsid", ["setsid", *command], environment, str(directory))
    group: int = process.pid
    try:
        status = await running.ended
    except CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        raise
    return status, running.output.decode(), running.errors.decode()


class _Command(ProcessProtocol):
    """What a program prints, and how it ends: as a shell tells it."""

    def __init__(self) -> None:
        self.output = b""
        self.errors = b""
        self.ended: Deferred[int] = Deferred()

    def outReceived(self, data: bytes) -> None:
        self.output += data

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Any) -> None:
        ending = reason.value
        if not self.ended.called:
            self.ended.callback(ending.exitCode if ending.signal is None else 128 + ending.signal)
