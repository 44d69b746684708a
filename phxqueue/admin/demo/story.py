"""What the demo shows, step by step."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import TimeoutError
from twisted.internet.task import deferLater

from phxqueue.admin.certificates import leaves, make_missing
from phxqueue.admin.clients import open_pool
from phxqueue.admin.demo.daemons import (
    Launcher,
    RunningDaemon,
    kill_daemon,
    remove_stale_pid_files,
    running_daemons,
    stop_daemons,
)
from phxqueue.admin.demo.follow import LogFollower
from phxqueue.admin.demo.layout import LOGS, RUN, DaemonPlan, DemoLayout
from phxqueue.admin.demo.owners import locked_queues
from phxqueue.admin.demo.takeover import Takeover
from phxqueue.admin.echo import ECHO_HANDLE, ECHO_PUB
from phxqueue.admin.errors import AdminError
from phxqueue.admin.gather import gather
from phxqueue.admin.histogram import duration
from phxqueue.admin.node_status import NodeReport, ask_all, master_of
from phxqueue.admin.processes.notify import NotifySocket
from phxqueue.lock.client import LockClient
from phxqueue.net.pool import ConnectionPool
from phxqueue.producer import Producer, Receipt

ECHO_LINE = "consume echo succeeded!"
#: How long the handler's line may take to appear in a log. All of these are for busy machines.
CONSUME_TIMEOUT_S = 60.0
#: The killed node has this long to be level with the others again, and somebody to be master; asked this often.
CATCH_UP_TIMEOUT_S = MASTER_TIMEOUT_S = 60.0
LOOK_S = 0.1

NEXT_STEPS = """
The cluster is running. Some things to try, after `. .venv/bin/activate`:

  phxqueue status                          nodes, masters, replicas, backlogs
  phxqueue locks list queue/               which consumer owns which queue
  phxqueue echo 'hello again'              then look into logs/consumer.*.log
  seq 1 100000 | phxqueue produce          a message a line
  phxqueue reconcile --watch 1             what was produced, stored, finished: the last column stays zero
  phxqueue bench producer 0 4 64 100       how fast is it here? (0: no limit; 4 x 64 in flight; 100 bytes)
  kill -9 $(cat run/store.1.pid)           any one of three may go at any time: store, lock, scheduler, consumer
  tail -f logs/*.log
  make demo-stop                           ends it; data/ keeps what was stored
"""


class Story:
    """One run of the demo. `say` prints a line."""

    def __init__(self, reactor: Any, layout: DemoLayout, say: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._layout = layout
        self._say = say
        self._notify = NotifySocket()
        self._launcher = Launcher(reactor, layout.directory, self._notify)
        self._running: dict[str, RunningDaemon] = {}

    async def tell(self) -> None:
        """Run the whole demo; on failure nothing of it is left running.

        Raises:
            AdminError: a demo is running here, or something did not come up.
        """
        self._refuse_second()
        began = time.monotonic()
        self._prepare()
        self._notify.listen(self._reactor)
        try:
            await self._start_all()
            await self._show()
        except BaseException:
            with suppress(OSError):  # perhaps nobody reads what we say, which is why we are here
                self._say("stopping what was started")
            await self._launcher.settled()
            directory = self._layout.directory
            await stop_daemons(self._reactor, directory, running_daemons(directory), _quiet)
            raise
        finally:
            await self._notify.close()
        self._say(f"\nThe demo took {time.monotonic() - began:.0f} s.")
        self._say(NEXT_STEPS.rstrip())

    def _refuse_second(self) -> None:
        running = running_daemons(self._layout.directory)
        if running:
            names = ", ".join(f"{daemon.name} (pid {daemon.pid})" for daemon in running)
            raise AdminError(f"a demo is running here already: {names}. `make demo-stop` ends it.")
        remove_stale_pid_files(self._layout.directory, running)

    def _prepare(self) -> None:
        for name in (RUN, LOGS):
            (self._layout.directory / name).mkdir(exist_ok=True)
        cluster = self._layout.cluster
        if cluster.certificates is None:
            self._say("TLS is off in this cluster")
            return
        made = make_missing(cluster.certificates, leaves(cluster), name=cluster.name)
        shown = os.path.relpath(cluster.certificates, self._layout.directory)
        self._say(f"certificates: {f'made {len(made)} in' if made else 'using those in'} {shown}")

    async def _start_all(self) -> None:
        counted = Counter("lock node" if plan.role == "lock" else plan.role for plan in self._layout.daemons)
        *some, last = (f"{count} {what}{'s' if count > 1 else ''}" for what, count in counted.items())
        self._say(f"starting {', '.join(some)} and {last}")
        await gather(self._start(plan) for plan in self._layout.daemons)

    async def _start(self, plan: DaemonPlan) -> None:
        began = time.monotonic()
        daemon = await self._launcher.start(plan)
        self._running[plan.name] = daemon
        took = time.monotonic() - began
        self._say(f"  {plan.name} is ready after {took:.1f} s: {plan.description}, pid {daemon.pid}")

    async def _start_again(self, plan: DaemonPlan) -> None:
        remove_stale_pid_files(self._layout.directory, self._running.values())
        await self._start(plan)

    async def _show(self) -> None:
        layout = self._layout
        pool = open_pool(self._reactor, layout.cluster, layout.topic, layout.tls)
        producer = await Producer.connect(layout.cluster, topic=layout.topic.topic_name, tls=layout.tls)
        logs = LogFollower(self._reactor, [layout.directory / plan.log_file for plan in layout.consumers])
        try:
            self._say("\nsending a message")
            await self._echo(producer, logs, "hello")
            killed = await self._kill_master(pool)
            await self._echo(producer, logs, "hello again", since=time.monotonic())
            await self._tell_master(pool)
            await self._restart(killed, pool)
            if len(layout.consumers) > 1 and locked_queues(layout.topic):
                await self._take_over(producer, logs)
        finally:
            logs.close()
            await producer.close()
            await pool.close()

    async def _take_over(self, producer: Producer, logs: LogFollower) -> None:
        layout = self._layout
        async with await LockClient.connect(
            layout.cluster, layout.topic.topic_name, layout.tls, reactor=self._reactor
        ) as locks:
            takeover = Takeover(self._reactor, layout, locks, producer, logs, self._say)
            self._say("\nevery queue has one owner, by its lock")
            plan, queues = takeover.victim(await takeover.show_owners())
            pid = self._running.pop(plan.name).pid
            self._say(f"\nkilling one of them, {plan.name}: kill -9 {pid}")
            await kill_daemon(self._reactor, pid)
            await takeover.watch(queues, time.monotonic())
            self._say(f"\nstarting {plan.name} again")
            await self._start_again(plan)
            await takeover.given_back(plan, queues)

    async def _echo(self, producer: Producer, logs: LogFollower, text: str, since: float | None = None) -> None:
        message = f"{text} {secrets.token_hex(3)}"
        began = time.monotonic() if since is None else since
        receipt: Receipt = await producer.enqueue(ECHO_PUB, ECHO_HANDLE, message.encode())
        took = duration((time.monotonic() - began) * 1e6)
        after = f"in {took}" if since is None else f"{took} after the kill"
        self._say("produce echo succeeded!")
        place = f"store {receipt.store_id}, queue {receipt.queue_id}, cursor {receipt.cursor}"
        self._say(f"  {message!r}: {place}, {after}")
        try:
            log, line = await logs.line(lambda line: ECHO_LINE in line and message in line).addTimeout(
                CONSUME_TIMEOUT_S, self._reactor
            )
        except TimeoutError:
            raise AdminError(
                f"the message was stored, but no consumer printed it within {CONSUME_TIMEOUT_S:g} s; look into "
                f"{', '.join(str(plan.log_file) for plan in self._layout.consumers)}"
            ) from None
        owner = next(plan for plan in self._layout.consumers if plan.log_file.name == log.name)
        self._say(ECHO_LINE)
        self._say(f"  {owner.name} owns queue {receipt.queue_id}; in its log: {line.strip()}")

    async def _master(self, pool: ConnectionPool) -> NodeReport:
        deadline = time.monotonic() + MASTER_TIMEOUT_S
        while True:
            # Who has taken a message may be late with this answer, or another may be elected just now.
            reports = await ask_all(pool, self._layout.topic)
            master = master_of(reports, self._layout.topic.stores[0].store_id, 0)
            if master is not None:
                return master
            if time.monotonic() > deadline:
                raise AdminError("no store says to be master; `phxqueue status` shows what they say")
            await deferLater(self._reactor, LOOK_S, lambda: None)

    async def _kill_master(self, pool: ConnectionPool) -> DaemonPlan:
        master = await self._master(pool)
        plan = self._layout.store_of_node(master.store.store_id, master.node.node_id)
        if plan is None:
            raise AdminError(f"the master {master.node.address} is not of this demo: who else is on these ports?")
        pid = self._running.pop(plan.name).pid
        self._say(f"\nthe master is {plan.name} ({plan.description}): kill -9 {pid}, and sending at once")
        await kill_daemon(self._reactor, pid)
        return plan

    async def _tell_master(self, pool: ConnectionPool) -> None:
        master = await self._master(pool)
        self._say(f"  master now: store {master.store.store_id} node {master.node.node_id}, {master.node.address}")

    async def _restart(self, plan: DaemonPlan, pool: ConnectionPool) -> None:
        self._say(f"\nstarting {plan.name} again")
        await self._start_again(plan)
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while True:
            reports = await ask_all(pool, self._layout.topic)
            master = master_of(reports, self._layout.topic.stores[0].store_id, 0)
            state = next((report.group(0) for report in reports if report.node.node_id == plan.node_id), None)
            wanted = master.group(0) if master is not None else None
            if state is not None and wanted is not None and state.applied >= wanted.applied:
                self._say(f"  {plan.name} has caught up: entry {state.applied} of {wanted.applied} is applied")
                return
            if time.monotonic() > deadline:
                raise AdminError(f"{plan.name} did not catch up within {CATCH_UP_TIMEOUT_S:g} s; see {plan.log_file}")
            await deferLater(self._reactor, LOOK_S, lambda: None)


def _quiet(_: str) -> None:
    """The end of a failed demo has one message: why."""
